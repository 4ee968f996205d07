# Made by tools/stubs.py; edit the notebook, not this file.
"""A job store in one SQLite file: jobs that were accepted survive the death of the app, without a server."""
__all__ = ['SCHEMA', 'VERSION', 'APPLICATION_ID', 'UPGRADES', 'store_error', 'check_header', 'check_schema', 'upgrade', 'SQLiteJobStore', 'key_of_id', 'id_of_key', 'read_jobs']
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from fastcore.basics import patch
from ..core.config import JobOptions as JobOptions, _check_int as _check_int, _check_number as _check_number, _check_word as _check_word
from ..core.errors import ClassUnknown as ClassUnknown, JobNotFound as JobNotFound, NotStorable as NotStorable, StoreBusy as StoreBusy, StoreClosed as StoreClosed, StoreCorrupt as StoreCorrupt, StoreError as StoreError, StoreForeign as StoreForeign, StoreFull as StoreFull, StoreTooNew as StoreTooNew, StoreUnreachable as StoreUnreachable
from ..core.protocol import TERMINAL_STATUSES as TERMINAL_STATUSES, Fault as Fault, JobStatus as JobStatus
from .json_values import Classes as Classes, is_small as is_small, made as made, storable as storable, storable_fields as storable_fields, unstored as unstored, unstored_fields as unstored_fields
from .processes import LifeSign as LifeSign, ProcessId as ProcessId, is_alive as is_alive, this_process as this_process
from .protocols import JobSummary as JobSummary, Recovered as Recovered, StoredChunks as StoredChunks, StoredJob as StoredJob, StoredLines as StoredLines
_log = logging.getLogger(__name__)
_JOB_TABLES = '\nCREATE TABLE apps (            -- the processes that have jobs here\n    id INTEGER PRIMARY KEY AUTOINCREMENT,\n    boot TEXT NOT NULL,        -- of the machine\n    namespace TEXT NOT NULL,   -- where the pid holds: each container has its own\n    pid INTEGER NOT NULL,\n    started TEXT NOT NULL      -- when the process started, in the system\'s own words\n);\nCREATE TABLE jobs (\n    seq INTEGER PRIMARY KEY,   -- order of arrival\n    id TEXT NOT NULL UNIQUE,\n    worker_type TEXT NOT NULL, -- of the manager it belongs to\n    app INTEGER,               -- whose it is while it has not ended: apps.id; NULL: nobody\'s\n    class TEXT NOT NULL,       -- of the job object: "package.module:Class"\n    plugin_id TEXT NOT NULL,\n    plugin_name TEXT NOT NULL, -- as the worker knows it\n    status TEXT NOT NULL,      -- pending, running, completed, failed, cancelled\n    priority INTEGER NOT NULL, -- greater is sooner\n    owner TEXT,                -- which person\'s\n    attempt INTEGER NOT NULL,  -- 1 in the first run; stored before it runs\n    max_retries INTEGER NOT NULL,\n    timeout_seconds REAL,\n    stream INTEGER NOT NULL,   -- 1: it sends text while it runs\n    created_at TEXT,           -- times are ISO 8601 with an offset from UTC\n    started_at TEXT,\n    completed_at TEXT,\n    worker_pid INTEGER,\n    exit_code INTEGER,\n    progress REAL,             -- from 0 to 1\n    status_message TEXT,\n    fault TEXT,                -- why it failed, in one word\n    error TEXT,                -- and in a line\n    traceback TEXT,\n    metadata TEXT,             -- JSON\n    fields TEXT,               -- JSON: what the job\'s class has beyond BaseJob\n    params TEXT,               -- JSON; NULL once it has ended\n    result TEXT                -- JSON\n);\nCREATE INDEX jobs_by_status ON jobs(status);\nCREATE INDEX jobs_by_end ON jobs(completed_at) WHERE completed_at IS NOT NULL;\n'
_TEXT_TABLES = '\nCREATE TABLE chunks (          -- the text that a job has sent\n    job INTEGER NOT NULL,      -- jobs.seq\n    first INTEGER NOT NULL,    -- number of the first chunk in this row\n    texts TEXT NOT NULL,       -- JSON: a list of [text, metadata]\n    PRIMARY KEY (job, first)\n) WITHOUT ROWID;\nCREATE TABLE lines (           -- what the job has printed and logged: its last lines\n    job INTEGER NOT NULL,      -- jobs.seq\n    first INTEGER NOT NULL,    -- number of the first line in this row\n    texts TEXT NOT NULL,       -- JSON: a list of lines\n    PRIMARY KEY (job, first)\n) WITHOUT ROWID;\n'
SCHEMA = _JOB_TABLES + _TEXT_TABLES
VERSION = 3
APPLICATION_ID = 1667919223
_TEXTS = ('plugin_id', 'status', 'owner', 'created_at', 'started_at', 'completed_at', 'status_message', 'fault', 'error', 'traceback')
_INTS = ('priority', 'attempt', 'worker_pid', 'exit_code')
_PLAIN = (*_TEXTS, *_INTS, 'progress')
_CHANGING = ('status', 'attempt', 'started_at', 'completed_at', 'worker_pid', 'exit_code', 'progress', 'status_message', 'fault', 'error', 'traceback', 'metadata', 'fields', 'result')
_COLUMNS = ('id', 'worker_type', 'app', 'class', 'plugin_name', 'max_retries', 'timeout_seconds', 'stream', 'params', *_PLAIN, 'metadata', 'fields', 'result')
_SUMMARY = tuple((f.name for f in fields(JobSummary)))
_ENDED = tuple(sorted((s.value for s in TERMINAL_STATUSES)))
_OPEN = (JobStatus.PENDING.value, JobStatus.RUNNING.value)

