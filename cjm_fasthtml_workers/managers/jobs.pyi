# Made by tools/stubs.py; edit the notebook, not this file.
"""What a job is, the states it can be in, and the book in which the manager keeps them."""
__all__ = ['JobType', 'TRANSITIONS', 'utc_now', 'BaseJob', 'is_finished', 'change_status', 'ChunkLog', 'TextRead', 'JobLogs', 'LineLog', 'Kept', 'JobRecord', 'JobBook', 'SentAhead', 'pick_worker']
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from fastcore.basics import patch
from ..core.config import JobOptions as JobOptions
from ..core.errors import JobNotFound as JobNotFound
from ..core.protocol import TERMINAL_STATUSES as TERMINAL_STATUSES, Fault as Fault, JobStatus as JobStatus, WorkerStreamChunk as WorkerStreamChunk
_second = (0, '')

def utc_now() -> str:
    """The time, in ISO 8601 with its offset from UTC."""
    ...

@dataclass
class BaseJob:
    """Base class for all job types."""
    id: str
    plugin_id: str
    status: str = 'pending'
    created_at: str = field(default_factory=utc_now)
    started_at: str | None = None
    completed_at: str | None = None
    result: dict[str, Any] | None = field(default=None, repr=False)
    error: str | None = field(default=None, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    worker_pid: int | None = None
    fault: str | None = None
    traceback: str | None = field(default=None, repr=False)
    exit_code: int | None = None
    progress: float | None = None
    status_message: str = field(default='', repr=False)
    attempt: int = 1
    priority: int = 0
    owner: str | None = None
JobType = TypeVar('JobType', bound=BaseJob)
TRANSITIONS: dict[str, frozenset[str]] = {JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.FAILED}), JobStatus.RUNNING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PENDING}), JobStatus.COMPLETED: frozenset(), JobStatus.FAILED: frozenset(), JobStatus.CANCELLED: frozenset()}
_WORDS = {s: s.value for s in JobStatus}

def is_finished(job: BaseJob) -> bool:
    """Whether `job` is in a state that it never leaves."""
    ...

def change_status(job: BaseJob, status: JobStatus) -> bool:
    """Perform one arrow of the table."""
    ...
_MAX_CHUNKS, _MAX_CHARS = (50000, 2 ** 20)

class ChunkLog:
    """The chunks of one job, the oldest dropped when there are too many."""
    job_id: str
    max_chunks: int
    max_chars: int
    base: int
    first: int
    chars: int
    _chunks: deque[tuple[str, dict[str, Any] | None]]

    def __init__(self, job_id: str, max_chunks: int=_MAX_CHUNKS, max_chars: int=_MAX_CHARS): ...

    @property
    def end(self) -> int:
        """The number that the next chunk will get."""
        ...

    def append(self, text: str, metadata: dict[str, Any] | None=None) -> None:
        """Keep one more chunk."""
        ...

    def extend(self, texts: list[str]) -> None:
        """Keep these, too."""
        ...

    def _trim(self) -> None: ...

    def drop(self) -> None:
        """Forget the oldest chunk."""
        ...

    def clear(self) -> None:
        """Forget all chunks."""
        ...

    def restart(self) -> None:
        """Forget all chunks, and that there were any: a new attempt begins."""
        ...

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come since the start, or the restart."""
        ...

    def read(self, position: int, limit: int=1000) -> tuple[list[WorkerStreamChunk], int]:
        """What there is from `position` on; if n are gone it begins with an empty chunk, `metadata={'dropped': n}`."""
        ...

    def read_text(self, position: int | None=None) -> TextRead:
        """The chunks since `position` as one text."""
        ...

def _chunk(job_id: str, text: str, metadata: dict[str, Any] | None) -> WorkerStreamChunk:
    """The same as calling the class, in half the time: `__init__` of a frozen one is slow, and there may be many."""
    ...

class TextRead(NamedTuple):
    """A piece of a text that grows."""
    text: str
    at: int
    is_new: bool = False
    is_cut: bool = False

class JobLogs(NamedTuple):
    """What a job printed and logged."""
    lines: list[str]
    dropped: int

class LineLog:
    """The last lines of something that may print without end."""
    max_lines: int
    max_chars: int
    dropped: int
    chars: int
    lines: deque[str]

    def __init__(self, max_lines: int=1000, max_chars: int=2000): ...

    def append(self, line: str) -> None:
        """Keep one more line, cut to `max_chars`."""
        ...

    def _drop(self) -> None: ...

    def clear(self) -> None:
        """Forget all lines."""
        ...

    def read(self) -> JobLogs:
        """A copy."""
        ...

@dataclass(eq=False, slots=True)
class Kept:
    """What is between a job and the store that keeps it."""
    params: dict[str, Any] | None = None
    is_stored: bool = False
    has_text: bool = False
    refusal: BaseException | None = None
    when_stored: list[Any] = field(default_factory=list)
    when_told: list[Callable[[], Any]] = field(default_factory=list)

@dataclass(eq=False, slots=True)
class JobRecord:
    """What the manager knows about one job."""
    job: Any
    options: JobOptions
    plugin_name: str
    params: Any = None
    stream: bool = False
    config: dict[str, Any] | None = None
    seq: int = 0
    worker: Any = None
    ahead: Any = None
    cooperates: bool = False
    ending: Any = None
    deadline: Any = None
    kills: int = 0
    is_reported: bool = False
    cancel_ticket: Any = None
    final: Any = None
    kept: Any = None
    chunk_waiters: list[Any] = field(default_factory=list)
    end_waiters: list[Any] = field(default_factory=list)
    _chunks: ChunkLog | None = None
    _logs: LineLog | None = None

    @property
    def chunks(self) -> ChunkLog:
        """What it streamed."""
        ...

    @property
    def logs(self) -> LineLog:
        """What it printed and logged."""
        ...

    @property
    def chars(self) -> int:
        """How much text it said, in chunks and log lines, is kept."""
        ...

    @property
    def status(self) -> str:
        """The state, also when an end is decided and not yet shown."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the job is in a terminal state, shown or not."""
        ...

    @property
    def is_told(self) -> bool:
        """Whether everybody may know that it has ended."""
        ...
