"What the doubles have in common: a lock, a list of calls, and no patience."
import threading
from typing import Any

complaints: list[str] = []   # a manager logs what a partner raises and goes on: so a test must look here

def complain(text: str) -> None:
    complaints.append(text)
    raise AssertionError(text)

class Strict:
    "Complains loudly about a name that it does not have, also to `getattr` with a default"
    def __init__(self, failing: tuple[str, ...] = ()):
        self.calls: list[tuple[str, dict[str, Any]]] = []   # name, arguments
        self.failing = failing   # methods that raise
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'): raise AttributeError(name)
        complain(f'{type(self).__name__} has no {name}: it is not in the Protocol')

    def note(self, name: str, **arguments: Any) -> None:
        with self.lock: self.calls.append((name, arguments))
        if name in self.failing: raise RuntimeError(f'{name} fails')

    def named(self, name: str) -> list[dict[str, Any]]:
        "The arguments of each call of `name` so far"
        with self.lock: return [arguments for n, arguments in self.calls if n == name]

def expect(what: str, value: Any, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool): complain(f'{what} is {value!r}')
