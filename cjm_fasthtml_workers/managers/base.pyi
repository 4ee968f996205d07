# Made by tools/stubs.py; edit the notebook, not this file.
"""Abstract base class for managing background jobs with worker processes."""
from typing import Any as _Any
__all__ = ['BaseJobManager', 'BaseJob', 'JobType', 'WorkerEvent', 'JobLogs']
import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic
from fastcore.basics import patch, patch_to
from ..core.config import JobOptions as JobOptions, WorkerConfig as WorkerConfig
from ..core.errors import JobNotFound as JobNotFound, ManagerClosed as ManagerClosed
from ..core.channels import Sealed as Sealed
from ..core.protocol import JobStatus as JobStatus, WorkerRequestType as WorkerRequestType, WorkerStreamChunk as WorkerStreamChunk
from ..extensions.protocols import EventBroadcasterProtocol as EventBroadcasterProtocol, JobStore as JobStore, PluginRegistryProtocol as PluginRegistryProtocol, ResourceManagerProtocol as ResourceManagerProtocol
from .durable import IS_KEPT as IS_KEPT, DurableEngine as DurableEngine, is_refused as is_refused
from .engine import Ending as Ending, event_data as event_data, seal_params as seal_params
from .events import EventStream as EventStream, WorkerEvent as WorkerEvent
from .jobs import BaseJob as BaseJob, JobLogs as JobLogs, JobRecord as JobRecord, JobType as JobType, TextRead as TextRead, is_finished as is_finished
from .supervisor import LEASE_SECONDS as LEASE_SECONDS, WorkerHandle as WorkerHandle
_all_ = ['BaseJob', 'JobType', 'WorkerEvent', 'JobLogs']
_log = logging.getLogger(__name__)

class BaseJobManager(DurableEngine, Generic[JobType]):
    """Abstract base class for managing jobs using worker processes."""
    _has_checks: _Any

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

    async def _validate_resources(self, plugin_id: str, plugin_config: dict[str, Any]) -> str | None:
        """Validate resources before starting a job."""
        ...

    async def start_job(self, /, plugin_id: str, *, job_options: JobOptions | None=None, **kwargs: Any) -> JobType:
        """Start a new job; it is `running` if an idle worker took it, else `pending`."""
        ...

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job: take it out of the backlog, or end its run."""
        ...

    def pause(self) -> None:
        """Begin no more jobs; those that run go on, and new ones are accepted."""
        ...

    def resume(self) -> None:
        """Begin with the jobs that wait."""
        ...

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

    async def list_jobs(self, limit: int=1000) -> list[JobType]:
        """All jobs in memory and, with a store, also older ones and those of other apps."""
        ...

    def get_job_logs(self, job_id: str) -> JobLogs:
        """What the job printed and logged; `JobNotFound` for an unknown id."""
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

    def get_plugin_configs(self, with_registry: bool=True) -> dict[str, dict[str, Any]]:
        """The configurations that this manager's plugins are given, as far as they are known."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether it was shut down: it takes no more jobs."""
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

    async def aclose(self) -> None:
        """Shut down without blocking the event loop."""
        ...

    def lifespan(self, app: Any=None) -> _Lifespan:
        """For `fast_app(lifespan=manager.lifespan)` or `Starlette(lifespan=...)`: shuts the manager down with the app."""
        ...
_PLAIN_OPTIONS = JobOptions()

def _options_of(job: BaseJob) -> JobOptions: ...
_PLACES = 2 ** 32

def _read_from(record: JobRecord, position: int | None) -> TextRead:
    """A place counts from the start of its attempt: so it is the same in memory, in the file and after a restart."""
    ...
_ELSEWHERE = 'another app runs this job, and its events are told there; wait_for_job and stream_job follow it here'

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
