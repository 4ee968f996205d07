# Made by tools/stubs.py; edit the notebook, not this file.
"""What happens to jobs, live on the page: a refresh, a dropped line or another device loses nothing."""
from typing import Any as _Any
__all__ = ['encode_frame', 'SSEEvent', 'SSEHub', 'TooManySubscribers', 'Subscription', 'SSEFrame', 'EventResponse', 'sse_response', 'fan_out']
import asyncio
import functools
import inspect
import json
import logging
import re
import secrets
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from fastcore.basics import patch
from fastcore.xml import to_xml
from starlette.responses import Response
from ..core.protocol import TERMINAL_STATUSES as TERMINAL_STATUSES, JobStatus as JobStatus
from .protocols import EventBroadcasterProtocol as EventBroadcasterProtocol
from ..managers.jobs import LineLog as LineLog
_log = logging.getLogger(__name__)
_LINE_END = re.compile('\r\n|\r|\n')
_NOT_IN_A_LINE = re.compile('[\r\n\x00]')

def _to_utf8(text: str) -> bytes: ...

def encode_frame(*, event: str | None=None, data: str | None='', id: str | int | None=None, retry: int | None=None, comment: str | None=None) -> bytes:
    """One frame of an event stream; with a comment or `retry` alone, one that is no event."""
    ...
_dump = functools.partial(json.dumps, separators=(',', ':'), allow_nan=False, default=str)

def _to_json(data: Any) -> str: ...

def _plain(data: Any, depth: int=20) -> Any: ...
_ENDINGS = frozenset((s.value for s in TERMINAL_STATUSES))
_MINOR = frozenset({'chunk', 'progress', 'log'})

