"A plugin's configuration that cannot be pickled fails the jobs that need it, and no other."
import asyncio
import threading
from types import SimpleNamespace

from cjm_fasthtml_workers.managers.simple import SimpleJobManager


class Late:
    "Is asked for a configuration when a job comes, and knows no plugin before."
    def get_plugins_by_category(self, category): return []
    def get_plugin(self, plugin_id): return SimpleNamespace(name=plugin_id)
    def load_plugin_config(self, plugin_id): return {'lock': threading.Lock()} if plugin_id == 'locked' else {}

class Echo:
    def __init__(self, config): pass
    def execute(self, n): return {'n': n}

async def ends() -> list:
    manager = SimpleJobManager({name: f'{__name__}:Echo' for name in ('echo', 'locked')})
    manager.plugin_registry = Late()
    jobs = [await manager.start_job(name, n=1) for name in ('echo', 'locked', 'echo')]
    jobs = [await manager.wait_for_job(j.id, timeout=30) for j in jobs]
    await manager.aclose()
    return jobs

def test_only_that_job_fails():
    first, locked, last = asyncio.run(ends())
    assert (first.status, last.status, locked.fault) == ('completed', 'completed', 'start_failed')
    assert 'configuration cannot be sent' in locked.error
