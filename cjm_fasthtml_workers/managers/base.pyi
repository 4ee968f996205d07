# Made by tools/stubs.py; edit the notebook, not this file.
"""Abstract base class for managing background jobs with worker processes."""
from typing import Any as _Any
__all__ = ['BaseJobManager', 'BaseJob', 'JobType', 'WorkerEvent', 'JobLogs']
import asyncio
import atexit
import concurrent.futures
import contextlib
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
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic
from fastcore.basics import patch, patch_to
from ..core import context as context
from ..core.channels import Sealed as Sealed, Unreadable as Unreadable, plain_copy as plain_copy, seal as seal
from ..core.config import JobOptions as JobOptions, RestartPolicy as RestartPolicy, WorkerConfig as WorkerConfig
from ..core.errors import ChannelClosed as ChannelClosed, JobNotFound as JobNotFound, JobQueueFull as JobQueueFull, ManagerClosed as ManagerClosed, MessageTooLarge as MessageTooLarge, StoreClosed as StoreClosed, WorkerStartError as WorkerStartError
from ..core.masking import MASK as MASK, secret_values as secret_values
from ..core.protocol import Fault as Fault, JobStatus as JobStatus, WorkerRequestType as WorkerRequestType, WorkerStreamChunk as WorkerStreamChunk
from ..core.worker import error_line as error_line, error_traceback as error_traceback, readable_line as readable_line
from ..extensions.protocols import EventBroadcasterProtocol as EventBroadcasterProtocol, JobStore as JobStore, PluginRegistryProtocol as PluginRegistryProtocol, ResourceManagerProtocol as ResourceManagerProtocol, StoredJob as StoredJob
from .events import CallbackThreads as CallbackThreads, EventHub as EventHub, EventStream as EventStream, Wakeups as Wakeups, WorkerEvent as WorkerEvent
from .jobs import BaseJob as BaseJob, JobBook as JobBook, JobLogs as JobLogs, JobRecord as JobRecord, JobType as JobType, Kept as Kept, SentAhead as SentAhead, TextRead as TextRead, is_finished as is_finished, pick_worker as pick_worker
from .supervisor import LEASE_SECONDS as LEASE_SECONDS, ForkServer as ForkServer, Guard as Guard, Launch as Launch, Lease as Lease, RestartBudget as RestartBudget, Supervisor as Supervisor, Timer as Timer, WorkerHandle as WorkerHandle, backoff_seconds as backoff_seconds
_all_ = ['BaseJob', 'JobType', 'WorkerEvent', 'JobLogs']
_log = logging.getLogger(__name__)

@dataclass(eq=False)
class _Slot:
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

