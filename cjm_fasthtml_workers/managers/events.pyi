# Made by tools/stubs.py; edit the notebook, not this file.
"""How the manager's thread tells everybody else: sleeping coroutines, event streams, a broadcaster, hooks."""
__all__ = ['Wakeups', 'WorkerEvent', 'EventStream', 'EventHub', 'CallbackThreads']
import asyncio
import concurrent.futures
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple
from fastcore.basics import patch
_log = logging.getLogger(__name__)

def _complete(futures: list[asyncio.Future]) -> None: ...

class Wakeups:
    """Futures of any number of loops, to be completed together."""
    _futures: deque[asyncio.Future]

    def __init__(self) -> None: ...

    def add(self, futures: Iterable[asyncio.Future]) -> None:
        """Note futures that are due. From any thread."""
        ...

    def flush(self) -> None:
        """Complete those that are due. From any thread; a loop that has closed is passed over."""
        ...

class WorkerEvent(NamedTuple):
    """Something that happened to a job or a worker."""
    type: str
    data: dict[str, Any]
_ENDINGS = ('completed', 'failed', 'cancelled')
_MINOR = ('chunk', 'progress', 'log')
_BUFFER = 10000

class EventStream:
    """An async iterator over events; it hears everything from its making on, also before the first `async for`."""
    job_id: str | None
    _hub: 'EventHub'
    _events: deque[WorkerEvent]
    _ended: bool
    _sleeper: asyncio.Future | None

    def __init__(self, hub: 'EventHub', job_id: str | None=None): ...

    def __aiter__(self) -> 'EventStream': ...

    async def __anext__(self) -> WorkerEvent: ...

    def take_all(self) -> list[WorkerEvent]:
        """What has come already, without waiting."""
        ...

    async def aclose(self) -> None:
        """Hear no more."""
        ...

    def take(self, name: str, data: dict[str, Any]) -> None:
        """Hear of this too."""
        ...

    def _take(self, name: str, event: WorkerEvent) -> None: ...

    def _end(self) -> None: ...

    def _wake(self) -> None: ...
_BROADCAST_SECONDS = 10.0

class EventHub:
    """Hands events to streams and to a broadcaster."""
    worker_type: str
    wakeups: Wakeups
    broadcaster: Any
    lock: threading.RLock
    _streams: tuple[weakref.ref[EventStream], ...]
    is_quiet: bool
    awaited: set[EventStream]
    _direct: Any
    _outgoing: deque[WorkerEvent]
    _loop: asyncio.AbstractEventLoop | None
    _lone: weakref.WeakSet[asyncio.AbstractEventLoop]
    _pump: asyncio.Task | None
    _is_pinned: bool
    _is_pumping: bool

    def __init__(self, worker_type: str, wakeups: Wakeups, broadcaster: Any=None): ...

    def _keep(self, streams: Iterable[weakref.ref[EventStream]]) -> None: ...

    def use_loop(self, pin: bool=False) -> None:
        """Broadcast on the running loop, unless another one runs, or a live one is pinned (by the app's lifespan)."""
        ...

    def _is_app_loop(self, loop: asyncio.AbstractEventLoop, pin: bool) -> bool: ...

    def streams(self) -> list[EventStream]:
        """Those that somebody still holds."""
        ...

    def forget(self, stream: EventStream) -> None:
        """It has ended."""
        ...

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Tell everybody. From any thread; whoever calls this flushes the wakeups."""
        ...

    def subscribe(self, job_id: str | None=None) -> EventStream:
        """A stream of everything from now on."""
        ...

    def close(self) -> None:
        """End all streams."""
        ...

    async def _run_alone(self, coroutine: Coroutine[Any, Any, Any]) -> Any: ...

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the app's loop, or on one of its own if the app has none; waits, so not to be called on a loop."""
        ...

    def _start_pump(self) -> None: ...

    def _make_pump(self) -> None: ...

    def _next_outgoing(self) -> WorkerEvent | None: ...

    async def _run_pump(self) -> None: ...

    async def _broadcast(self, event: WorkerEvent) -> None: ...

    async def wait_broadcast(self, timeout_seconds: float) -> None:
        """Wait until everything has been broadcast, at most so long."""
        ...

class CallbackThreads:
    """Runs callbacks in as many daemon threads as are busy at once, up to a limit."""
    name: str
    max_threads: int
    idle_seconds: float
    _todo: deque[tuple[Callable[..., Any], tuple[Any, ...]]]
    _change: threading.Condition
    _threads: int
    _idle: int

    def __init__(self, name: str, max_threads: int=16, idle_seconds: float=0.5): ...

    def run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have `callback(*args)` run soon."""
        ...

    def close(self) -> None:
        """Let idle threads go now."""
        ...

    def _next(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None: ...

    def _work(self) -> None: ...
