"""Plugins that behave, and one that does whatever it is told. A result has the `nonce` of its job."""
import os
import time
from typing import Any

from cjm_fasthtml_workers.core.context import cancel_requested, report_progress


class Echo:
    "The plain job: gives back what it got."
    def __init__(self, config: dict[str, Any]): self.config = config
    def execute(self, **params: Any) -> dict[str, Any]: return params

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

class Do:
    "Runs Python text, given as a parameter: what it puts in `result` is the result."
    def __init__(self, config: dict[str, Any]): exec(config.get('init', ''), {'config': config, 'os': os, 'time': time})
    def execute(self, code: str, **params: Any) -> Any:
        names: dict[str, Any] = {'result': {'nonce': params.get('nonce')}, 'os': os, 'time': time, **params}
        exec(code, names)
        return names['result']
    def execute_stream(self, code: str, **params: Any) -> Any:
        "The text may define `stream()`, a generator."
        names: dict[str, Any] = {'result': {'nonce': params.get('nonce')}, 'os': os, 'time': time, **params}
        exec(code, names)
        if 'stream' in names: yield from names['stream']()
        return names['result']

def touch(path: str) -> None:
    with open(path, 'w'): pass
