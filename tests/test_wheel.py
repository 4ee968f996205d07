"The wheel is whole: every subpackage, the stubs and `py.typed`, its requirements; and it works where nothing else is."
import configparser
import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.check import copy_tree

PACKAGE = 'cjm_fasthtml_workers'
IMPORT_ALL = f'''
import importlib, pkgutil, sys
import {PACKAGE} as package
names = [m.name for m in pkgutil.walk_packages(package.__path__, "{PACKAGE}.")]
for name in names:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.prefix), module.__file__
print(*names)
'''

def run(*cmd: str | Path, cwd: Path) -> str:
    r = subprocess.run([str(c) for c in cmd], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 0, f'{cmd}\n{r.stdout}{r.stderr}'
    return r.stdout

def requirements(tree: Path) -> dict[str, list[str]]:
    "The lists of requirements in settings.ini: what is always needed as '', each extra by its name"
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(tree/'settings.ini', encoding='utf-8')
    lists = {k.removesuffix('requirements').rstrip('_'): v for k, v in ini['DEFAULT'].items()}
    return {k: v.split() for k, v in lists.items() if k != 'lib_name'}

def build(what: Path, dest: Path) -> Path:
    "A wheel, built without the network"
    pip = [sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps', '--no-index', '--quiet']
    run(*pip, '-w', dest, what, cwd=dest)
    return next(dest.glob('*.whl'))

def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as z: return {n: z.read(n) for n in z.namelist()}

@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    return copy_tree(tmp_path_factory.mktemp('wheel')/'tree')

@pytest.fixture(scope='module')
def wheel(tree) -> Path: return build(tree, tree.parent)

def test_files(wheel, tree):
    "What lies in the package lies in the wheel, and nothing else but what says what it is"
    there = {p.relative_to(tree).as_posix() for p in (tree/PACKAGE).rglob('*') if p.suffix in ('.py', '.pyi', '.typed')}
    names = set(contents(wheel))
    found = {n for n in names if '.dist-info/' not in n}
    assert found == there
    assert f'{PACKAGE}/py.typed' in found
    assert {n.rpartition('/')[0] + '/__init__.py' for n in found} <= found, 'a folder without __init__.py'
    assert [n for n in names if n.endswith('/LICENSE')]

def test_stubs_are_there(wheel):
    "Each module with `@patch` has its stub in the wheel"
    files = contents(wheel)
    patched = {n for n, content in files.items() if n.endswith('.py') and b'\n@patch' in content}
    assert {n + 'i' for n in patched} <= set(files)

def test_metadata(wheel, tree):
    "The requirements of settings.ini, and what the package index shows"
    text = next(content for n, content in contents(wheel).items() if n.endswith('.dist-info/METADATA')).decode()
    meta = Parser().parsestr(text)
    reqs = [Requirement(r) for r in meta.get_all('Requires-Dist')]
    for extra, wanted in requirements(tree).items():
        mine = {r.name for r in reqs if (r.marker.evaluate({'extra': extra}) if r.marker else not extra)}
        assert wanted and mine == {Requirement(r).name for r in wanted}
    assert {'', 'dev'} <= set(requirements(tree))
    assert meta['Version'] in wheel.name and meta['Requires-Python'] == '>=3.11'
    assert meta['License-Expression'] == 'Apache-2.0' and meta.get_payload().startswith('# ')

def closure(names: list[str]) -> set[str]:
    "The installed distributions that these requirements, and theirs in turn, ask for; no others"
    todo, found = [Requirement(n) for n in names], set()
    while todo:
        r = todo.pop()
        key = (r.name.lower().replace('_', '-'), frozenset(r.extras))
        if key in found: continue
        found.add(key)
        for text in importlib.metadata.requires(r.name) or []:
            dep = Requirement(text)
            if not dep.marker or any(dep.marker.evaluate({'extra': e}) for e in ('', *r.extras)): todo.append(dep)
    return {name for name, _ in found}

@pytest.mark.limit(120)
def test_works_in_an_empty_environment(wheel, tree, tmp_path):
    """Installed where only its requirements are, every module can be imported. The requirements are not downloaded
    again but linked from here, exactly those that METADATA asks for: a forgotten one is missing there."""
    env, outside = tmp_path/'env', tmp_path/'outside'
    outside.mkdir()
    venv.create(env, symlinks=True, with_pip=False)
    python = env/'bin'/'python'
    pip = [sys.executable, '-m', 'pip', '--python', python]
    run(*pip, 'install', '--no-deps', '--no-index', '--quiet', wheel, cwd=outside)
    site = next((env/'lib').glob('python*/site-packages'))
    for name in closure(requirements(tree)['']):
        dist = importlib.metadata.distribution(name)
        for top in {f.parts[0] for f in dist.files or [] if f.parts[0] not in ('..', '__pycache__')}:
            if not (site/top).exists(): (site/top).symlink_to(Path(str(dist.locate_file(top))))
    run(*pip, 'check', cwd=outside)
    assert not (site/'nbdev').exists() and not (site/'pytest').exists(), 'not an empty environment'
    names = run(python, '-I', '-c', IMPORT_ALL, cwd=outside).split()
    modules = {'.'.join(p.relative_to(tree).with_suffix('').parts) for p in (tree/PACKAGE).rglob('*.py')}
    assert set(names) == {m.removesuffix('.__init__') for m in modules} - {PACKAGE}

def test_source_archive_builds_the_same_wheel(wheel, tree, tmp_path):
    "What is uploaded as source holds settings.ini, without which there would be no requirements"
    run(sys.executable, '-c', 'import setuptools.build_meta as b; b.build_sdist("dist")', cwd=tree)
    again = build(next((tree/'dist').glob('*.tar.gz')), tmp_path)
    assert contents(again) == contents(wheel)
