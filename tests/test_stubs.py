"The stub generator: whatever `@patch` can add, type checkers see, with its exact signature."
import ast
import subprocess
import sys
import textwrap

import pytest

from tools.stubs import StubError, bring_home, is_patched, stub

AWKWARD = '''
"""A module with everything awkward."""
__all__ = ["A", "B", "fetch"]

import asyncio, threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import overload

from fastcore.basics import patch, patch_to

@dataclass
class Point:
    "A point"
    x: int = 0
    tags: list[str] = field(default_factory=list)

class A(ABC):
    "The class that grows"
    limit: int = 3

    def __init__(self, name: str, size: int | None = None, *, point: Point | None = None):
        self.name = name
        self.size, self._both = size, 1
        self.point = point or Point()
        self.jobs: dict[str, list[int]] = {}
        self.done = False
        self.event = threading.Event()
        self._loop = asyncio.get_running_loop()

    @abstractmethod
    def create(self, key: str, /, **kwargs: int) -> Point: ...
    def replaced(self) -> str: return "old"

class B: pass
class C: "only words"

@patch
async def fetch(self:A, key: str, /, other: int = 1, *rest: bytes, retries: int = 2, **more: float) -> list[Point]:
    "Get it"
    def inner():
        yield 1
    return []

@patch
async def stream(self:A, n: int = 3) -> AsyncIterator[str]:
    "Text by text"
    for i in range(n): yield str(i)

@patch
@asynccontextmanager
async def session(self:A) -> AsyncIterator[int]:
    self.session_id: int = 7
    yield self.session_id

@patch(as_prop=True)
def total(self:A) -> int:   # a comment stays
    "A property"
    return self.missing_is_an_error_here_if_unseen if False else len(self.jobs)

@patch(set_prop=True)
def total(self:A, v: int) -> None: self.done = bool(v)

@patch(cls_method=True)
def make(cls:A, name: str = "n") -> "A": return cls(name)

@patch(static_method=True)
def add(a:B, b: int) -> int: return b

@patch
def replaced(self: A) -> int: return 1

@patch
def both(self:B|C, é: str = "ä") -> str:
    return é

@patch(nm="renamed")
def _other_name(self:"B") -> None:
    """Many

    lines"""

@patch_to(A)   # `patch` sees no class on a positional-only `self`
async def submit(self, /, key: str, **self_too: int) -> bool: return True

@overload
def pick(x: int) -> int: ...
@overload
def pick(x: str) -> str: ...
def pick(x):
    return x

async def numbers() -> AsyncIterator[int]:
    while True: yield 1

if True:
    def when() -> int: return 1
else:
    def when() -> int: return 2
'''

CONSUMER = '''
import awkward
from awkward import A, B, C, Point, numbers, pick

class Mine(A):
    def create(self, key: str, /, **kwargs: int) -> Point: return Point(len(key))

async def use() -> None:
    a = Mine("n", point=Point(1))
    reveal_type(await a.fetch("k", 2, b"", retries=3, extra=1.5))
    async for s in a.stream(): reveal_type(s)
    async with a.session() as i: reveal_type(i)
    reveal_type(a.total)
    a.total = 3
    reveal_type(A.make("x"))
    reveal_type(B.add(B(), 2))
    reveal_type(a.replaced())
    reveal_type(B().both("x") + C().both())
    reveal_type(B().renamed)
    reveal_type(await a.submit("k", self=3))
    reveal_type(pick(1))
    reveal_type(pick("x"))
    async for n in numbers(): reveal_type(n)
    reveal_type(a.name)
    reveal_type(a.size)
    reveal_type(a.point)
    reveal_type(a.jobs)
    reveal_type(a.done)
    reveal_type(a.event)
    reveal_type(a.session_id)
    reveal_type(a.limit)
    reveal_type(awkward.when())

async def misuse(a: A) -> None:
    a.fetch(key="k")                # error: positional only
    await a.fetch("k", retries="x") # error: wrong type
    a.nothing                       # error: no such attribute
    A("n")                          # error: abstract
'''

REVEALED = ['list[awkward.Point]', 'str', 'int', 'int', 'awkward.A', 'int', 'int', 'str', 'def ()', 'bool',
            'int', 'str', 'int', 'str', 'int | None', 'awkward.Point', 'dict[str, list[int]]', 'bool',
            'threading.Event', 'int', 'int', 'int']

@pytest.fixture(scope='module')
def consumer(tmp_path_factory):
    "What mypy says of the consumer, line by line, as `(line number, message)`"
    d = tmp_path_factory.mktemp('stubs')
    (d/'awkward.pyi').write_text(stub(AWKWARD))
    (d/'consumer.py').write_text(CONSUMER)
    cmd = [sys.executable, '-m', 'mypy', '--strict', '--python-version', '3.11', '--cache-dir', str(d/'cache'),
           '--disable-error-code=import-untyped', '--hide-error-context', 'consumer.py']
    r = subprocess.run(cmd, cwd=d, capture_output=True, text=True)
    assert not r.stderr, r.stderr
    return r.stdout.splitlines()

def test_every_signature_and_attribute_is_seen(consumer):
    seen = [line.split('Revealed type is ')[1].strip('"') for line in consumer if 'Revealed type is' in line]
    assert [s.replace('builtins.', '') for s in seen] == REVEALED

def test_wrong_uses_are_seen(consumer):
    "Every line that says `# error`, and no other"
    wanted = {i for i, line in enumerate(CONSUMER.splitlines(), 1) if '# error' in line}
    errors = {int(line.split(':')[1]): line for line in consumer if ': error:' in line}
    assert set(errors) == wanted, '\n'.join(errors.values())
    assert not [line for line in consumer if line.startswith('awkward')]

def test_bodies_move_home_with_their_line_numbers():
    "Run as Python, the moved text makes the same classes; and each line still knows where it came from"
    lines, source = bring_home(AWKWARD), AWKWARD.splitlines()
    tree = ast.parse('\n'.join(line.text for line in lines))
    methods = {c.name: [f.name for f in c.body if hasattr(f, 'name')] for c in tree.body if isinstance(c, ast.ClassDef)}
    assert methods['A'] == '__init__ create fetch stream session total total make replaced submit'.split()
    assert methods['B'] == ['add', 'both', 'renamed'] and methods['C'] == ['both']
    for text in ['return self.missing_is', 'for i in range(n)', 'class B', 'return é']:
        moved = [line for line in lines if text in line.text]
        assert moved and all(text in source[line.number-1] for line in moved)
    assert '# a comment stays' in '\n'.join(line.text for line in lines)

@pytest.mark.parametrize('code, words', [
    ('class A:\n    def __init__(self): self.jobs = {}', 'say the type of A.jobs'),
    ('from os import PathLike\n@patch\ndef f(self:PathLike): pass', 'PathLike, a class of another module'),
    ('class A: pass\n@patch\ndef f(self): pass', 'needs a class on the first parameter'),
])
def test_what_no_stub_can_say_is_an_error(code, words):
    with pytest.raises(StubError, match=words): stub(code)

def test_only_modules_with_patch_get_one():
    assert is_patched('class A: pass\n@patch(as_prop=True)\ndef f(self:A): pass')
    assert not is_patched(textwrap.dedent('"about @patch"\ndef f(): pass'))
