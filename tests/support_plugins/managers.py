"Managers for the tests with partners, on the app's side."
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.base import BaseJob, BaseJobManager

from . import reader_worker


@dataclass
class ReaderJob(BaseJob):
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    stream: bool = False

class ReaderManager(BaseJobManager):
    "Jobs for the plugins `reader` and `plain` of `cjm_test_plugins`, as an app would write it"
    def __init__(self, **partners: Any):
        self.refusal: str | None = None   # what `_validate_resources` answers
        super().__init__('reader', 'readers', supports_streaming=True,
                         worker_config=partners.pop('worker_config', WorkerConfig()), **partners)

    def create_job(self, plugin_id: str, /, stream: bool = False, **params: Any) -> ReaderJob:
        return ReaderJob(str(uuid.uuid4()), plugin_id, params=params, stream=stream)

    def get_worker_entry_point(self) -> Callable: return reader_worker
    def prepare_execute_request(self, job: Any) -> dict[str, Any]: return {'params': job.params, 'stream': job.stream}
    def extract_job_result(self, job: Any, result_data: dict[str, Any]) -> dict[str, Any]: return result_data
    async def _validate_resources(self, plugin_id: str, plugin_config: dict[str, Any]) -> str | None:
        return self.refusal
