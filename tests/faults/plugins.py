"""Plugins that behave, and one that does whatever it is told. A result has the `nonce` of its job."""
import os
import threading
import time
from typing import Any

from cjm_fasthtml_workers.core import context
from cjm_fasthtml_workers.core.adapters import PlainPluginManager
from cjm_fasthtml_workers.core.context import cancel_requested, report_progress


class Echo:
    "The plain job: gives back what it got."
    def __init__(self, config: dict[str, Any]): self.config = config
    def execute(self, /, **params: Any) -> dict[str, Any]: return params

class Sleeper:
    "Sleeps, and says in a file when it has begun."
    def __init__(self, config: dict[str, Any]): pass
    def execute(self, seconds: float = 60, begun: str = '', nonce: Any = None) -> dict[str, Any]:
        if begun: touch(begun)
        time.sleep(seconds)
        return {'nonce': nonce}

class Polite:
    "Works in small steps, and stops when it is asked to."
    def __init__(self, config: dict[str, Any]): pass
    def execute(self, seconds: float = 60, nonce: Any = None) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not cancel_requested(): time.sleep(.005)
        return {'nonce': nonce}

class Streamer:
    "Streams `n` chunks (None: no end) with pauses between them."
    def __init__(self, config: dict[str, Any]): pass
    def execute(self, **params: Any) -> Any: return ''.join(self.execute_stream(**params))
    def execute_stream(self, n: int | None = 10, size: int = 8, pause: float = 0, nonce: Any = None) -> Any:
        i = 0
        while n is None or i < n:
            yield f'{i}'.ljust(size, '.')
            i += 1
            if pause: time.sleep(pause)
        return {'nonce': nonce, 'n': i}

class Pid:
    "Who runs this, and with which configuration."
    def __init__(self, config: dict[str, Any]): self.config = config
    def execute(self, nonce: Any = None) -> dict[str, Any]:
        report_progress(.5, 'half')
        return {'nonce': nonce, 'pid': os.getpid(), 'config': self.config}

class Act:
    "Runs Python text, given as a parameter: what it puts in `result` is the result."
    def __init__(self, config: dict[str, Any]): exec(config.get('init', ''), {'config': config, 'os': os, 'time': time})
    def execute(self, code: str, **params: Any) -> Any:
        names: dict[str, Any] = {'result': {'nonce': params.get('nonce')}, 'os': os, 'time': time, **params}
        exec(code, names)
        return names['result']

class Do(Act):
    "The same, as a stream: the text may define `stream()`, a generator."
    def execute_stream(self, code: str, **params: Any) -> Any:
        names: dict[str, Any] = {'result': {'nonce': params.get('nonce')}, 'os': os, 'time': time, **params}
        exec(code, names)
        if 'stream' in names: yield from names['stream']()
        return names['result']

class Mark:
    "Notes in a file what it does, and when: that it was loaded or unloaded, and which job it begins and ends."
    def __init__(self, config: dict[str, Any]):
        exec(config.get('init', ''), {'os': os, 'time': time})
        self.fd = os.open(config['file'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.version = config.get('version', 0)
        self.note('loads')
    def note(self, what: str, n: int = -1) -> None:
        line = f'{what} {n} {os.getpid()} {time.monotonic_ns()} {time.time_ns()} {self.version}\n'
        os.write(self.fd, line.encode())
    def execute(self, n: int, code: str = '', nonce: Any = None, **params: Any) -> dict[str, Any]:
        self.note('begins', n)
        if code: exec(code, {'os': os, 'time': time, **params})
        self.note('ends', n)
        return {'nonce': nonce, 'n': n}
    def unload(self) -> None:
        self.note('unloads')
        os.close(self.fd)

class Flow(Mark):
    "The same, with chunks between begin and end."
    def execute_stream(self, n: int, chunks: int = 5, pause: float = 0, nonce: Any = None, **params: Any) -> Any:
        self.note('begins', n)
        for i in range(chunks):
            yield f'{n}.{i} '
            if pause: time.sleep(pause)
        self.note('ends', n)
        return {'nonce': nonce, 'n': n}

# ---- Values that misbehave when they are pickled or rebuilt

class Trap:
    "Runs `dump` when it is pickled and `load` when it is rebuilt (Python text; `in_worker` tells where)."
    def __init__(self, dump: str = "", load: str = ""): self.dump, self.load = dump, load
    def __reduce__(self) -> Any:
        spring(self.dump)
        return rebuild, (self.dump, self.load)

def rebuild(dump: str, load: str) -> Trap:
    spring(load)
    return Trap(dump, load)

def spring(code: str) -> None: exec(code, {'in_worker': context.in_worker, 'os': os, 'time': time})

class UnpicklableError(Exception):
    def __init__(self, a: int, b: int):   # rebuilding it from its args fails
        super().__init__(f'{a} and {b}')
        self.lock = threading.Lock()

class UnprintableError(Exception):
    def __str__(self) -> str: raise SystemExit(3)
    __repr__ = __str__

class NoTextError(Exception):
    def __str__(self) -> str: return 7  # type: ignore

class OwnBase(BaseException): pass

# ---- Plugin managers whose building fails while a file is there

class Factory(PlainPluginManager):
    "Runs Python text at its building, or at discovery, if `flag` exists."
    def __init__(self, plugins: Any, flag: str, where: str, code: str):
        self.flag, self.where, self.code = flag, where, code
        self.spring('factory')
        super().__init__(plugins)
    def spring(self, where: str) -> None:
        if where == self.where and os.path.exists(self.flag): spring(self.code)
    def discover_plugins(self) -> list:
        self.spring('discovery')
        return super().discover_plugins()
    def load_plugin(self, plugin_data: Any, config: Any) -> None:
        self.spring('load')
        super().load_plugin(plugin_data, config)

def touch(path: str) -> None:
    with open(path, 'w'): pass

# ---- A worker function of the app's own, that answers as it is told

def own_worker(requests: Any, results: Any, responses: Any) -> None:
    while True:
        r = requests.get()
        if r['type'] == 'stop': return
        if r['type'] == 'init': responses.put({'type': 'ready', 'pid': os.getpid(), 'loaded': ['echo']})
        if r['type'] != 'execute': continue
        params = r['params'].open() if hasattr(r['params'], 'open') else r['params']
        answer = {'type': 'result', 'job_id': r['job_id'], 'status': 'success', 'data': params}
        if 'code' in params:
            names = {'answer': answer, 'results': results, 'responses': responses, 'os': os, 'Trap': Trap}
            exec(params['code'], names)
            answer = names['answer']
        if answer is not None: results.put(answer)
