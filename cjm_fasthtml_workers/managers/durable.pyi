# Made by tools/stubs.py; edit the notebook, not this file.
"""What the engine does for a job store, so that jobs outlive the app."""
__all__ = ['IS_KEPT', 'DurableEngine', 'is_refused']
import asyncio
import functools
import itertools
from abc import ABCMeta
from collections.abc import Callable
from typing import Any
from fastcore.basics import patch
from ..core.channels import Sealed as Sealed, seal as seal
from ..core.errors import ManagerClosed as ManagerClosed, StoreClosed as StoreClosed
from ..core.protocol import Fault as Fault, JobStatus as JobStatus
from ..core.worker import error_line as error_line
from ..extensions.protocols import StoredJob as StoredJob
from .engine import UNSENT as UNSENT, Ending as Ending, JobEngine as JobEngine, current_hook as current_hook, failure as failure
from .jobs import JobLogs as JobLogs, JobRecord as JobRecord, Kept as Kept
from .supervisor import WorkerHandle as WorkerHandle

class DurableEngine(JobEngine, metaclass=ABCMeta):
    """An engine whose jobs may be kept in a file."""

    def _store_new(self, record: JobRecord) -> None:
        """Called with the lock held; the record leaves the book if it cannot be kept."""
        ...

    async def _wait_stored(self, record: JobRecord) -> None:
        """Until the job would survive; raises what the store says against it."""
        ...

    def _on_new_stored(self, record: JobRecord, error: BaseException | None) -> None:
        """In the store's thread."""
        ...

    def _unaccept(self, record: JobRecord) -> None: ...

    def _store_attempt(self, handle: WorkerHandle, record: JobRecord, request: dict[str, Any]) -> None:
        """Called with the lock held."""
        ...

    def _on_attempt_stored(self, handle: WorkerHandle, record: JobRecord, request: dict[str, Any], error: BaseException | None) -> None:
        """In the store's thread."""
        ...

    def _free_unsent(self, handle: WorkerHandle) -> None: ...

    def _is_kept_back(self, record: JobRecord) -> bool:
        """Whether it was given to a worker and not sent, and now will not be; called with the lock held."""
        ...

    def _store_waiting(self, record: JobRecord) -> None: ...

    def _store_end(self, record: JobRecord, end: Ending) -> None:
        """Called with the lock held."""
        ...

    def _on_end_stored(self, record: JobRecord, final: dict[str, Any]) -> None:
        """In the store's thread. The end may have become another one, if the result could not be stored."""
        ...

    def _when_told(self, record: JobRecord, do: Callable[[], Any]) -> None:
        """Now, or when its end is stored."""
        ...

    def _store_chunks(self, record: JobRecord, texts: list[str], metadata: dict[str, Any] | None=None) -> None:
        """They are numbered from the start of the attempt."""
        ...

    def _store_lines(self, record: JobRecord, many: int) -> None:
        """The last so many that it has printed."""
        ...

    def _store_progress(self, record: JobRecord) -> None: ...

    def _recover(self) -> None: ...

    def _record_from(self, stored: StoredJob) -> JobRecord: ...

    def _go_on_with_lines(self, record: JobRecord) -> None: ...

    def _run_recovered(self) -> None:
        """Begin with what the last app left. On the loop, or before there is one."""
        ...

    def _run_if_on_loop(self) -> None: ...

    def _find_again(self, record: JobRecord) -> None: ...

    def _from_file(self, job_id: str) -> JobRecord | None: ...

    def _known(self, job_id: str) -> JobRecord | None: ...

    async def _wait_in_file(self, job_id: str) -> Any:
        """The job, which ended long ago, or which another app runs; `JobNotFound` if there is none, or no more."""
        ...

    async def _look_again(self, record: JobRecord) -> bool:
        """Take up what another app's job has sent meanwhile."""
        ...

    async def _readable(self, job_id: str) -> JobRecord:
        """With its text, if that is still in the store; `JobNotFound` for an unknown id."""
        ...

    def _logs_of(self, job_id: str) -> JobLogs:
        """From the file, if the job has ended and they are not here, or if another app runs it."""
        ...

    def _close_store(self) -> None:
        """Write what is left; whoever waits for a job that is kept hears that it will not end here."""
        ...

    def _list_file(self, limit: int, known: set[str]) -> list[Any]: ...

def is_refused(record: JobRecord) -> bool: ...
_LOOK_SECONDS = 0.25
IS_KEPT = 'the manager was shut down; the job waits in its store'