def _marks(n: int) -> str: ...

def store_error(e: Exception, path: Any) -> StoreError:
    """The error for whoever uses the store."""
    ...

def check_header(path: Path) -> None:
    """Before SQLite opens it, which makes a database of an empty file."""
    ...

def check_schema(con: sqlite3.Connection, path: Any) -> int:
    """Whether this is a job store that we understand."""
    ...

def _connect(path: Path, busy_seconds: float, synchronous: str='NORMAL') -> sqlite3.Connection: ...

def _make_file(path: Path) -> None:
    """A store with nothing in it. It appears whole, or not at all; if another process is quicker, that one's counts."""
    ...

def _sync(path: Path) -> None: ...
UPGRADES: dict[int, tuple[str, ...]] = {1: ("ALTER TABLE apps ADD COLUMN namespace TEXT NOT NULL DEFAULT ''", 'CREATE INDEX jobs_by_end ON jobs(completed_at) WHERE completed_at IS NOT NULL', "UPDATE jobs SET params=NULL WHERE status IN ('completed', 'failed', 'cancelled')"), 2: ('CREATE TABLE lines (job INTEGER NOT NULL, first INTEGER NOT NULL, texts TEXT NOT NULL, PRIMARY KEY (job, first)) WITHOUT ROWID',)}

