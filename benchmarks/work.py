"""The work that every system is given. It runs in the workers, so nothing but the standard library is imported."""
import ctypes
import importlib
import os
import signal
import time
from collections.abc import Iterator
from functools import cache
from typing import Any


class Echo:
    "Gives back what it got."
    def __init__(self, config): pass
    def execute(self, **params): return params


class Double:
    "A result that can be checked."
    def __init__(self, config): pass
    def execute(self, n): return {'n': 2 * n}


class Length:
    "Looks at what it got, and gives back next to nothing."
    def __init__(self, config): pass
    def execute(self, data): return {'length': len(data)}


class Make:
    "A result of 1 MB: one large thing, or many small ones, as a transcript has them."
    def __init__(self, config): pass

    def execute(self, what):
        if what == 'bytes': return {'data': bytes(10**6)}
        return {'words': [{'word': f'w{i:05}', 'start': i / 3, 'end': i / 3 + 0.1} for i in range(27_000)]}


class Spin:
    "Uses the processor for so long."
    def __init__(self, config): pass

    def execute(self, seconds, count=1):
        for _ in range(count):
            end = time.thread_time() + seconds   # on the processor: a worker that has to wait is not done sooner
            while time.thread_time() < end: pass
        return {'count': count}


class Pid:
    "Says which process it runs in."
    def __init__(self, config): pass
    def execute(self): return {'pid': os.getpid()}


class Imports:
    "Imports modules, and says which process has them now."
    def __init__(self, config): pass

    def execute(self, modules):
        for name in modules: importlib.import_module(name)
        return {'pid': os.getpid()}


class Busy:
    "Works forever and listens to nobody."
    def __init__(self, config): pass

    def execute(self):
        while True: pass


def note(path, count=0):
    "Say, in a file, which process this is, what time it is here, and a number."
    text = f'{os.getpid()} {time.perf_counter()} {count}'   # on Linux and macOS all processes have this clock
    with open(path + '.new', 'w') as f: f.write(text)
    os.rename(path + '.new', path)


class Act:
    "Notes that it is there, and then does what no plugin should do."
    def __init__(self, config): pass

    def execute(self, how, path):
        if how == 'ignore SIGTERM': signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.02)   # now everybody knows that it runs
        note(path)
        if how == 'os._exit': os._exit(1)
        if how == 'segfault': ctypes.string_at(0)
        while True: pass


class Polite:
    "Notes that it is there, and asks every millisecond whether it should stop."
    def __init__(self, config): pass

    def execute(self, path):
        from cjm_fasthtml_workers.core.context import cancel_requested
        note(path)
        while not cancel_requested(): time.sleep(0.001)


class Chunks:
    "Streams 8 bytes, so many times, as fast as it can."
    def __init__(self, config): pass
    def execute(self, count): return {'count': count}

    def execute_stream(self, count):
        for i in range(count): yield f'{i:08}'   # all differ: pickle writes the same one only once


class Flood:
    "Streams 100 characters at a time as fast as it can: so many times, then for so long. Notes how many there were."
    def __init__(self, config): pass
    def execute(self, warm, seconds, path): return {}

    def execute_stream(self, warm, seconds, path):
        end, count = float('inf'), 0
        while time.perf_counter() < end:
            yield f'{count:0100}'
            count += 1
            if count == warm: end = time.perf_counter() + seconds; note(path + '.warm')
        note(path, count)


class Paced:
    "Streams the time at which it speaks, so often in a second."
    def __init__(self, config): pass
    def execute(self, count, per_second): return {'count': count}

    def execute_stream(self, count, per_second):
        due = time.perf_counter()
        for _ in range(count):
            due += 1 / per_second
            time.sleep(max(0.0, due - time.perf_counter()))
            yield str(time.perf_counter_ns())


CLASSES = (Echo, Double, Length, Make, Spin, Pid, Imports, Busy, Act, Polite, Chunks, Flood, Paced)
PLUGINS = {c.__name__.lower(): f'{__name__}:{c.__name__}' for c in CLASSES}
PLUGINS['heavy'] = 'benchmarks.heavy:Echo'


@cache
def load(name: str) -> Any:
    "The plugin, made once in each process."
    module, _, cls = PLUGINS[name].partition(':')
    return getattr(importlib.import_module(module), cls)({})


# ---- What the peers call in their workers

def run(name: str, params: dict[str, Any]) -> Any: return load(name).execute(**params)


def stream(name: str, params: dict[str, Any]) -> Iterator[str]: yield from load(name).execute_stream(**params)


def serve_pipe(requests: Any, replies: Any) -> None:
    "A worker at two pipes; a stream ends with None."
    while (request := requests.recv()) is not None:
        name, params, is_stream = request
        if not is_stream: replies.send(run(name, params))
        else:
            for chunk in stream(name, params): replies.send(chunk)
            replies.send(None)


def serve_queues(requests: Any, replies: Any) -> None:
    "A worker at two queues; each reply bears the number of its request."
    while (request := requests.get()) is not None:
        number, name, params, is_stream = request
        if not is_stream: replies.put((number, run(name, params)))
        else:
            for chunk in stream(name, params): replies.put((number, chunk))
            replies.put((number, None))
    replies.put(None)