_MAX_FINISHED_CHARS = 32 * 2 ** 20

class JobBook:
    """All jobs that are kept, and the order in which those that wait are to run."""
    max_finished: int | None
    now: Callable[[], str]
    waiting: int
    _records: dict[str, JobRecord]
    _finished: deque[JobRecord]
    _finished_chars: int
    _heap: list[tuple[int, int, JobRecord]]
    _seq: int

    def __init__(self, max_finished: int | None=1000, now: Callable[[], str]=utc_now): ...

    def __len__(self) -> int: ...

    def records(self) -> list[JobRecord]: ...

    def find(self, job_id: str) -> JobRecord | None: ...

    def get(self, job_id: str) -> JobRecord:
        """The record of `job_id`; raises `JobNotFound`."""
        ...

    def add(self, record: JobRecord) -> None:
        """Accept a job into the backlog; `ValueError` if its id is taken or it is not pending."""
        ...

    def peek(self) -> JobRecord | None:
        """Who is next; None if nobody waits, or all of them with a worker already."""
        ...

    def backlog(self) -> list[JobRecord]:
        """Who waits, in order; also for another attempt."""
        ...

    def start(self, record: JobRecord, worker: Any, pid: int | None) -> None:
        """Take a job out of the backlog: it runs now."""
        ...

    def reserve(self, record: JobRecord, worker: Any) -> None:
        """Let a job wait with a worker, which will run it later; `requeue` puts it back."""
        ...

    def retry(self, record: JobRecord) -> None:
        """The job will run again: it waits, but is not in the backlog before `requeue`."""
        ...

    def take_back(self, record: JobRecord) -> None:
        """The job waits again, at its old place, as if it had not been started."""
        ...

    def requeue(self, record: JobRecord) -> None:
        """Put it into the backlog, at its old place; harmless if it has ended meanwhile."""
        ...

    def finish(self, record: JobRecord, status: JobStatus, fault: Fault | None=None, error: str | None=None, traceback: str | None=None, result: dict[str, Any] | None=None, exit_code: int | None=None) -> bool:
        """End a job, once."""
        ...

    def _keep(self, record: JobRecord) -> None:
        """It has ended, and is kept as long as there is room."""
        ...

    def _left_backlog(self) -> None: ...

    def _prune(self) -> None: ...

    def _forget(self, record: JobRecord) -> None: ...

    def clear(self) -> int:
        """Forget all finished jobs."""
        ...

    def decide(self, record: JobRecord, status: JobStatus, fault: Fault | None=None, error: str | None=None, traceback: str | None=None, result: dict[str, Any] | None=None, exit_code: int | None=None) -> bool:
        """End a job, once; nobody sees it before `show`."""
        ...

    def show(self, record: JobRecord, final: dict[str, Any]) -> None:
        """Everybody may see the end."""
        ...

    def discard(self, record: JobRecord) -> None:
        """It was never accepted."""
        ...

    def bring_back(self, record: JobRecord) -> None:
        """Keep what a store has kept."""
        ...

class SentAhead:
    """The jobs that were sent to a worker behind the one it runs; pure: it is told how many turns were not taken."""
    _records: deque[JobRecord | None]
    _popped: deque[bool]
    priority: int

    def __init__(self) -> None: ...

    def __len__(self) -> int: ...

    def add(self, record: JobRecord) -> None:
        """One more, behind the others."""
        ...

    def pop(self, untaken: int=0) -> JobRecord | None:
        """The first that still holds."""
        ...

    def call_back(self, untaken: int, only: JobRecord | None=None) -> tuple[list[JobRecord], list[bool]]:
        """Take jobs back that have not begun."""
        ...

def pick_worker(plugin_name: str, idle: Iterable[Any]) -> Any:
    """The worker that should take the job."""
    ...
