"What the stub files under `seed_api/` promise is what the package has: nothing removed, renamed or reordered."
import ast
import dataclasses
import enum
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE = 'cjm_fasthtml_workers'
STUBS = Path(__file__).parent/'seed_api'
KINDS = inspect.Parameter
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef

def promises() -> Iterator[Any]:
    "One test case for each statement of each stub file"
    for file in sorted(STUBS.rglob('*.pyi')):
        module = '.'.join([PACKAGE, *file.relative_to(STUBS).with_suffix('').parts])
        for node in ast.parse(file.read_text()).body:
            label = getattr(node, 'name', None) or ast.unparse(node)
            yield pytest.param(module, node, id=f"{module.removeprefix(PACKAGE + '.')}: {label}")

@pytest.mark.parametrize('module, node', list(promises()))
def test_promise_is_kept(module: str, node: ast.stmt) -> None:
    CHECKS[type(node)](importlib.import_module(module), node)

def check_import(module: Any, node: ast.ImportFrom) -> None:
    "One of the arrows between the modules; the package's own imports are relative"
    wanted = {f'{node.module}.{a.name}' for a in node.names}
    found = set()
    for got in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(got, ast.ImportFrom): continue
        home = '.'.join(module.__name__.split('.')[:-got.level] + [got.module or '']) if got.level else got.module
        found |= {home, *(f'{home}.{a.name}' for a in got.names)}
    assert wanted <= found

def check_name(module: Any, node: ast.AnnAssign) -> None:
    assert hasattr(module, ast.unparse(node.target))

def check_function(owner: Any, node: FUNCTIONS) -> None:
    found = inspect.getattr_static(owner, node.name)
    decorators = {ast.unparse(d) for d in node.decorator_list}
    assert isinstance(found, classmethod) == ('classmethod' in decorators)
    if 'abstractmethod' in decorators: assert node.name in owner.__abstractmethods__
    function = inspect.unwrap(getattr(found, '__func__', found))
    assert inspect.iscoroutinefunction(function) == isinstance(node, ast.AsyncFunctionDef)
    check_parameters(node, list(inspect.signature(function).parameters.values()))

def check_parameters(node: FUNCTIONS, found: list[inspect.Parameter]) -> None:
    args = node.args
    assert not (args.posonlyargs or args.kwonlyargs or args.vararg), "no promise has these"
    defaults = [None] * (len(args.args) - len(args.defaults)) + args.defaults
    for want, default, got in zip(args.args, defaults, found, strict=False):
        assert got.name == want.arg
        assert got.kind is KINDS.POSITIONAL_OR_KEYWORD or (got.name, got.kind) == ('self', KINDS.POSITIONAL_ONLY)
        assert shown(got.default) == (KINDS.empty if default is None else ast.unparse(default))
    assert len(found) >= len(args.args)
    ours = found[len(args.args):]
    assert any(p.kind is KINDS.VAR_KEYWORD for p in ours) == (args.kwarg is not None)
    if args.kwarg: assert ours.pop().name == args.kwarg.arg
    for p in ours:
        assert p.default is not KINDS.empty, f"{p.name} was added and has no default"
        if args.kwarg: assert p.kind is KINDS.KEYWORD_ONLY

def check_class(module: Any, node: ast.ClassDef) -> None:
    found = getattr(module, node.name)
    assert inspect.isclass(found)
    decorators, bases = ({ast.unparse(d) for d in nodes} for nodes in (node.decorator_list, node.bases))
    assert dataclasses.is_dataclass(found) == ('dataclass' in decorators)
    assert issubclass(found, enum.Enum) == ('Enum' in bases)
    assert getattr(found, '_is_protocol', False) == ('Protocol' in bases)
    if 'dataclass' in decorators: check_fields(found, node)
    for member in node.body:
        if isinstance(member, FUNCTIONS): check_function(found, member)
        elif 'Enum' in bases and isinstance(member, ast.AnnAssign):
            assert ast.unparse(member.target) in found.__members__

def check_fields(found: Any, node: ast.ClassDef) -> None:
    promised = [m for m in node.body if isinstance(m, ast.AnnAssign)]
    fields = [f for f in dataclasses.fields(found) if f.init]
    got = [(f.name, field_default(f)) for f in fields]
    want = [(ast.unparse(m.target), ast.unparse(m.value) if m.value else None) for m in promised]
    assert got[:len(want)] == want
    assert all(default is not None and not f.kw_only for f, (_, default) in zip(fields, got, strict=True)
               if f.name not in dict(want))

def field_default(f: dataclasses.Field) -> str | None:
    if f.default_factory is not dataclasses.MISSING: return 'field(...)'
    return None if f.default is dataclasses.MISSING else shown(f.default)