class BaseJobManager(ABC, Generic[JobType]):
    """Abstract base class for managing jobs using worker processes."""
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

    def __init__(self, worker_type: str, category: Any, supports_streaming: bool=False, worker_config: WorkerConfig | None=None, plugin_registry: PluginRegistryProtocol | None=None, resource_manager: ResourceManagerProtocol | None=None, event_broadcaster: EventBroadcasterProtocol | None=None, job_store: JobStore | None=None, on_start: str='run'):
        """Initialize the job manager."""
        ...

    @abstractmethod
    def create_job(self, plugin_id: str, **kwargs: Any) -> JobType:
        """Factory method for creating domain-specific jobs."""
        ...

    @abstractmethod
    def get_worker_entry_point(self) -> Callable:
        """Return the worker process function for this manager."""
        ...

    @abstractmethod
    def prepare_execute_request(self, job: JobType) -> dict[str, Any]:
        """Convert job to worker execute request parameters."""
        ...

    @abstractmethod
    def extract_job_result(self, job: JobType, result_data: dict[str, Any]) -> dict[str, Any]:
        """Extract and format job result from worker response."""
        ...

    def _begin(self) -> None: ...

    def _extract_plugin_resource_identifier(self, config: dict[str, Any]) -> str:
        """Extract plugin resource identifier from plugin configuration."""
        ...

    async def _validate_resources(self, plugin_id: str, plugin_config: dict[str, Any]) -> str | None:
        """Validate resources before starting a job."""
        ...

    def get_plugin_name(self, plugin_id: str) -> str | None:
        """Get plugin name from plugin ID; without a plugin registry the ID is the name."""
        ...

    def _find_plugin(self, plugin_id: str) -> tuple[str, dict[str, Any]]:
        """Name and configuration of a plugin; `ValueError` if there is none."""
        ...

    async def start_job(self, /, plugin_id: str, *, job_options: JobOptions | None=None, **kwargs: Any) -> JobType:
        """Start a new job; it is `running` if an idle worker took it, else `pending`."""
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

    def _start_in(self, slot: _Slot) -> None:
        """Start the next generation in `slot`. In the supervisor's thread."""
        ...

    def _new_handle(self, slot: _Slot) -> WorkerHandle: ...

    def _launch_of(self, slot: _Slot) -> Launch: ...

    def _take_standby(self, slot: _Slot) -> WorkerHandle | None:
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

    def get_plugin_configs(self, with_registry: bool=True) -> dict[str, dict[str, Any]]:
        """The configurations that this manager's plugins are given, as far as they are known."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether it was shut down: it takes no more jobs."""
        ...

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

    def _answer_start(self, slot: _Slot, error: WorkerStartError | None) -> None: ...

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

    def _extract(self, record: JobRecord, data: Any) -> _Ending: ...

    def _settle(self, record: JobRecord, ending: _Ending) -> None:
        """The run of a job is over: note how, free its worker, go on with the next job."""
        ...

    def _note_end(self, record: JobRecord, ending: _Ending) -> None:
        """Put the end into the book and tell; called with the lock held."""
        ...

    def _tell_end(self, record: JobRecord) -> None: ...

    def _free(self, handle: WorkerHandle) -> None: ...

    def _may_retry(self, record: JobRecord, ending: _Ending) -> bool: ...

    def _try_again(self, record: JobRecord) -> None: ...

    def _wait_again(self, record: JobRecord) -> None: ...

    def _is_left(self, record: JobRecord, ending: _Ending) -> bool:
        """Whether the next app may run a job that this one stops with: as if this one had been killed."""
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

    def get_job_logs(self, job_id: str) -> JobLogs:
        """What the job printed and logged; `JobNotFound` for an unknown id."""
        ...

    def on_exit(self, handle: WorkerHandle) -> None:
        """A worker is gone. In the supervisor's thread."""
        ...

    def _lost_standby(self) -> None: ...

    def _may_take_back(self, handle: WorkerHandle, record: JobRecord) -> bool:
        """Whether the worker died before it had read anything of this job: then it is nobody's crash."""
        ...

    def _take_back(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _crash(self, handle: WorkerHandle, record: JobRecord) -> _Ending:
        """What the death of its worker means for a job."""
        ...

    def _handle_worker_error(self, handle: WorkerHandle | None=None) -> None:
        """Handle worker fatal error based on restart policy."""
        ...

    def _after_failure(self, slot: _Slot, handle: WorkerHandle | None) -> None: ...

    def _give_up(self, slot: _Slot, handle: WorkerHandle | None) -> None: ...

    def _start_failed(self, slot: _Slot, error: WorkerStartError) -> None:
        """There was not even a process."""
        ...

    def _on_start_timeout(self, handle: WorkerHandle) -> None: ...

    def _restart_worker(self) -> None:
        """Restart the worker process after an error or cancellation."""
        ...

    def _restart_all(self) -> None: ...

    def _stop_job(self, handle: WorkerHandle, record: JobRecord, ending: _Ending, reason: str, wait: bool=False) -> None:
        """End a job that runs, politely if it listens; with `wait` also if it does not."""
        ...

    def _make_stop(self, handle: WorkerHandle, record: JobRecord, ending: _Ending, reason: str) -> None: ...

    def _on_deadline(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _on_load_timeout(self, handle: WorkerHandle, record: JobRecord) -> None: ...

    def _time_out(self, handle: WorkerHandle, record: JobRecord, fault: Fault, error: str) -> None: ...

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job: take it out of the backlog, or end its run."""
        ...

    def _cancel(self, record: JobRecord, ticket: concurrent.futures.Future) -> None: ...

    def _answer_cancel(self, record: JobRecord, ticket: concurrent.futures.Future, is_by_us: bool=True) -> None: ...

    def _is_waiting(self, record: JobRecord) -> bool:
        """Whether a job has not begun, and will not without us; called with the lock held."""
        ...

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

    def _store_end(self, record: JobRecord, end: _Ending) -> None:
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

    async def list_jobs(self, limit: int=1000) -> list[JobType]:
        """All jobs in memory and, with a store, also older ones and those of other apps."""
        ...

    def _list_file(self, limit: int, known: set[str]) -> list[Any]: ...

    def pause(self) -> None:
        """Begin no more jobs; those that run go on, and new ones are accepted."""
        ...

    def resume(self) -> None:
        """Begin with the jobs that wait."""
        ...

    def _run_waiting(self) -> None: ...

    def get_job(self, job_id: str) -> JobType | None:
        """Get a job by ID."""
        ...

    def get_job_options(self, job_id: str) -> JobOptions | None:
        """Get the options that a job was started with."""
        ...

    def get_all_jobs(self) -> list[JobType]:
        """Get all jobs, in the order in which they were started."""
        ...

    def get_backlog(self) -> list[JobType]:
        """Get the jobs that wait."""
        ...

    def get_job_result(self, job_id: str) -> dict[str, Any] | None:
        """Get job result: its `status` is 'success' (with `data`), 'error' (with `error`) or 'cancelled'."""
        ...

    def clear_completed_jobs(self) -> int:
        """Clear completed, failed, and cancelled jobs."""
        ...

    async def wait_for_job(self, job_id: str, timeout: float | None=None) -> JobType:
        """Wait until a job has ended; `TimeoutError` after `timeout`, `JobNotFound` for an unknown id."""
        ...

    def _forget_waiter(self, waiters: list[asyncio.Future], sleeper: asyncio.Future) -> None:
        """A caller that goes away leaves nothing behind."""
        ...

    def stream_job(self, job_id: str) -> AsyncIterator[WorkerStreamChunk]:
        """The chunks of a job, those it has sent and those it will; ends with the job. `JobNotFound` for an unknown id."""
        ...

    async def read_text(self, job_id: str, position: int | None=None) -> TextRead:
        """The text that a job has streamed, without waiting for more; `JobNotFound` for an unknown id."""
        ...

    def events(self, job_id: str | None=None) -> EventStream:
        """What happens from now on; `JobNotFound` for an unknown id."""
        ...

    async def broadcast_event(self, event_type: str, data: dict[str, Any]) -> None:
        """Broadcast an event to all connected SSE clients (requires event broadcaster)."""
        ...

    async def _command(self, type: WorkerRequestType, timeout: float, accept: Callable[[], None] | None=None, is_needed: Callable[[WorkerHandle], bool]=lambda handle: True, **data: Any) -> list[dict[str, Any]]:
        """What each worker answers; a worker that dies, or does not answer in time, has `ok` False.
        `accept` is called by the supervisor when a worker agrees, also if that is too late for the caller."""
        ...

    async def unload_plugin(self, plugin_name: str) -> bool:
        """Unload a plugin from the worker to free resources."""
        ...

    async def reload_plugin(self, plugin_name: str, config: dict[str, Any]) -> bool:
        """Reload a plugin with new configuration; every later worker gets it too."""
        ...

    async def get_worker_state(self) -> dict[str, Any] | None:
        """What the worker has loaded: `pid`, `current_plugin`, `current_config`, `loaded_plugins`."""
        ...

    def check_streaming_support(self, plugin_id: str) -> bool:
        """Check if a plugin supports streaming; before there was a worker, what the manager was told."""
        ...

    async def start(self) -> None:
        """Start all workers and wait until they are ready; `WorkerStartError` with the worker's traceback if one is not."""
        ...

    def get_stats(self) -> dict[str, Any]:
        """Numbers about the manager and each of its workers."""
        ...

    @property
    def worker_process(self) -> WorkerHandle | None:
        """The first worker, with `pid`, `exitcode` and `is_alive()`; None if there is none."""
        ...

    @property
    def restart_count(self) -> int:
        """How often workers were restarted."""
        ...

    @property
    def monitor_running(self) -> bool:
        """Whether the thread runs that reads results."""
        ...

    @property
    def result_monitor_thread(self) -> threading.Thread | None:
        """The thread that reads results."""
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

    async def aclose(self) -> None:
        """Shut down without blocking the event loop."""
        ...

    def _close_unused(self) -> None: ...

    def _close(self) -> Supervisor | None: ...

    def _begin_shutdown(self) -> None: ...

    def _shut_down_worker(self, handle: WorkerHandle) -> None: ...

    def _end_if_gone(self) -> None: ...

    def lifespan(self, app: Any=None) -> _Lifespan:
        """For `fast_app(lifespan=manager.lifespan)` or `Starlette(lifespan=...)`: shuts the manager down with the app."""
        ...
_OWN_KEYS = frozenset({'params', 'plugin_name', 'stream', 'job_id', 'type'})

def _split_request(request: Mapping[str, Any], job_id: str, plugin_name: str) -> tuple[str, bool, dict[str, Any]]:
    """Plugin name, stream or not, parameters."""
    ...

def _snapshot(params: dict[str, Any], max_bytes: int) -> Sealed | dict[str, Any]:
    """`params` as they are now; raises what `_seal_params` raises."""
    ...

def _seal_params(params: dict[str, Any], max_bytes: int) -> Sealed:
    """`TypeError` names the one that cannot be pickled, `MessageTooLarge` says the size."""
    ...

def _why_unpicklable(params: dict[str, Any]) -> str | None: ...
_PLAIN_OPTIONS = JobOptions()

def _options_of(job: BaseJob) -> JobOptions: ...
_UNSENT = sys.maxsize

def _is_free(handle: WorkerHandle) -> bool: ...

def _event_data(job: BaseJob) -> dict[str, Any]: ...
_AHEAD_SECONDS = 0.002
_MOST_AHEAD = 64
_FIRST_JOBS = 16

def _may_go_ahead(handle: WorkerHandle, record: JobRecord) -> bool:
    """Whether nothing about it could take long but the job itself."""
    ...

def _shutdown_at_exit(manager: 'weakref.ref[BaseJobManager]') -> None: ...
_STANDBY_DELAY_SECONDS = 1.0
_QUICK_BYTES = 256 * 1024
_QUICK_CHUNKS = 64

def _is_plain_result(message: dict[str, Any]) -> bool: ...
_TEXTS = ('stream_chunk', 'stream_chunks')
_FROM_JOB = {'stream_chunk': '_handle_stream_chunk', 'progress': '_handle_progress', 'stream_chunks': '_handle_stream_chunks', 'cooperates': '_handle_cooperates', 'loading': '_handle_loading', 'loaded': '_handle_loaded'}

def _on_ready(self: BaseJobManager, handle: WorkerHandle, message: dict[str, Any]) -> None: ...

def _load_failure(ready: dict[str, Any]) -> WorkerStartError | None:
    """If nothing could be loaded, why."""
    ...

def _on_start_error(self: BaseJobManager, handle: WorkerHandle, message: dict[str, Any]) -> None: ...

def _on_response(self: BaseJobManager, handle: WorkerHandle, message: dict[str, Any]) -> None: ...
_FROM_WORKER = {'ready': _on_ready, 'error': _on_start_error, 'response': _on_response}

def _resolve(ticket: concurrent.futures.Future | None, value: Any) -> None: ...

@dataclass(slots=True)
class _Ending:
    status: JobStatus
    fault: Fault | None = None
    error: str | None = None
    traceback: str | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    killed_worker: bool = False

def _failed(fault: Fault, error: str, traceback: str | None=None, **kwargs: Any) -> _Ending: ...

def _fault(word: Any) -> Fault:
    """A worker of the app's own may use words of its own."""
    ...

def _text_or_none(text: Any) -> str | None: ...
_RETRIED = (Fault.WORKER_CRASHED, Fault.OUT_OF_MEMORY, Fault.PLUGIN_ERROR)

def _quarantined(record: JobRecord, ending: _Ending) -> _Ending: ...
_hooked: ContextVar[JobRecord | None] = ContextVar('hooked', default=None)
_MAX_LINE = 8192
_MOST_LINES = 100

def _printed(line: bytes) -> str: ...

def _start_error(slot: _Slot, handle: WorkerHandle | None) -> WorkerStartError: ...

def _is_refused(record: JobRecord) -> bool: ...
_LOOK_SECONDS = 0.25
_ELSEWHERE = 'another app runs this job, and its events are told there; wait_for_job and stream_job follow it here'
_IS_KEPT = 'the manager was shut down; the job waits in its store'
_PLACES = 2 ** 32

def _read_from(record: JobRecord, position: int | None) -> TextRead:
    """A place counts from the start of its attempt: so it is the same in memory, in the file and after a restart."""
    ...

def _all_ok(answers: list[dict[str, Any]], what: str) -> bool: ...

class _Lifespan:
    """Both an async context manager and an async iterator of one item."""
    _manager: BaseJobManager
    _steps: int

    def __init__(self, manager: BaseJobManager): ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc: Any) -> None: ...

    def __aiter__(self) -> '_Lifespan': ...

    async def __anext__(self) -> None: ...
