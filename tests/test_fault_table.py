"The table of faults names every fault test, names none that is not there, and its page is made from it."
import ast
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.table import CAMPAIGNS, GROUPS, OPTIONS, ROWS
from tools import faults

FOLDER = faults.ROOT/faults.HOME
TEST_FILES = sorted(FOLDER.glob('test_*.py'))
NAMED = {test for row in ROWS for test in row.tests}

def test_each_test_that_is_named_is_there():
    for test in NAMED:
        place = faults.find(test)
        name, lines = test.partition('::')[2], (faults.ROOT/place.file).read_text(encoding='utf-8').splitlines()
        first, rest = lines[place.line - 1], lines[place.line - 1:]
        assert re.match(rf'@pytest|(async )?def ({name}|case_\w+)\(', first), f'{test}: {first}'
        assert any(line.startswith(f'def {name}(') for line in rest), test
    with pytest.raises(LookupError): faults.find('test_cancel::test_nobody')
    with pytest.raises(LookupError): faults.find('test_nowhere::test_one_of_many')

def test_each_fault_test_is_named():
    there = {f'{f.stem}::{name}' for f in TEST_FILES for name in faults.tests_of(f)}
    assert len(there) > 100
    assert not there - NAMED, 'a test without a row in tests/faults/table.py'

def test_rows_say_something():
    for row in ROWS:
        assert row.group in GROUPS and row.tests and len(set(row.tests)) == len(row.tests), row
        for text in (row.fault, row.seen): assert text.strip() == text and text.endswith('.') and '\n' not in text, row
    assert not [fault for fault, n in Counter((r.group, r.fault) for r in ROWS).items() if n > 1]
    assert {row.group for row in ROWS} == set(GROUPS)

def options_read() -> Iterator[tuple[str, str]]:
    "The variables that the fault tests read from the environment, with their defaults."
    for file in FOLDER.glob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != 'os.environ.get': continue
            name, *default = node.args
            if not isinstance(name, ast.Constant) or not name.value.startswith('FAULTS_'): continue
            if not default: yield name.value, 'unset'
            else: yield name.value, str(default[0].value) if isinstance(default[0], ast.Constant) else 'the time'

def test_options_are_those_that_are_read():
    assert dict(options_read()) == {o.name: o.default for o in OPTIONS}
    assert len(set(options_read())) == len(OPTIONS), 'one variable, two defaults'

def test_campaigns_can_be_run():
    known = {o.name for o in OPTIONS}
    for command in CAMPAIGNS:
        words = shlex.split(command)
        settings = [w.partition('=')[0] for w in words if re.match(r'\w+=', w)]
        where = next(w for w in words if w.startswith('tests'))
        assert settings and set(settings) <= known and (faults.ROOT/where).exists(), command
        parts = words[words.index('-k') + 1].split(' or ') if '-k' in words else []
        for part in parts: assert any(part in name for name in NAMED), command

def test_page_is_in_step():
    page = (faults.ROOT/faults.PAGE).read_text(encoding='utf-8')
    assert page == faults.page(), 'run `make prepare`'
    links = re.findall(r'\]\(([^)]+)\)', page)
    assert len(links) > len(ROWS)
    for link in set(links): assert (FOLDER/link).is_file(), link

def test_the_site_links_to_lines():
    page, files = faults.page(faults.site_link), faults.files()
    assert '](' not in page and 'href="../../source/tests/test_lifespan.html#__codelineno-0-' in page
    for test in NAMED:
        file, line = faults.find(test)
        assert file in files
        target = os.path.normpath(f'x/y/../../source/{file.with_suffix(".html")}')
        assert f'{target}#__codelineno-0-{line}">{faults.words(test)}</a>' in page, test
