# Made by tools/stubs.py; edit the notebook, not this file.
"""A job store in one SQLite file: jobs that were accepted survive the death of the app, without a server."""
__all__ = ['Row', 'SQLiteJobStore', 'read_jobs']
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from fastcore.basics import patch
from ..core.config import check_int as check_int, check_number as check_number, check_word as check_word
from ..core.errors import ClassUnknown as ClassUnknown, JobNotFound as JobNotFound, NotStorable as NotStorable, StoreBusy as StoreBusy, StoreClosed as StoreClosed, StoreCorrupt as StoreCorrupt, StoreError as StoreError, StoreUnreachable as StoreUnreachable
from ..core.protocol import Fault as Fault, JobStatus as JobStatus
from .json_values import Classes as Classes, is_small as is_small, storable as storable, unstored as unstored
from .processes import LifeSign as LifeSign, is_alive as is_alive, this_process as this_process
from .protocols import JobSummary as JobSummary, Recovered as Recovered, StoredChunks as StoredChunks, StoredJob as StoredJob, StoredLines as StoredLines
from .store_file import CHANGING as CHANGING, COLUMNS as COLUMNS, ENDED as ENDED, PLAIN as PLAIN, SUMMARY as SUMMARY, VERSION as VERSION, apps_of as apps_of, check_header as check_header, check_schema as check_schema, connect as connect, make_file as make_file, marks as marks, sign_of as sign_of, store_error as store_error, upgrade as upgrade
from .store_rows import as_column as as_column, id_of_key as id_of_key, json_columns as json_columns, json_values as json_values, key_of_id as key_of_id, plain_columns as plain_columns, row_of as row_of, stored_of as stored_of
_log = logging.getLogger(__name__)

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

    def _changed_row(self, op: _Op) -> Row: ...

    def _rows_of(self, batch: list[_Op]) -> tuple[dict[str, Row], dict[str, Row], dict[str, Exception]]:
        """New rows and changed ones, by job id; and why a new one is refused, by key."""
        ...

    def _inserts(self, new: dict[str, Row]) -> list[_Statement]: ...

    def _updates(self, changed: dict[str, Row]) -> list[_Statement]: ...

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
Row = dict[str, Any]

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
_INSERT = f"INSERT INTO jobs({','.join(COLUMNS)}) VALUES {{rows}}"
_JSON = ('metadata', 'fields', 'result')

def _update(value: str, rows: str, app: str) -> str:
    """An `UPDATE`; `value` becomes the n-th of a row when `#` is n."""
    ...
_UPDATE = _update('v.column#', 'FROM (VALUES {rows}) AS v', '?')
_UPDATE_ONE = _update('?#', '', f'?{2 + len(CHANGING)}')

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

def _rows(con: sqlite3.Connection, where: str, values: Sequence[Any]) -> Iterable[Row]: ...
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
