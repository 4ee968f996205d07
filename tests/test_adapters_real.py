"`create_simple_adapter` around the real cjm-plugin-system, in a real worker, driven by a manager."
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from doubles import eventually
from support_plugins.managers import ReaderManager
from support_plugins.plain import sticky_worker

CLASHES = dict.fromkeys(['self', 'plugin_name', 'type', 'job_id', 'args', 'params', 'config', 'function'], 1)

def with_manager(test: Callable[[ReaderManager], Awaitable[None]], **kwargs: Any) -> None:
    async def main() -> None:
        manager = ReaderManager(**kwargs)
        async with manager.lifespan(): await test(manager)
    asyncio.run(main())

async def run_job(manager: ReaderManager, plugin: str, **params: Any) -> Any:
    job = await manager.start_job(plugin, **params)
    return await manager.wait_for_job(job.id, timeout=30)

def test_discovers_loads_and_executes() -> None:
    async def test(manager: ReaderManager) -> None:
        job = await run_job(manager, 'plain', path='scan.png')
        assert (job.status, job.error) == ('completed', None)
        assert job.result['text'] == 'small read it'
        assert job.result['metadata'] == {'pid': job.worker_pid, 'params': {'path': 'scan.png'}}
        assert job.worker_pid != os.getpid()
        state = await manager.get_worker_state()
        assert state == {'pid': job.worker_pid, 'current_plugin': 'plain', 'current_config': {},
                         'loaded_plugins': ['reader', 'plain']}
    with_manager(test)

def test_parameters_may_be_called_anything() -> None:
    async def test(manager: ReaderManager) -> None:
        job = await run_job(manager, 'plain', **CLASHES)
        assert (job.error, job.result and job.result['metadata']['params']) == (None, CLASHES)
    with_manager(test)

def test_streams() -> None:
    async def test(manager: ReaderManager) -> None:
        job = await manager.start_job('reader', stream=True, words=['eins ', 'zwei ', 'drei'])
        assert [c.chunk async for c in manager.stream_job(job.id)] == ['eins ', 'zwei ', 'drei']
        assert job.result == {'text': 'eins  zwei  drei', 'metadata': {'model': 'small', 'log': ''}}
        assert manager.check_streaming_support('reader') and not manager.check_streaming_support('plain')
        job = await run_job(manager, 'plain', stream=True)
        assert (job.status, job.result['text']) == ('completed', 'small read it')
    with_manager(test)

def test_plugin_that_raises() -> None:
    async def test(manager: ReaderManager) -> None:
        job = await run_job(manager, 'plain', fail='no ink')
        assert (job.status, job.fault) == ('failed', 'plugin_error')
        assert "LookupError: no ink" in job.traceback and 'no ink' in job.error
        job = await run_job(manager, 'plain', hog=True)
        assert (job.status, job.fault) == ('failed', 'out_of_memory')
        assert (await run_job(manager, 'plain')).status == 'completed'
    with_manager(test)

def test_plugin_that_does_not_exist() -> None:
    async def test(manager: ReaderManager) -> None:
        job = await run_job(manager, 'writer')
        assert (job.status, job.fault) == ('failed', 'start_failed') and 'writer' in job.error
    with_manager(test)

def test_reloads(tmp_path: Path) -> None:
    log = tmp_path/'log'
    async def test(manager: ReaderManager) -> None:
        await run_job(manager, 'plain')
        assert await manager.reload_plugin('plain', {'model': 'large', 'log': str(log)})
        assert (await run_job(manager, 'plain')).result['text'] == 'large read it'
        state = await manager.get_worker_state()
        assert state and state['current_config'] == {'model': 'large', 'log': str(log)}
        assert not await manager.reload_plugin('plain', {'model': 'huge'})
        state = await manager.get_worker_state()
        assert state and state['loaded_plugins'] == ['reader']
        assert (await run_job(manager, 'plain')).result['text'] == 'large read it'
    with_manager(test)
    assert log.read_text() == 'load plain large\nunload plain large\n' * 2

def test_unloads(tmp_path: Path) -> None:
    log = tmp_path/'log'
    async def test(manager: ReaderManager) -> None:
        await run_job(manager, 'plain')
        assert await manager.reload_plugin('plain', {'model': 'large', 'log': str(log)})
        assert await manager.unload_plugin('plain')
        assert log.read_text().endswith('unload plain large\n')
        assert await manager.unload_plugin('plain'), 'is unloaded already'
        state = await manager.get_worker_state()
        assert state and (state['loaded_plugins'], state['current_plugin']) == (['reader'], None)
        assert not await manager.unload_plugin('writer')
        assert (await run_job(manager, 'plain')).result['text'] == 'large read it'
    with_manager(test)

def test_new_worker_has_the_last_configuration(tmp_path: Path) -> None:
    log = tmp_path/'log'
    async def test(manager: ReaderManager) -> None:
        first = await run_job(manager, 'plain')
        assert await manager.reload_plugin('plain', {'model': 'large', 'log': str(log)})
        os.kill(first.worker_pid, signal.SIGKILL)
        await eventually(lambda: manager.worker_process is None or manager.worker_process.pid != first.worker_pid)
        second = await run_job(manager, 'plain')
        assert second.worker_pid != first.worker_pid
        assert second.result['text'] == 'large read it'
    with_manager(test)
    assert log.read_text().startswith('load plain large\nload plain large\n')

class StickyManager(ReaderManager):
    def get_worker_entry_point(self) -> Callable: return sticky_worker()

def test_plain_plugin_whose_unload_raises() -> None:
    async def main() -> None:
        manager = StickyManager()
        async with manager.lifespan():
            assert (await run_job(manager, 'sticky', self=1)).result == {'config': {'size': 1}, 'params': {'self': 1}}
            assert not await manager.unload_plugin('sticky')
            state = await manager.get_worker_state()
            assert state and state['loaded_plugins'] == []
            job = await run_job(manager, 'sticky')
            assert (job.error, job.status) == (None, 'completed')
            assert not await manager.reload_plugin('sticky', {'size': 2})
            assert (await run_job(manager, 'sticky')).result['config'] == {'size': 1}
    asyncio.run(main())
