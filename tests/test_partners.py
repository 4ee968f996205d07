"A manager with a plugin registry and a resource manager, and a real worker: strict doubles say what they were told."
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.extensions.adapters import create_standard_adapters
from doubles import RegistryDouble, ResourceManagerDouble, complaints, eventually
from support_plugins.managers import ReaderManager

READER, PLAIN = 'readers_reader', 'readers_plain'

@pytest.fixture(autouse=True)
def no_complaints() -> Iterator[None]:
    complaints.clear()
    yield
    assert complaints == []

class Office:
    "A manager and its partners"
    def __init__(self, plugins: dict[str, Any], failing: tuple[str, ...] = (), **config: Any):
        self.registry = RegistryDouble('readers', plugins, failing)
        self.resources = ResourceManagerDouble(failing)
        registry, resources, _ = create_standard_adapters(self.registry, self.resources)
        self.manager = ReaderManager(plugin_registry=registry, resource_manager=resources,
                                     worker_config=WorkerConfig(**config))

    async def run_job(self, plugin_id: str, **params: Any) -> Any:
        job = await self.manager.start_job(plugin_id, **params)
        return await self.manager.wait_for_job(job.id, timeout=30)

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        "These fields of each state that a worker was in, in order"
        return [tuple(asdict(state)[n] for n in names) for state in list(self.resources.history)]

def in_office(office: Office, test: Callable[[Office], Awaitable[None]]) -> None:
    async def main() -> None:
        async with office.manager.lifespan(): await test(office)
    asyncio.run(main())

# ---- The registry

def test_unknown_plugin_leaves_nothing() -> None:
    async def test(o: Office) -> None:
        with pytest.raises(ValueError, match='readers_writer'): await o.manager.start_job('readers_writer')
        with pytest.raises(ValueError, match='plain'): await o.manager.start_job('plain')   # its name is not its id
        assert o.manager.get_all_jobs() == [] and o.manager.worker_process is None
        assert o.resources.calls == []
    in_office(Office({'plain': {}}), test)

def test_refused_for_lack_of_resources() -> None:
    async def test(o: Office) -> None:
        o.manager.refusal = 'the GPU is taken by a game'
        with pytest.raises(RuntimeError, match='^the GPU is taken by a game$'): await o.manager.start_job(PLAIN)
        assert o.manager.get_all_jobs() == [] and o.manager.worker_process is None
        o.manager.refusal = None
        assert (await o.run_job(PLAIN)).status == 'completed'
    in_office(Office({'plain': {}}), test)

def test_configuration_reaches_the_plugin() -> None:
    async def test(o: Office) -> None:
        assert (await o.run_job(PLAIN)).result['text'] == 'large read it'
        assert (await o.run_job(READER)).result['text'] == 'tiny read it'
        state = await o.manager.get_worker_state()
        assert state and state['current_config'] == {'model': 'tiny'}
        assert o.manager.get_plugin_name(PLAIN) == 'plain' and o.manager.get_plugin_name('x') is None
    in_office(Office({'plain': {'model': 'large'}, 'reader': {'model': 'tiny'}}), test)

def test_unconfigured_plugin_is_loaded_when_it_is_needed() -> None:
    async def test(o: Office) -> None:
        await o.manager.start()
        state = await o.manager.get_worker_state()
        assert state and state['loaded_plugins'] == ['plain']
        assert (await o.run_job(READER)).result['text'] == 'small read it'
        state = await o.manager.get_worker_state()
        assert state and state['loaded_plugins'] == ['plain', 'reader']
    in_office(Office({'plain': {'model': 'large'}, 'reader': None}), test)

@pytest.mark.parametrize('when', ['on_start', 'on_first_use'])
def test_plugin_that_cannot_load_hurts_only_its_own_jobs(when: str) -> None:
    async def test(o: Office) -> None:
        good, bad = await asyncio.gather(o.run_job(READER), o.run_job(PLAIN))
        assert good.status == 'completed'
        assert (bad.status, bad.fault) == ('failed', 'start_failed')
        assert 'plain' in bad.error and 'huge does not fit' in bad.traceback
        assert o.manager.restart_count == 0
        assert (await o.run_job(READER)).worker_pid == good.worker_pid
    in_office(Office({'plain': {'model': 'huge'}, 'reader': {}}, load_plugins=when), test)

def test_registry_is_asked_for_one_category_only() -> None:
    async def test(o: Office) -> None:
        await o.run_job(PLAIN)
        assert {c['category'] for c in o.registry.named('get_plugins_by_category')} == {'readers'}
    in_office(Office({'plain': {}}), test)