def shown(value: Any) -> Any:
    "A default as a stub writes it"
    if value is KINDS.empty: return value
    if isinstance(value, str): return repr(str(value))   # also a member of a StrEnum
    return str(value) if isinstance(value, enum.Enum) else repr(value)

CHECKS = {ast.ImportFrom: check_import, ast.AnnAssign: check_name, ast.ClassDef: check_class,
          ast.FunctionDef: check_function, ast.AsyncFunctionDef: check_function}

# The comparison itself: each of these breaks a promise, and must be seen to.
BROKEN = {
    'removed': ('def f(a, b=1): ...', 'def f(a): ...'),
    'renamed': ('def f(a, b=1): ...', 'def f(a, c=1): ...'),
    'reordered': ('def f(a, b): ...', 'def f(b, a): ...'),
    'another default': ('def f(a, b=1): ...', 'def f(a, b=2): ...'),
    'a default less': ('def f(a, b=1): ...', 'def f(a, b): ...'),
    'one more that is required': ('def f(a): ...', 'def f(a, b): ...'),
    'positional only': ('def f(a, b=1): ...', 'def f(a, /, b=1): ...'),
    'keyword only': ('def f(a, b=1): ...', 'def f(a, *, b=1): ...'),
    'no coroutine any more': ('async def f(a): ...', 'def f(a): ...'),
    'a coroutine now': ('def f(a): ...', 'async def f(a): ...'),
    'no **kwargs any more': ('def f(a, **kwargs): ...', 'def f(a): ...'),
    'one more before **kwargs': ('def f(a, **kwargs): ...', 'def f(a, b=1, **kwargs): ...'),
    'a field less': ('@dataclass\nclass f:\n    a: int\n    b: int = 1', '@dataclass\nclass f:\n    a: int'),
    'fields reordered': ('@dataclass\nclass f:\n    a: int = 1\n    b: int = 1',
                         '@dataclass\nclass f:\n    b: int = 1\n    a: int = 1'),
    'a field in between': ('@dataclass\nclass f:\n    a: int = 1\n    b: int = 1',
                           '@dataclass\nclass f:\n    a: int = 1\n    c: int = 1\n    b: int = 1'),
    'a required field': ('@dataclass\nclass f:\n    a: int', '@dataclass\nclass f:\n    a: int\n    b: int'),
    'a method less': ('class f:\n    def g(self): ...', 'class f: ...'),
    'no dataclass any more': ('@dataclass\nclass f:\n    a: int', 'class f:\n    def __init__(self, a): ...'),
    'no Protocol any more': ('class f(Protocol):\n    def g(self): ...', 'class f:\n    def g(self): ...'),
    'not abstract': ('class f:\n    @abstractmethod\n    def g(self): ...', 'class f(ABC):\n    def g(self): ...'),
    'a member less': ('class f(Enum):\n    A: ...', 'class f(Enum):\n    B = 1'),
}

class Made:
    "A module made of a few lines"
    def __init__(self, source: str):
        import abc
        import typing
        space = {'dataclass': dataclasses.dataclass, 'Enum': enum.Enum, 'Protocol': typing.Protocol,
                 'ABC': abc.ABC, 'abstractmethod': abc.abstractmethod, '__name__': 'made'}
        exec(source, space)
        self.f = space['f']

@pytest.mark.parametrize('promise, made', BROKEN.values(), ids=BROKEN)
def test_broken_promise_is_seen(promise: str, made: str) -> None:
    node = ast.parse(promise).body[0]
    with pytest.raises((AssertionError, AttributeError)): CHECKS[type(node)](Made(made), node)

KEPT = {
    'the same': ('def f(a, b=1): ...', 'def f(a, b=1): ...'),
    'self is positional only': ('class f:\n    def g(self, a): ...', 'class f:\n    def g(self, /, a): ...'),
    'one more with a default': ('def f(a): ...', 'def f(a, *, b=1): ...'),
    'one more beside **kwargs': ('def f(a, **kwargs): ...', 'def f(a, *, b=1, **kwargs): ...'),
    'a trailing field': ('@dataclass\nclass f:\n    a: int = 1',
                         '@dataclass\nclass f:\n    a: int = 1\n    b: int = 2'),
    'one more method': ('class f:\n    def g(self): ...', 'class f:\n    def g(self): ...\n    def h(self): ...'),
}

@pytest.mark.parametrize('promise, made', KEPT.values(), ids=KEPT)
def test_addition_is_allowed(promise: str, made: str) -> None:
    node = ast.parse(promise).body[0]
    CHECKS[type(node)](Made(made), node)