def upgrade(con: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to `VERSION`, in one transaction; `StoreBusy` while an app works with the old ones."""
    ...

def _apps(con: sqlite3.Connection) -> list[tuple[int, ProcessId]]: ...

def _sign_of(path: Path, app: int) -> Path: ...

class SQLiteJobStore:
    """Keeps jobs in an SQLite file."""
    path: Path
    synchronous: str
    max_finished: int | None
    max_age_seconds: float | None
    make_directory: bool
    busy_seconds: float
    patience_seconds: float
    classes: Classes
    _reader: sqlite3.Connection | None
    _writer: sqlite3.Connection | None
    _app: int | None
    _sign: LifeSign | None
    _managers: dict[str, Callable[[], None]]
    _ops: deque[_Op]
    _texts: deque[tuple[str, int, str, Any]]
    _lines: dict[str, deque[tuple[int, str]]]
    _kept: dict[str, deque[tuple[int, int]]]
    _thread: threading.Thread | None

    def __init__(self, path: str | os.PathLike, *, synchronous: str='NORMAL', max_finished: int | None=10000, max_age_seconds: float | None=None, classes: Iterable[type]=(), make_directory: bool=False, busy_seconds: float=5.0, patience_seconds: float=5.0): ...

    def _begin(self) -> None: ...

    def _open_file(self) -> sqlite3.Connection:
        """A connection to the file, which is made or upgraded if need be."""
        ...

    def _create(self) -> None: ...

    def _check_tables(self, con: sqlite3.Connection) -> None: ...

    def _open_reader(self) -> sqlite3.Connection: ...

    def _refuse_forks(self) -> None: ...

    def close(self) -> None:
        """Let go of the file. Managers that are attached are detached; what reads later opens it again."""
        ...

    def _row_of(self, stored: StoredJob) -> tuple[dict[str, Any], dict[str, Any]]:
        """The columns, and the values of those that are still to be made."""
        ...

    def _note(self, op: _Op) -> None: ...

    def _wake_thread(self) -> None:
        """Called with `_change` held."""
        ...

    def accept(self, stored: StoredJob, done: Callable[[BaseException | None], None]) -> None:
        """Keep a new job; `NotStorable` if it cannot be kept: at once or, if it is large, by `done`."""
        ...

    def _finish_row(self, op: _Op) -> None:
        """Make what was too much for `accept`. In the thread."""
        ...

    def note_attempt(self, job: Any, done: Callable[[BaseException | None], None]) -> None:
        """The job is about to run."""
        ...

    def note_waiting(self, job: Any) -> None:
        """The job waits again, and what it sent so far is forgotten."""
        ...

    def note_end(self, job: Any, changes: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        """The job has ended: `job` with `changes` is what is kept. `done` comes in any case."""
        ...

    def note_chunk(self, job_id: str, number: int, text: str, metadata: dict[str, Any] | None=None) -> None:
        """The job sent a piece of text. It is stored soon, and at the latest with the end."""
        ...

    def note_progress(self, job_id: str, fraction: float | None, message: str) -> None:
        """The job said how far it is. Stored soon."""
        ...

    def note_lines(self, job_id: str, number: int, lines: list[str]) -> None:
        """The job printed these. They are stored soon, and at the latest with the end."""
        ...

    def _wake_for_text(self) -> None: ...

    def _work(self) -> None: ...

    def _next_batch(self) -> list[_Op] | None: ...

    def _has_work(self) -> bool: ...

    def _take_ops(self) -> list[_Op]:
        """Everything up to the first call, which is made when all before it is written."""
        ...

    def _take_texts(self) -> list[tuple[str, int, str, Any]]: ...

    def _write_batch(self, batch: list[_Op]) -> None: ...

    def _tell(self, told: list[tuple[Callable[[Any], None], Any]]) -> None: ...

    def _changed_row(self, op: _Op) -> _Row: ...

    def _rows_of(self, batch: list[_Op]) -> tuple[dict[str, _Row], dict[str, _Row], dict[str, Exception]]:
        """New rows and changed ones, by job id; and why a new one is refused, by key."""
        ...

    def _inserts(self, new: dict[str, _Row]) -> list[_Statement]: ...

    def _updates(self, changed: dict[str, _Row]) -> list[_Statement]: ...

    def _con(self) -> sqlite3.Connection:
        """The connection that writes; of the thread."""
        ...

    def _transact(self, statements: list[_Statement]) -> dict[str, Exception]: ...

    def _in_transaction(self, con: sqlite3.Connection, do: Callable[[], Any]) -> Any: ...

    def _execute(self, con: sqlite3.Connection, s: _Statement, refused: dict[str, Exception]) -> None: ...

    def _strangers(self, con: sqlite3.Connection, s: _Statement) -> dict[str, Exception]:
        """Those rows of an update that are not now as it says."""
        ...

    def _dropped(self, runs: dict[str, list[_Run]], fresh: set[str], sizes: dict[str, deque[tuple[int, int]]]) -> list[_Statement]: ...

    def _texts_json(self, texts: list[list[Any]]) -> str: ...

    def _line_statements(self, printed: dict[str, deque[tuple[int, str]]]) -> list[_Statement]: ...

    def _text_statements(self, texts: list[tuple[str, int, str, Any]], sizes: dict[str, deque[tuple[int, int]]]) -> list[_Statement]: ...

    def _write(self, batch: list[_Op], texts: list[tuple[str, int, str, Any]]) -> list[tuple[Callable[[Any], None], Any]]: ...

    def _answer(self, op: _Op, refused: dict[str, Exception]) -> Any: ...

    def _put_back(self, batch: list[_Op], texts: list[tuple[str, int, str, Any]], e: Exception) -> None: ...

    def _is_impatient(self, op: _Op) -> bool: ...

    def _put_back_texts(self, texts: list[tuple[str, int, str, Any]]) -> None: ...

    def attach(self, worker_type: str, flush: Callable[[], None]=lambda: None, max_finished: int=1000) -> Recovered:
        """Begin to work for a manager: take over the jobs of apps that are gone. Waits for the disk."""
        ...

    def _call(self, do: Callable[[sqlite3.Connection], Any], timeout: float | None=None) -> Any:
        """Have the thread do something in a transaction, behind all that waits; and wait for it."""
        ...

    def _call_now(self, op: _Op) -> None: ...

    def _sign_in(self, con: sqlite3.Connection) -> None: ...

    def _dead_apps(self, con: sqlite3.Connection) -> list[int]: ...

    def _forget_apps(self, con: sqlite3.Connection, dead: list[int]) -> None:
        """Those that have no job any more, of any manager."""
        ...

    def _waiting(self, con: sqlite3.Connection, worker_type: str) -> list[StoredJob]: ...

    def _oldest(self) -> str: ...

    def _load(self, con: sqlite3.Connection, seqs: Iterable[int]) -> list[StoredJob]: ...

    def _finished(self, con: sqlite3.Connection, worker_type: str, most: int, others: set[int]) -> list[StoredJob]:
        """The newest, oldest first; fewer if their results are large."""
        ...

    def _take_over(self, con: sqlite3.Connection, worker_type: str, max_finished: int) -> Recovered: ...

    def detach(self, worker_type: str) -> None:
        """The manager stops: write what is left, and leave its waiting jobs to whoever starts next. May wait."""
        ...

    def _release(self, con: sqlite3.Connection, worker_type: str) -> None: ...

    def _leave(self) -> None:
        """The last manager is gone: end the thread, close the file."""
        ...

    def _let_go(self) -> None:
        """The thread's last words."""
        ...

    def _read(self, read: Callable[[sqlite3.Connection], Any]) -> Any: ...

    def get(self, job_id: str) -> StoredJob | None:
        """A job, whoever runs it; `ClassUnknown` if its class is not imported."""
        ...

    def status_of(self, job_id: str) -> str | None:
        """The state of a job, whoever runs it."""
        ...

    def read_chunks(self, job_id: str) -> StoredChunks:
        """The text of a job, so far: what follows the last gap."""
        ...

    def read_lines(self, job_id: str) -> StoredLines:
        """The last lines that a job has printed, so far."""
        ...

    def _texts_of(self, table: str, job_id: str) -> tuple[int, list[Any]]: ...

    def jobs(self, worker_type: str | None=None, statuses: Collection[str]=(), limit: int=50, before: int | None=None) -> list[JobSummary]:
        """A page of the jobs of all apps, newest first."""
        ...

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        ...

    def _idle_seconds(self) -> float | None: ...

    def _tidy_up(self) -> None:
        """One small step."""
        ...

    def _overdue(self, con: sqlite3.Connection) -> list[int]:
        """Jobs that ended first and are too many, or too long ago."""
        ...

    def clear(self, worker_type: str) -> None:
        """Forget this manager's jobs that have ended. Done soon."""
        ...
_MIN_SQLITE = (3, 35)
_CHECKED_BYTES = 32 * 2 ** 20

def _is_utf8(text: str) -> bool: ...

def key_of_id(job_id: Any) -> str:
    """An id as text that any file can hold."""
    ...

def id_of_key(key: str) -> str:
    """The id that stands there."""
    ...
_FIT: dict[str, Any] = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_INTS, int), 'progress': float}
_NEEDED = frozenset({'plugin_id', 'status', 'priority', 'attempt'})

