# Made by tools/stubs.py; edit the notebook, not this file.
"""Gives jobs to workers, and sees each of them to its end."""
from typing import Any as _Any
__all__ = ['UNSENT', 'current_hook', 'Slot', 'NoStore', 'JobEngine', 'seal_params', 'event_data', 'Ending', 'failure']
import asyncio
import atexit
import concurrent.futures
import functools
import itertools
import logging
import math
import os
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from fastcore.basics import patch
from ..core import context as context
from ..core.channels import Sealed as Sealed, Unreadable as Unreadable, plain_copy as plain_copy, seal as seal
from ..core.config import JobOptions as JobOptions, RestartPolicy as RestartPolicy, WorkerConfig as WorkerConfig
from ..core.errors import ChannelClosed as ChannelClosed, JobQueueFull as JobQueueFull, ManagerClosed as ManagerClosed, MessageTooLarge as MessageTooLarge, WorkerStartError as WorkerStartError
from ..core.masking import MASK as MASK, secret_values as secret_values
from ..core.protocol import Fault as Fault, JobStatus as JobStatus, WorkerRequestType as WorkerRequestType
from ..core.worker import error_line as error_line, error_traceback as error_traceback, readable_line as readable_line
from ..extensions.protocols import EventBroadcasterProtocol as EventBroadcasterProtocol, JobStore as JobStore, PluginRegistryProtocol as PluginRegistryProtocol, ResourceManagerProtocol as ResourceManagerProtocol
from .events import CallbackThreads as CallbackThreads, EventHub as EventHub, Wakeups as Wakeups
from .forkserver import ForkServer as ForkServer
from .jobs import BaseJob as BaseJob, JobBook as JobBook, JobRecord as JobRecord, Kept as Kept, SentAhead as SentAhead, pick_worker as pick_worker
from .supervisor import Launch as Launch, Lease as Lease, RestartBudget as RestartBudget, WorkerHandle as WorkerHandle, backoff_seconds as backoff_seconds
from .thread import Guard as Guard, Supervisor as Supervisor, Timer as Timer
_log = logging.getLogger(__name__)

@dataclass(eq=False)
class Slot:
    """A place for one worker after the other, and its history."""
    index: int
    budget: RestartBudget
    handle: WorkerHandle | None = None
    generation: int = 0
    restarts: int = 0
    pause: Timer | None = None
    loaded: list[str] | None = None
    gave_up: bool = False
    last_error: str = ''
    waiters: list[concurrent.futures.Future] = field(default_factory=list)

    @property
    def is_empty(self) -> bool: ...

class NoStore:
    """What an engine does for its job store, if there is none."""

    def _recover(self) -> None:
        """Take over what the last app left."""
        ...

    def _store_new(self, record: JobRecord) -> None:
        """Keep a job that was accepted."""
        ...

    def _store_attempt(self, handle: WorkerHandle, record: JobRecord, request: dict[str, Any]) -> None:
        """Keep a run."""
        ...

    def _store_waiting(self, record: JobRecord) -> None:
        """Keep that it waits again."""
        ...

    def _store_end(self, record: JobRecord, end: Any) -> None:
        """Keep how it ended, and show it then."""
        ...

    def _store_chunks(self, record: JobRecord, texts: list[str], metadata: Any=None) -> None:
        """Keep text."""
        ...

    def _store_lines(self, record: JobRecord, many: int) -> None:
        """Keep the last lines that it printed."""
        ...

    def _store_progress(self, record: JobRecord) -> None:
        """Keep how far it is."""
        ...

    def _is_kept_back(self, record: JobRecord) -> bool: ...

    def _when_told(self, record: JobRecord, do: Callable[[], Any]) -> None: ...

    def _close_store(self) -> None:
        """Write what is left."""
        ...