def test_configuration_that_cannot_be_pickled() -> None:
    async def test(o: Office) -> None:
        o.registry._plugins[PLAIN]._config = {'model': (i for i in ())}
        o.registry.load_plugin_config = lambda plugin_id: o.registry._plugins[plugin_id]._config
        try: job = await o.run_job(PLAIN)
        except (TypeError, RuntimeError) as e: error, jobs = str(e), o.manager.get_all_jobs()
        else: error, jobs = job.error, []
        assert 'generator' in error and jobs == []
        del o.registry.load_plugin_config
        o.registry._plugins[PLAIN]._config = {}
        assert (await o.run_job(PLAIN)).status == 'completed'
    in_office(Office({'plain': {}}, max_restart_attempts=1), test)

# ---- The resource manager

def test_told_of_a_worker_and_its_job(tmp_path: Path) -> None:
    config = {'model': 'large', 'log': str(tmp_path/'log')}
    office = Office({'plain': config})
    jobs: list[Any] = []
    async def test(o: Office) -> None:
        jobs.append(await o.run_job(PLAIN))
        await eventually(lambda: o.resources.workers()[0].job_id == '' and len(o.resources.history) == 4)
        seen = o.told('pid', 'worker_type', 'status', 'job_id')
        pid, running = jobs[0].worker_pid, o.resources.history[2]
        assert seen == [(pid, 'reader', 'idle', ''), (pid, 'reader', 'idle', ''),   # registered, ready
                        (pid, 'reader', 'running', jobs[0].id), (pid, 'reader', 'idle', '')]
        assert (running.plugin_name, running.plugin_id, running.config) == ('plain', PLAIN, config)
        assert running.loaded_plugin_resource == 'large'
        assert o.resources.named('unregister_worker') == []
    in_office(office, test)
    assert office.resources.workers() == []
    assert [name for name, _ in office.resources.calls].count('unregister_worker') == 1

@pytest.mark.parametrize('ending', ['fails', 'is cancelled'])
def test_job_is_cleared_however_it_ends(ending: str) -> None:
    async def test(o: Office) -> None:
        await o.manager.start()
        if ending == 'fails': await o.run_job(PLAIN, fail='no ink')
        else:
            job = await o.manager.start_job(PLAIN, wait=True)
            await eventually(lambda: any(w.job_id == job.id for w in o.resources.workers()))
            assert await o.manager.cancel_job(job.id)
        await eventually(lambda: o.resources.named('register_worker') and
                         all((w.status, w.job_id) == ('idle', '') for w in o.resources.workers()))
        assert (await o.run_job(PLAIN)).status == 'completed'
    in_office(Office({'plain': {}}, shutdown_timeout_seconds=1), test)

def test_told_of_a_death() -> None:
    async def test(o: Office) -> None:
        first = (await o.run_job(PLAIN)).worker_pid
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: o.resources.named('unregister_worker'))
        assert o.resources.named('unregister_worker') == [{'pid': first}]
        second = (await o.run_job(PLAIN)).worker_pid
        assert [w.pid for w in o.resources.workers()] == [second] and second != first
    in_office(Office({'plain': {}}), test)

def test_told_of_the_configuration_after_a_reload() -> None:
    async def test(o: Office) -> None:
        await o.run_job(PLAIN)
        assert await o.manager.reload_plugin('plain', {'model': 'tiny'})
        await o.run_job(PLAIN)
        assert [r for s, r in o.told('status', 'loaded_plugin_resource') if s == 'running'] == ['large', 'tiny']
    in_office(Office({'plain': {'model': 'large'}}), test)

def test_told_of_every_worker() -> None:
    office = Office({'plain': {}}, max_workers=2)
    async def test(o: Office) -> None:
        await o.manager.start()
        assert len(o.resources.workers()) == 2
    in_office(office, test)
    assert office.resources.workers() == []
    assert len(office.resources.named('unregister_worker')) == 2

# ---- Partners that fail

@pytest.mark.parametrize('method', ['register_worker', 'update_worker_state', 'unregister_worker'])
def test_resource_manager_that_raises_harms_no_job(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(o: Office) -> None:
        for _ in range(2): assert (await o.run_job(PLAIN)).status == 'completed'
    in_office(Office({'plain': {}}, failing=(method,)), test)
    assert f'{method} fails' in caplog.text
    if method == 'register_worker': complaints.clear()   # rightly: the worker is unknown to it

@pytest.mark.parametrize('method', ['get_plugin', 'load_plugin_config', 'get_plugins_by_category'])
def test_registry_that_raises_leaves_no_job_behind(method: str) -> None:
    async def test(o: Office) -> None:
        try: job = await o.manager.start_job(PLAIN)
        except RuntimeError as e: assert (str(e), o.manager.get_all_jobs()) == (f'{method} fails', [])
        else: assert (await o.manager.wait_for_job(job.id, timeout=30)).status in ('completed', 'failed')
        o.registry.failing = ()
        assert (await o.run_job(PLAIN)).status == 'completed'
    in_office(Office({'plain': {}}, failing=(method,), max_restart_attempts=1), test)