@dataclass(frozen=True)
class SSEEvent:
    """Something that happened, as a subscriber hears it."""
    id: str
    type: str
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The part of `type` after the last colon."""
        ...

    @functools.cached_property
    def frame(self) -> bytes:
        """As it is sent if nobody renders it; made once for all subscribers."""
        ...
_LOG_CHARS = 4000000

def _chars(data: dict[str, Any]) -> int: ...

class _Log:
    """The newest events of a job, or of all: between `max_events` and twice as many."""
    prefix: str
    max_events: int
    events: list[SSEEvent]
    end: int
    chars: int
    has_ended: bool
    is_gone: bool
    waiting: dict[_Keeper, set[Subscription]]

    def __init__(self, prefix: str, max_events: int): ...

    @property
    def start(self) -> int:
        """The number of the last event that is no longer there."""
        ...

    def append(self, type: str, data: dict[str, Any]) -> None: ...

    def trim(self, max_events: int) -> None: ...

    def id_of(self, number: int) -> str: ...

    def find(self, event_id: str) -> int | None: ...

    def read(self, position: int, limit: int) -> list[SSEEvent]: ...

class _Text:
    """The end of a text that grows."""
    max_chars: int
    dropped: int
    _parts: list[str]
    _chars: int

    def __init__(self, max_chars: int): ...

    def append(self, text: str) -> None: ...

    def read(self) -> str: ...
_BATCH_LINES = 100

def _lines(data: dict[str, Any]) -> list[str]:
    """The lines of a 'log' event: `line`, or `lines`."""
    ...

class _Batch:
    """What came of one kind within the interval, as one event."""
    name: str
    type: str
    _texts: list[str]
    _lines: deque[str]
    _count: int
    _dropped: int
    _data: dict[str, Any]

    def __init__(self, name: str, type: str): ...

    def add(self, data: dict[str, Any]) -> None: ...

    def merged(self) -> dict[str, Any]: ...
_FACTS = ('plugin_id', 'status', 'attempt', 'progress', 'message', 'error', 'fault')
_FACT_CHARS = 20000

class _Job:
    """What is known of one job."""
    facts: dict[str, Any]
    log: _Log
    lines: LineLog
    text: _Text
    lines_dropped: int
    batches: dict[str, _Batch]
    due: float
    kept_chars: int
    shelf: OrderedDict[str, _Job]
    shown: weakref.ref[SSEEvent] | None

    def __init__(self, job_id: str, worker_type: str, log: _Log, max_chars: int, max_lines: int): ...

    @property
    def is_finished(self) -> bool: ...

    def apply(self, name: str, data: dict[str, Any]) -> None: ...

    def snapshot(self) -> dict[str, Any]: ...

def _shorten(value: Any) -> Any: ...
_RECENT = 64
_FINISHED_CHARS = 64000000

class SSEHub:
    """Hears what managers broadcast, keeps what is worth keeping, and tells any number of subscribers."""
    is_thread_safe = True
    max_jobs: int
    max_events_per_job: int
    subscriber_buffer: int
    heartbeat_seconds: float
    stall_seconds: float
    coalesce_seconds: float
    max_subscribers: int | None
    max_text_chars: int
    max_log_lines: int
    lock: threading.RLock
    _epoch: _Any
    _logs: int
    _log: _Any
    _jobs: dict[str, _Job]
    _finished: OrderedDict[str, _Job]
    _waiting: OrderedDict[str, _Job]
    _active: OrderedDict[str, _Job]
    _recent: deque[_Job]
    _finished_chars: int
    _awaited: weakref.WeakValueDictionary[str, _Log]
    _dirty: dict[_Job, None]
    _keepers: dict[asyncio.AbstractEventLoop, _Keeper]
    _subscribers: weakref.WeakSet[Subscription]

    def __init__(self, *, max_jobs: int=1000, max_events_per_job: int=1000, subscriber_buffer: int=5000, heartbeat_seconds: float=15.0, coalesce_seconds: float=0.03, max_subscribers: int | None=None, stall_seconds: float=5.0, max_text_chars: int=100000, max_log_lines: int=500): ...

    def _new_log(self, max_events: int) -> _Log: ...

    async def broadcast(self, event_type: str, data: dict[str, Any]) -> None:
        """What a manager calls; never waits."""
        ...

    def publish(self, event_type: str, data: dict[str, Any]) -> None:
        """Tell all subscribers. From any thread; never waits."""
        ...

    def _append(self, job: _Job | None, event_type: str, name: str, data: dict[str, Any]) -> None: ...

    def _flush(self, job: _Job) -> None: ...

    def _flush_all(self) -> None: ...

    def _wake(self, log: _Log) -> None: ...

    def _schedule_flush(self) -> None: ...

    def _job_for(self, job_id: str, worker_type: str, name: str) -> _Job:
        """The job, or a new one; one that has ended is new when it is queued."""
        ...

    def _shelve(self, job: _Job) -> None: ...

    def _note_end(self, job: _Job) -> None: ...

    def _remove_oldest(self) -> None: ...

    def _remove(self, job: _Job) -> None: ...

    def forget(self, job_id: str) -> None:
        """Know nothing of this job any more."""
        ...

    def snapshot(self, job_id: str) -> dict[str, Any] | None:
        """What is known of a job: the fields of its events, its `text` and log `lines`, and how much of both is gone."""
        ...

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        ...

    def _live(self) -> 'list[Subscription]': ...

    def subscribe(self, job_id: str | None=None, last_event_id: str | None=None, *, names: Collection[str] | None=None) -> Subscription:
        """What is known, and what happens from now on; `TooManySubscribers` if there is no room."""
        ...

    def _log_to_come(self, job_id: str) -> _Log: ...

    def _first_event(self, id: str, job_id: str | None, job: _Job | None) -> SSEEvent: ...

    def _snapshot_of(self, job_id: str | None, job: _Job | None) -> dict[str, Any]: ...

    def close(self) -> None:
        """End all subscriptions there are; those who read them hear what is there, and no more. From any thread."""
        ...
_TICK_SECONDS = 0.2
_TAKE = 50

class TooManySubscribers(Exception):
    """The hub has `max_subscribers`."""

class Subscription:
    """An async iterator over events, from `SSEHub.subscribe`. One task reads it, on one event loop."""
    hub: SSEHub
    job_id: str | None
    names: frozenset[str] | None
    end_reason: str | None
    _log: _Log
    _position: int
    _first: SSEEvent | None
    _ready: deque[SSEEvent]
    _keeper: _Keeper | None
    connection: _Connection | None
    _sleeper: asyncio.Future | None
    heartbeat_seconds: float
    heard_at: float
    busy_since: float | None
    abort: Callable[[], Any] | None

    def __init__(self, hub: SSEHub, job_id: str | None, log: _Log, position: int, first: SSEEvent | None, names: frozenset[str] | None): ...

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or has nothing to tell since its client has seen the job's end."""
        ...

    def _has_seen_the_end(self) -> bool: ...

    def __aiter__(self) -> 'Subscription': ...

    async def __anext__(self) -> SSEEvent: ...

    async def take(self) -> list[SSEEvent]:
        """The next events; none if it is over, or if it is time for a heartbeat."""
        ...

    def _read(self) -> list[SSEEvent]: ...

    def _is_behind(self) -> bool: ...

    def close(self) -> None:
        """Hear no more."""
        ...

    async def aclose(self) -> None:
        """Hear no more."""
        ...

    def _end(self, reason: str) -> None: ...

    def _wake(self, is_heartbeat: bool) -> None: ...

    def _bound(self) -> _Keeper:
        """The keeper of the running loop."""
        ...

    def _check(self, now: float) -> None:
        """Is it alive? On the loop, five times in a second."""
        ...

