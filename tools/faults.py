"""The page on what goes wrong, what one sees then, and which test brings it about, from tests/faults/table.py.

    python -m tools.faults   # -> tests/faults/README.md
"""
import ast
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.table import CAMPAIGNS, GROUPS, OPTIONS, ROWS, Row

ROOT = Path(__file__).resolve().parent.parent
HOME = Path('tests/faults')
PAGE = (HOME/'README.md').as_posix()

INTRO = '''# What it survives

> What may go wrong, what you see then, and the test that brings it about.

Words such as `failed`, `worker_crashed` are `job.status` and `job.fault`. Each row names its tests, with
spaces: 'one of many' is `test_one_of_many`. They say how often a thing is tried, and in which variants.

This page is made from {table} by `make prepare`. Nobody edits it.

## What holds after every case

Whatever a case does to a manager, these eight things are looked at when it is over:

1. Each job that was accepted has ended, in time.
2. An end never changes, and is told exactly once.
3. A result belongs to its own job: each job is given a word of its own, and gives it back.
4. The next three plain jobs complete.
5. The event loop never stood still for a quarter of a second: a ticker looks every 5 ms. Where the case itself blocks
   the loop, it may be longer.
6. There are no more children, threads, descriptors and `/dev/shm` entries than before.
7. Everybody who waited for a job, or read its stream, woke up.
8. Nothing is on stderr but our own log lines.

Where a whole app is the case, and is killed or ends by itself, nobody is left to ask for three more jobs. There the
test looks from outside: at the exit code, at stderr, and for every process that the app had started.

## How to run them

Each case is a process of its own, with a manager and real workers. A watchdog ends it when it hangs, and shows the
stacks of all its threads. On Linux it is a fork of a process that has imported what all cases need: most of the time of
a start is saved.

```sh
make test ARGS="tests/faults"                                 # after the lessons
.venv/bin/python -m pytest tests/faults -k "stuck or race"    # some of them
```

Variables in the environment change what is done:

{options}

Longer campaigns take some minutes each:

```sh
{campaigns}
```'''

class Place(NamedTuple):
    file: Path   # seen from the root
    line: int | None = None

@functools.cache
def tests_of(file: Path) -> dict[str, int]:
    "The test functions of a file, with the line where one begins to read: the first of its case, if that has a name."
    body = ast.parse((ROOT/file).read_text(encoding='utf-8')).body
    functions = {f.name: f for f in body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}
    def begin(f: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        used = {n.id for n in ast.walk(f) if isinstance(n, ast.Name) and n.id.startswith('case_')} & functions.keys()
        return min([functions[n].lineno for n in used] or [f.lineno, *(d.lineno for d in f.decorator_list)])
    return {name: begin(f) for name, f in functions.items() if name.startswith('test_')}

def find(test: str) -> Place:
    "Where 'test_cancel::test_one_of_many' is; `LookupError` if nowhere."
    module, _, name = test.partition('::')
    for folder in (HOME, HOME.parent):
        file = folder/f'{module}.py'
        if (ROOT/file).exists() and name in (tests := tests_of(file)): return Place(file, tests[name])
    raise LookupError(f'there is no test {test!r}')

def files() -> list[Path]:
    "All that the page links to."
    return sorted({HOME/'table.py', *(find(t).file for r in ROWS for t in r.tests)})

Link = Callable[[str, Place], str]   # text, where to

def repository_link(text: str, place: Place) -> str:
    "To the file only: with lines in it the page would change with every change of a test."
    return f'[{text}]({os.path.relpath(place.file, HOME)})'

def site_link(text: str, place: Place) -> str:
    "To the line, on the page that shows the file."
    up, page = '../' * len(HOME.parts), f'source/{place.file.with_suffix(".html").as_posix()}'
    anchor = f'#__codelineno-0-{place.line}' if place.line else ''
    return f'<a href="{up}{page}{anchor}">{text}</a>'

def code(text: str, link: Link) -> str: return f'<code>{text}</code>' if link is site_link else f'`{text}`'

def words(test: str) -> str:
    "'one of many' for 'test_cancel::test_one_of_many': a column of names with underscores is wider than the page."
    return test.partition('::test_')[2].replace('_', ' ')

def table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = ['| ' + ' | '.join(cell.replace('|', '&#124;') for cell in row) + ' |' for row in rows]
    return '\n'.join([head, '|' + '---|' * (head.count('|') - 1), *lines])

def group(name: str, link: Link) -> str:
    def tests(row: Row) -> str:
        return ',<br>'.join(link(words(t), find(t)) for t in row.tests)
    rows = [(r.fault, r.seen, tests(r)) for r in ROWS if r.group == name]
    return f'## {name}\n\n{GROUPS[name]}\n\n' + table('| what goes wrong | what you see | test |', rows)

def page(link: Link = repository_link) -> str:
    options = table('| variable | default | what it does |', [(f'`{o.name}`', o.default, o.what) for o in OPTIONS])
    source = link(code('table.py', link), Place(HOME/'table.py'))
    intro = INTRO.format(table=source, options=options, campaigns='\n'.join(CAMPAIGNS))
    return '\n\n'.join([intro, *(group(name, link) for name in GROUPS)]) + '\n'

if __name__ == '__main__': (ROOT/PAGE).write_text(page(), encoding='utf-8')