def _fits(name: str, value: Any) -> bool: ...

def _as_column(name: str, value: Any) -> Any:
    """What those see who look into the file; for a value that does not fit."""
    ...
_OWN = frozenset({'id', 'result', 'metadata', *_PLAIN})

@cache
def _own_fields(cls: Any) -> tuple[str, ...]: ...

def _own_names(job: Any) -> Sequence[str]:
    """What its class has beyond `BaseJob`, also beside its fields."""
    ...

def _plain_columns(job: Any, changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns, and those values that do not fit into theirs."""
    ...
_MAX_ROW = 900000000
_SAID = {'params': 'params', 'metadata': 'job.metadata', 'fields': 'job', 'result': 'the result'}

def _refuse_huge(columns: dict[str, Any]) -> None: ...

def _nbytes(text: str) -> int:
    """In UTF-8; no more than a guess where that is enough."""
    ...

def _json_values(job: Any, changes: dict[str, Any], odd: dict[str, Any]) -> dict[str, Any]:
    """What will be the columns of JSON."""
    ...

def _json_columns(values: dict[str, Any], classes: Classes) -> dict[str, Any]: ...

def _job_of(row: dict[str, Any], classes: Classes) -> Any:
    """The job object, of its own class; nothing of the class is called."""
    ...

def _stored_of(row: dict[str, Any], classes: Classes) -> StoredJob: ...

@dataclass(slots=True)
class _Op:
    """Something to be written, and who is to be told."""
    kind: str
    job_id: str
    done: Callable[[Any], None] | None
    job: Any = None
    row: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] | None = None
    sealed: Any = None
    changes: dict[str, Any] = field(default_factory=dict)
    call: Callable[[sqlite3.Connection], Any] | None = None
    since: float = field(default_factory=time.monotonic)
_FIXED = (str, bytes, int, float, bool, type(None))
_PROGRESS, _FORGET, _PRINTED = (-1, -2, -3)

def _attempt_of(job: Any) -> dict[str, Any]: ...
_TEXT_SECONDS = 0.25
_MAX_TEXTS = 200000
_MAX_WAITING_CHARS = 2 ** 26
_MAX_CHARS = 2 ** 20
_MAX_LINES = 1000

def _newest(texts: list[tuple[str, int, str, Any]]) -> list[tuple[str, int, str, Any]]:
    """Without the chunks that would be dropped at once: to write a flood would take longer than to make it."""
    ...
_Row = dict[str, Any]

def _now() -> str: ...
_MOST_ROWS = 32

@dataclass(slots=True)
class _Statement:
    sql: str
    values: list[Any]
    keys: list[str] = field(default_factory=list)

def _statements(rows: Sequence[Sequence[Any]], sql: str, *more: Any, keyed: bool=False) -> list[_Statement]:
    """`sql` with its `{rows}`, for at most so many rows each."""
    ...

@cache
def _with_rows(sql: str, rows: int, columns: int) -> str: ...
_INSERT = f"INSERT INTO jobs({','.join(_COLUMNS)}) VALUES {{rows}}"
_JSON = ('metadata', 'fields', 'result')

def _update(value: str, rows: str, app: str) -> str:
    """An `UPDATE`; `value` becomes the n-th of a row when `#` is n."""
    ...
_UPDATE = _update('v.column#', 'FROM (VALUES {rows}) AS v', '?')
_UPDATE_ONE = _update('?#', '', f'?{2 + len(_CHANGING)}')

@dataclass(slots=True)
class _Run:
    """Chunks, or lines, of one job that follow each other."""
    first: int
    texts: list[Any] = field(default_factory=list)

def _append(runs: list[_Run], number: int, text: Any) -> None: ...
_INSERT_TEXTS = 'INSERT OR REPLACE INTO {table}(job, first, texts) SELECT jobs.seq, v.column2, v.column3 FROM (VALUES {rows}) AS v JOIN jobs ON jobs.id=v.column1 WHERE jobs.app=?'
_INSERT_CHUNKS, _INSERT_LINES = (_INSERT_TEXTS.replace('{table}', table) for table in ('chunks', 'lines'))
_SET_PROGRESS = "UPDATE jobs SET progress=v.column2, status_message=v.column3 FROM (VALUES {rows}) AS v WHERE jobs.id=v.column1 AND jobs.app=? AND jobs.status='running'"
_DROP_CHUNKS = 'DELETE FROM chunks WHERE job=(SELECT seq FROM jobs WHERE id=? AND app=?) AND first<?'
_JOB = '(SELECT seq FROM jobs WHERE id=?1 AND app=?2)'
_DROP_LINES = f'DELETE FROM lines WHERE job={_JOB} AND first<(SELECT max(first) FROM lines WHERE job={_JOB} AND first<=?3)'
_SIGN_OUT = "DELETE FROM apps WHERE id=?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE app=?1 AND status IN ('pending', 'running'))"
_INTERRUPTED = 'the app died while the job ran'

def _interrupt(con: sqlite3.Connection, seqs: list[int]) -> None: ...

def _wait_again(con: sqlite3.Connection, seqs: list[int]) -> None: ...

def _rows(con: sqlite3.Connection, where: str, values: Sequence[Any]) -> Iterable[_Row]: ...
_FINISHED_CHARS = 32 * 2 ** 20

def read_jobs(con: sqlite3.Connection, worker_type: str | None=None, statuses: Collection[str]=(), limit: int=50, before: int | None=None) -> list[JobSummary]:
    """As `SQLiteJobStore.jobs`; each state by itself, so that each is a walk along the index."""
    ...

def _summary(row: Sequence[Any]) -> JobSummary: ...
_IDLE_SECONDS, _STEP_SECONDS = (1.0, 0.02)
_AGE_CHECK_SECONDS = 60.0
_MOST_FORGOTTEN, _MOST_PAGES, _SPARE_PAGES = (200, 256, 512)

def _forget(con: sqlite3.Connection, seqs: list[int]) -> int: ...

def _clear(con: sqlite3.Connection, worker_type: str) -> None: ...

def _log_error(what: Any) -> None: ...