class JobEngine(NoStore, ABC):
    """Gives jobs to workers, and sees each of them to its end."""
    worker_type: str
    category: Any
    supports_streaming: bool
    worker_config: WorkerConfig
    plugin_registry: PluginRegistryProtocol | None
    resource_manager: ResourceManagerProtocol | None
    event_broadcaster: EventBroadcasterProtocol | None
    job_store: JobStore | None
    _is_paused: _Any
    last_restart_time: float | None
    _store: JobStore
    _plugin_configs: dict[str, Any]
    _streaming_plugins: set[str] | None
    _supervisor: Supervisor
    _standbys: list[WorkerHandle]
    _fork_server: ForkServer | None
    _at_exit: Callable[[], None] | None
    _secrets: tuple[str, ...]
    _recovered: list[JobRecord]
    _listed: dict[str, JobRecord]

    def __init__(self, worker_type: str, category: Any, supports_streaming: bool, worker_config: WorkerConfig | None, plugin_registry: PluginRegistryProtocol | None, resource_manager: ResourceManagerProtocol | None, event_broadcaster: EventBroadcasterProtocol | None, job_store: JobStore | None, on_start: str): ...

    @abstractmethod
    def prepare_execute_request(self, job: Any) -> dict[str, Any]:
        """What the plugin is to get for a job."""
        ...

    @abstractmethod
    def get_worker_entry_point(self) -> Callable:
        """What runs in a worker."""
        ...

    @abstractmethod
    def extract_job_result(self, job: Any, result_data: dict[str, Any]) -> dict[str, Any]:
        """What is kept of an answer."""
        ...

    def _begin(self) -> None: ...

    def get_plugin_name(self, plugin_id: str) -> str | None:
        """Get plugin name from plugin ID; without a plugin registry the ID is the name."""
        ...

    def _find_plugin(self, plugin_id: str) -> tuple[str, dict[str, Any]]:
        """Name and configuration of a plugin; `ValueError` if there is none."""
        ...

    def _make_record(self, job: Any, plugin_name: str, config: dict[str, Any], options: JobOptions) -> JobRecord: ...

    def _accept(self, record: JobRecord) -> None: ...

    def _idle(self) -> list[WorkerHandle]: ...

    def _hand_over(self) -> None:
        """Give waiting jobs to workers; called with the lock held, so that a worker gets them in the order of the book."""
        ...

    def _send_job(self, handle: WorkerHandle, record: JobRecord, request: dict[str, Any]) -> None: ...

    def _note_start(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _request(self, handle: WorkerHandle, record: JobRecord) -> dict[str, Any]: ...

    def _timeout_of(self, record: JobRecord) -> float | None: ...

    def _set_deadline(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _tell(self, name: str, record: JobRecord, **more: Any) -> None: ...

    def _tell_worker(self, name: str, handle: WorkerHandle) -> None: ...

    def _room_ahead(self, handle: WorkerHandle) -> int:
        """How many jobs more may be sent to a busy worker; many at once cost less."""
        ...

    def _note_pace(self, handle: WorkerHandle, seconds: float) -> None:
        """A job took so long; how many such jobs may lie in the pipe?"""
        ...

    def _send_ahead(self, handle: WorkerHandle | None) -> None: ...

    def _call_back(self, handle: WorkerHandle, only: JobRecord | None=None) -> bool:
        """Take jobs back that were sent ahead and have not begun; they never will. False: there were none."""
        ...

    def _begin_next(self, handle: WorkerHandle) -> None:
        """The job is over: the worker has begun the next one that it was sent, or will at once."""
        ...

    def _running_supervisor(self) -> Supervisor: ...

    def _refuse_forks(self) -> None: ...

    def _monitor_results(self) -> None:
        """Monitor the result queue in a background thread."""
        ...

    def _start_worker(self) -> None:
        """Start the worker process and result monitor."""
        ...

    def _missing_workers(self) -> int:
        """How many workers the backlog needs and has not; called with the lock held."""
        ...

    def _start_missing(self, at_least: int=0) -> None: ...

    def _run_waiting(self) -> None: ...

    def _start_in(self, slot: Slot) -> None:
        """Start the next generation in `slot`. In the supervisor's thread."""
        ...

    def _new_handle(self, slot: Slot) -> WorkerHandle: ...

    def _launch_of(self, slot: Slot) -> Launch: ...

    def _take_standby(self, slot: Slot) -> WorkerHandle | None:
        """A standby with the environment of this slot, which is no standby any more."""
        ...

    def _fill_standbys(self) -> None:
        """Start the standbys that are missing, each for the slot that has fewest."""
        ...

    def _init_worker(self, handle: WorkerHandle | None=None) -> None:
        """Send initialization message to worker with plugin configurations."""
        ...

    def _keep_secret(self, *configs: Mapping[str, Any]) -> None:
        """Show nobody what stands under secret names in these."""
        ...

    def _hide(self, text: str) -> str: ...

    def _registry_configs(self) -> dict[str, Any]: ...

    def on_message(self, handle: WorkerHandle, message: Any) -> None:
        """A worker said something. In the supervisor's thread."""
        ...

    def is_quick(self, handle: WorkerHandle, message: Any) -> bool:
        """Whether an event loop may act on this message: no code of anybody else's, nothing large, nothing that can wait."""
        ...

    def _lend(self, handle: WorkerHandle) -> None:
        """Let the running loop read what this worker sends, if that is of use."""
        ...

    def on_nonsense(self, handle: WorkerHandle, message: Any, error: Exception) -> None:
        """A message could not be handled; if it should have been a result, there will be no other."""
        ...

    def _distrust(self, handle: WorkerHandle, record: JobRecord, error: str) -> None:
        """Nobody knows what it was that could not be read, and whether the plugin still runs: this worker gets no other job."""
        ...

    def _note_loaded(self, handle: WorkerHandle, message: dict[str, Any]) -> None: ...

    def _answer_start(self, slot: Slot, error: WorkerStartError | None) -> None: ...

    def _handle_stream_chunk(self, chunk_data: dict[str, Any]) -> None:
        """Handle a streaming chunk from the worker."""
        ...

    def _handle_stream_chunks(self, message: dict[str, Any]) -> None: ...

    def _handle_progress(self, message: dict[str, Any]) -> None: ...

    def _handle_cooperates(self, message: dict[str, Any]) -> None: ...

    def _handle_loading(self, message: dict[str, Any]) -> None:
        """The job waits for its plugin: that counts against the start-up limit, not against the job's own."""
        ...

    def _handle_loaded(self, message: dict[str, Any]) -> None: ...

    def _handle_job_result(self, result: dict[str, Any]) -> None:
        """Handle a job result from the worker."""
        ...

    def _occupant(self, job_id: str) -> JobRecord | None:
        """Which worker runs this job; one that timed out may be gone from the book, and its worker not yet free."""
        ...

    def _extract(self, record: JobRecord, data: Any) -> Ending: ...

    def _settle(self, record: JobRecord, ending: Ending) -> None:
        """The run of a job is over: note how, free its worker, go on with the next job."""
        ...

    def _note_end(self, record: JobRecord, ending: Ending) -> None:
        """Put the end into the book and tell; called with the lock held."""
        ...

    def _tell_end(self, record: JobRecord) -> None: ...

    def _free(self, handle: WorkerHandle) -> None: ...

    def _may_retry(self, record: JobRecord, ending: Ending) -> bool: ...

    def _try_again(self, record: JobRecord) -> None: ...

    def _wait_again(self, record: JobRecord) -> None: ...

    def _is_left(self, record: JobRecord, ending: Ending) -> bool:
        """Whether the next app may run a job that fails while this one stops: as if this one had been killed."""
        ...

    def _leave(self, record: JobRecord) -> None:
        """For the next app; it has not begun there."""
        ...

    def _requeue(self, record: JobRecord) -> None:
        """The pause before another attempt is over."""
        ...

    def _on_job_completed(self, job_id: str) -> None:
        """Hook called when a job completes successfully."""
        ...

    def _on_job_finished(self, job_id: str) -> None:
        """Hook called when a job ended, however it ended."""
        ...

    def _run_hooks(self, record: JobRecord) -> None: ...

    def _call_hook(self, hook: Callable[[str], Any], record: JobRecord) -> None: ...

    def _after_job(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _stop_idle(self, handle: WorkerHandle) -> None: ...

    def _is_worn(self, handle: WorkerHandle) -> bool: ...

    def _replace(self, handle: WorkerHandle) -> None: ...

    def on_output(self, handle: WorkerHandle, data: bytes) -> None:
        """A worker printed something. In the supervisor's thread."""
        ...

    def _note_lines(self, record: JobRecord, texts: list[str]) -> None: ...

    def _read_output(self, handle: WorkerHandle) -> None:
        """Read what the job printed up to its result."""
        ...

    def on_exit(self, handle: WorkerHandle) -> None:
        """A worker is gone. In the supervisor's thread."""
        ...

    def _lost_standby(self) -> None: ...

    def _may_take_back(self, handle: WorkerHandle, record: JobRecord) -> bool:
        """Whether the worker died before it had read anything of this job: then it is nobody's crash."""
        ...

    def _take_back(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _crash(self, handle: WorkerHandle, record: JobRecord) -> Ending:
        """What the death of its worker means for a job."""
        ...

    def _handle_worker_error(self, handle: WorkerHandle | None=None) -> None:
        """Handle worker fatal error based on restart policy."""
        ...

    def _after_failure(self, slot: Slot, handle: WorkerHandle | None) -> None: ...

    def _give_up(self, slot: Slot, handle: WorkerHandle | None) -> None: ...

    def _start_failed(self, slot: Slot, error: WorkerStartError) -> None:
        """There was not even a process."""
        ...

    def _on_start_timeout(self, handle: WorkerHandle) -> None: ...

    def _restart_worker(self) -> None:
        """Restart the worker process after an error or cancellation."""
        ...

    def _restart_all(self) -> None: ...

    def _stop_job(self, handle: WorkerHandle, record: JobRecord, ending: Ending, reason: str, wait: bool=False) -> None:
        """End a job that runs, politely if it listens; with `wait` also if it does not."""
        ...

    def _make_stop(self, handle: WorkerHandle, record: JobRecord, ending: Ending, reason: str) -> None: ...

    def _on_deadline(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _on_load_timeout(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _time_out(self, handle: WorkerHandle, record: JobRecord, fault: Fault, error: str) -> None: ...

    def _cancel(self, record: JobRecord, ticket: concurrent.futures.Future) -> None: ...

    def _answer_cancel(self, record: JobRecord, ticket: concurrent.futures.Future, is_by_us: bool=True) -> None: ...

    def _is_for_next_app(self, record: JobRecord) -> bool:
        """Whether this app stops and the job waits in its store, where an end might not be written any more."""
        ...

    def _is_waiting(self, record: JobRecord) -> bool:
        """Whether a job has not begun, and will not without us; called with the lock held."""
        ...

    def _extract_plugin_resource_identifier(self, config: dict[str, Any]) -> str:
        """Extract plugin resource identifier from plugin configuration."""
        ...

    def _report(self, method: str, *args: Any, **kwargs: Any) -> None: ...

    def _report_running(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _report_loaded(self, plugin_name: str, config: dict[str, Any]) -> None:
        """After a reload or, with an empty name, an unload."""
        ...

    def _registry_config(self, plugin_id: str) -> dict[str, Any]: ...

    def shutdown(self) -> None:
        """Shutdown the manager and cleanup resources."""
        ...

    def _is_interrupted(self) -> bool:
        """Whether this is a signal handler, above a frame that holds a lock which the supervisor needs."""
        ...

    def _close_unused(self) -> None: ...

    def _close(self) -> Supervisor | None: ...

    def _begin_shutdown(self) -> None: ...

    def _shut_down_worker(self, handle: WorkerHandle) -> None: ...

    def _end_if_gone(self) -> None: ...
_OWN_KEYS = frozenset({'params', 'plugin_name', 'stream', 'job_id', 'type'})

def _split_request(request: Mapping[str, Any], job_id: str, plugin_name: str) -> tuple[str, bool, dict[str, Any]]:
    """Plugin name, stream or not, parameters."""
    ...

def _snapshot(params: dict[str, Any], max_bytes: int) -> Sealed | dict[str, Any]:
    """`params` as they are now; raises what `seal_params` raises."""
    ...

def seal_params(params: dict[str, Any], max_bytes: int) -> Sealed:
    """`TypeError` names the one that cannot be pickled, `MessageTooLarge` says the size."""
    ...

def _why_unpicklable(params: dict[str, Any]) -> str | None: ...
UNSENT = sys.maxsize

def _is_free(handle: WorkerHandle) -> bool: ...

def event_data(job: BaseJob) -> dict[str, Any]: ...
_AHEAD_SECONDS = 0.002
_MOST_AHEAD = 64
_FIRST_JOBS = 16

def _may_go_ahead(handle: WorkerHandle, record: JobRecord) -> bool:
    """Whether nothing about it could take long but the job itself."""
    ...

def _shutdown_at_exit(manager: 'weakref.ref[JobEngine]') -> None: ...
_STANDBY_DELAY_SECONDS = 1.0
_QUICK_BYTES = 256 * 1024
_QUICK_CHUNKS = 64

def _is_plain_result(message: dict[str, Any]) -> bool: ...
_TEXTS = ('stream_chunk', 'stream_chunks')
_FROM_JOB = {'stream_chunk': '_handle_stream_chunk', 'progress': '_handle_progress', 'stream_chunks': '_handle_stream_chunks', 'cooperates': '_handle_cooperates', 'loading': '_handle_loading', 'loaded': '_handle_loaded'}

def _on_ready(self: JobEngine, handle: WorkerHandle, message: dict[str, Any]) -> None: ...

def _load_failure(ready: dict[str, Any]) -> WorkerStartError | None:
    """If nothing could be loaded, why."""
    ...

def _on_start_error(self: JobEngine, handle: WorkerHandle, message: dict[str, Any]) -> None: ...

def _on_response(self: JobEngine, handle: WorkerHandle, message: dict[str, Any]) -> None: ...
_FROM_WORKER = {'ready': _on_ready, 'error': _on_start_error, 'response': _on_response}

def _resolve(ticket: concurrent.futures.Future | None, value: Any) -> None: ...

@dataclass(slots=True)
class Ending:
    status: JobStatus
    fault: Fault | None = None
    error: str | None = None
    traceback: str | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    killed_worker: bool = False

def failure(fault: Fault, error: str, traceback: str | None=None, **kwargs: Any) -> Ending: ...

def _fault(word: Any) -> Fault:
    """A worker of the app's own may use words of its own."""
    ...

def _text_or_none(text: Any) -> str | None: ...
_RETRIED = (Fault.WORKER_CRASHED, Fault.OUT_OF_MEMORY, Fault.PLUGIN_ERROR)

def _quarantined(record: JobRecord, ending: Ending) -> Ending: ...
current_hook: ContextVar[tuple[Any, JobRecord] | None] = ContextVar('hook', default=None)
_MAX_LINE = 8192
_MOST_LINES = 100

def _printed(line: bytes) -> str: ...

def _start_error(slot: Slot, handle: WorkerHandle | None) -> WorkerStartError: ...