def _servers_on(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """The uvicorn servers that run on this loop."""
    ...

def _is_stopping(server: Any) -> bool: ...
_GRACE_SECONDS = 1.0

class _Connection(NamedTuple):
    server: Any
    transport: Any

def _connection_of(servers: list[Any], scope: Mapping[str, Any]) -> _Connection | None:
    """The connection that this request came by."""
    ...

async def _finish_writing(transport: Any) -> None:
    """Wait until the client has taken what it was sent, but not for long."""
    ...

class _Keeper:
    """Wakes the subscriptions of one event loop, and looks after them."""
    hub: SSEHub
    loop: asyncio.AbstractEventLoop
    subscriptions: weakref.WeakSet[Subscription]
    _due: list[set[Subscription]]
    _will_flush: bool
    servers: list[Any]
    _looked_at: float

    def __init__(self, hub: SSEHub, loop: asyncio.AbstractEventLoop): ...

    def find_servers(self) -> None:
        """Look which ones there are."""
        ...

    def wake(self, subscriptions: set[Subscription]) -> None:
        """From any thread, with the hub's lock held."""
        ...

    def is_here(self) -> bool: ...

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have it called on the loop. From any thread."""
        ...

    def _wake_due(self) -> None: ...

    def flush_later(self) -> None:
        """From any thread, with the hub's lock held."""
        ...

    def _flush(self) -> None: ...

    def close(self) -> None:
        """End all subscriptions. On the loop."""
        ...

    def _tick(self) -> None: ...

    def is_stopping(self) -> bool:
        """Whether every server that runs here has been told to stop."""
        ...

    def look_again(self) -> None:
        """Look which servers there are, if that was not done just now."""
        ...

    def connection_of(self, scope: Mapping[str, Any]) -> _Connection | None:
        """By which connection a request came; None with a server that is not known."""
        ...

@dataclass(frozen=True)
class SSEFrame:
    """What `render` may give back if the event's own name will not do."""
    data: Any
    event: str | None = None

def _to_data(made: Any) -> str: ...

def _to_frames(event: SSEEvent, made: Any) -> bytes: ...
_RETRY_MS = 1000
_HEARTBEAT = encode_frame(comment='')
_HEADERS = {'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no'}

class EventResponse(Response):
    """A stream of events, as made by `sse_response`."""
    media_type = 'text/event-stream'
    is_empty: bool
    subscription: Subscription
    retry_ms: int
    _renderer: Callable[[SSEEvent], Any] | None

    def __init__(self, subscription: Subscription, render: Callable[[SSEEvent], Any] | None, hub: SSEHub, retry_ms: int, headers: Mapping[str, str]): ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the stream until it is over, the client has gone, or the server stops."""
        ...

    async def _serve(self, scope: Any, receive: Any, send: Any, start: dict[str, Any]) -> None: ...

    async def _part(self, is_stalled: bool, listener: asyncio.Future) -> None:
        """The stream is over: leave a connection that the server can close."""
        ...

    async def _send(self, send: Callable[[Any], Awaitable[None]], start: dict[str, Any]) -> None: ...

    async def _push(self, send: Callable[[Any], Awaitable[None]], message: dict[str, Any]) -> None: ...

    async def _frames_of(self, event: SSEEvent) -> bytes: ...

def _body(data: bytes, is_more: bool=True) -> dict[str, Any]: ...

async def _wait_disconnect(receive: Callable[[], Awaitable[Any]]) -> None: ...

def sse_response(subscription: Subscription, *, render: Callable[[SSEEvent], Any] | None=None, hub: SSEHub | None=None, retry_ms: int=_RETRY_MS, headers: Mapping[str, str] | None=None) -> EventResponse:
    """What a handler returns for a stream of events."""
    ...

class _FanOut:
    hubs: list[SSEHub]
    others: list[EventBroadcasterProtocol]

    def __init__(self, broadcasters: tuple[EventBroadcasterProtocol, ...]): ...

    async def broadcast(self, event_type: str, data: dict[str, Any]) -> None: ...

    async def _tell(self, broadcaster: EventBroadcasterProtocol, event_type: str, data: dict[str, Any]) -> None: ...

def fan_out(*broadcasters: EventBroadcasterProtocol) -> EventBroadcasterProtocol:
    """One broadcaster that is all of them."""
    ...
