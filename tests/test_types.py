"What a user's type checker says of an app that is written against the stubs."
import os
import subprocess
import sys

import pytest

from tools.check import copy_tree, run

APP = '''
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cjm_fasthtml_workers.core.config import RestartPolicy, WorkerConfig
from cjm_fasthtml_workers.managers.base import BaseJob, BaseJobManager

@dataclass
class ScanJob(BaseJob):
    pages: int = 0

def entry_point(request_queue: Any, result_queue: Any, response_queue: Any) -> None: ...

class Scans(BaseJobManager[ScanJob]):
    def __init__(self) -> None:
        super().__init__('scan', 'documents', worker_config=WorkerConfig(restart_policy=RestartPolicy.NEVER))
    def create_job(self, plugin_id: str, **kwargs: Any) -> ScanJob: return ScanJob('1', plugin_id, **kwargs)
    def get_worker_entry_point(self) -> Callable[..., Any]: return entry_point
    def prepare_execute_request(self, job: ScanJob) -> dict[str, Any]: return {'pages': job.pages}
    def extract_job_result(self, job: ScanJob, result_data: dict[str, Any]) -> dict[str, Any]: return result_data

class Untyped(BaseJobManager):
    def create_job(self, plugin_id, **kwargs): return ScanJob('1', plugin_id)
    def get_worker_entry_point(self): return entry_point
    def prepare_execute_request(self, job): return {}
    def extract_job_result(self, job, result_data): return result_data

class Plain(BaseJobManager):
    def create_job(self, plugin_id: str, **kwargs: Any) -> ScanJob: return ScanJob('1', plugin_id)
    def get_worker_entry_point(self) -> Callable[..., Any]: return entry_point
    def prepare_execute_request(self, job: ScanJob) -> dict[str, Any]: return {}
    def extract_job_result(self, job: ScanJob, result_data: dict[str, Any]) -> dict[str, Any]: return result_data

async def use(manager: Scans) -> int:
    job = await manager.start_job('reader', pages=3)
    ended: bool = await manager.cancel_job(job.id)
    async for chunk in manager.stream_job(job.id): print(chunk.chunk, ended)
    async for event in manager.events(job.id): print(event.type, event.data)
    found = manager.get_job(job.id)
    if found is not None: print(found.pages)
    manager.get_worker_sate()                # error: no such method
    await manager.start_job(plugin_id=3)     # error: not an id
    return (await manager.wait_for_job(job.id, timeout=5)).pages
'''

@pytest.mark.limit(120)
def test_an_app_is_checked(tmp_path):
    "A subclass as the README shows it has no complaint; a wrong name and a wrong type have one"
    tree = copy_tree(tmp_path/'tree')
    assert run(tree, 'tools.stubs')
    (tmp_path/'app.py').write_text(APP)
    cmd = [sys.executable, '-m', 'mypy', '--python-version', '3.11', '--check-untyped-defs', '--cache-dir',
           str(tmp_path/'cache'), '--disable-error-code', 'import-untyped', '--follow-imports', 'silent', 'app.py']
    r = subprocess.run(cmd, cwd=tmp_path, env=os.environ | {'MYPYPATH': str(tree)}, capture_output=True, text=True)
    errors = [line for line in r.stdout.splitlines() if ': error:' in line]
    assert not r.stderr and all(line.startswith('app.py:') for line in errors), r.stdout + r.stderr
    wanted = {i for i, line in enumerate(APP.splitlines(), 1) if '# error' in line}
    assert {int(line.split(':')[1]) for line in errors} == wanted, '\n'.join(errors)
