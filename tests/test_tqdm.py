"""The `tqdm` bars of plugins that know nothing of us are the progress of their jobs, seen through real workers."""
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

PLUGINS = {'bars': 'support_plugins.bars:Bars', 'words': 'support_plugins.bars:Words',
           'late': 'support_plugins.late_bars:Late', 'without': 'support_plugins.late_bars:Without'}
LIMIT_SECONDS = 30
Said = list[tuple[float | None, str]]

def with_manager(test: Callable[[SimpleJobManager], Awaitable[None]], *names: str, configs: Any = None,
                 **config: Any) -> None:
    async def main() -> None:
        plugins = {name: PLUGINS[name] for name in names or ['bars']}
        manager = SimpleJobManager(plugins, configs=configs, worker_config=WorkerConfig(**config))
        async with manager.lifespan(): await asyncio.wait_for(test(manager), LIMIT_SECONDS)
    asyncio.run(main())

async def run_job(manager: SimpleJobManager, plugin: str = 'bars', **params: Any) -> tuple[Any, Said]:
    "The job when it has ended, and the progress that was told of it, without what the manager says while it loads"
    stream, said = manager.events(), []
    job = await manager.start_job(plugin, **params)
    async for event in stream:
        if event.data.get('job_id') != job.id: continue
        if event.type == 'jobs:progress' and not event.data['message'].startswith(('loading ', 'Loading ')):
            said.append((event.data['progress'], event.data['message']))
        if event.type in ('jobs:completed', 'jobs:failed', 'jobs:cancelled'): break
    await stream.aclose()
    return job, said

def test_oldest_open_bar_decides() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, act='nested')
        assert job.status == 'completed', job.error
        assert said[0] == (0, 'Files 0/2') and said[-1] == (1, 'Files 2/2')
        assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)
        assert {fraction for fraction, _ in said} <= {0, 0.5, 1}
        assert all(message.startswith('Files ') for _, message in said)
    with_manager(test)

@pytest.mark.parametrize('kind', ['std', 'auto', 'asyncio', 'own'])
def test_all_kinds_of_bars(kind: str) -> None:
    async def test(manager: SimpleJobManager) -> None:
        for _ in range(2):   # two jobs in a row
            job, said = await run_job(manager, act='count', kind=kind)
            assert job.status == 'completed', job.error
            assert said[-1] == (1, 'Encoding 4/4')
            if kind != 'own': assert said[0] == (0, 'Encoding 0/4')
    with_manager(test)

def test_disabled_bar_says_nothing() -> None:
    async def test(manager: SimpleJobManager) -> None:
        for act, bar in ('count', {'disable': True}), ('disabled', {}):
            job, said = await run_job(manager, act=act, **bar)
            assert job.status == 'completed' and said == []
    with_manager(test)

def test_bar_without_total_has_no_fraction() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, act='search')
        assert said[0] == (None, 'Searching 0') and said[-1] == (None, 'Searching 5')
        assert {fraction for fraction, _ in said} == {None}
        assert job.progress == 1   # because it is completed
    with_manager(test)

def test_count_in_the_unit_of_the_bar() -> None:
    async def test(manager: SimpleJobManager) -> None:
        _, said = await run_job(manager, act='bytes')
        assert said[-1] == (1, '10.0M/10.0M')
    with_manager(test)

def test_stream_with_a_bar() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, 'words', n=3)
        assert [chunk.chunk async for chunk in manager.stream_job(job.id)] == ['0 ', '1 ', '2 ']
        assert said[0] == (0, 'Words 0/3') and said[-1] == (1, 'Words 3/3')
    with_manager(test, 'words')

def test_bar_moves_while_the_job_runs() -> None:
    async def test(manager: SimpleJobManager) -> None:
        stream = manager.events()
        job = await manager.start_job('bars', act='endless')
        async for event in stream:
            if event.type == 'jobs:progress' and event.data['progress']: break
        await stream.aclose()
        assert 0 < job.progress < 1 and job.status_message.startswith('Encoding ')
        assert await manager.cancel_job(job.id)
    with_manager(test)

def test_bar_that_is_left_early_stays() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, act='leave_early')
        assert (job.status, job.progress, job.status_message) == ('failed', 0.5, 'Found 2/4')
        assert said[0] == (0, 'Looking 0/4') and (0.25, 'Found 1/4') in said and said[-1] == (0.5, 'Found 2/4')
    with_manager(test)

def test_own_word_of_the_plugin_counts_more() -> None:
    async def test(manager: SimpleJobManager) -> None:
        _, said = await run_job(manager, act='report')
        assert said[0] == (0, 'Before 0/4') and said[-1] == (0.5, 'in my own words')
        assert not any(message.startswith('After') for _, message in said)
        _, said = await run_job(manager, act='count')   # in the next job the bars speak again
        assert said[-1] == (1, 'Encoding 4/4')
    with_manager(test)

def test_bars_in_threads() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, act='in_threads')
        assert job.status == 'completed', job.error
        assert said[0] == (0, 'First 0/3') and said[-1] == (1, 'First 3/3')
        assert all(message.startswith('First ') and fraction in (0, 1) for fraction, message in said)
    with_manager(test)

def test_bar_that_outlives_its_job() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, act='leave_running')
        assert job.status == 'completed' and job.progress == 1
        message = job.status_message
        beside, said = await run_job(manager, act='beside')
        assert beside.status == 'completed', beside.error
        assert said == [(0, 'Beside 0/2'), (1, 'Beside 2/2')]
        assert (job.status, job.progress, job.status_message) == ('completed', 1, message)
    with_manager(test)

def test_bar_while_the_plugin_is_loaded_has_no_fraction() -> None:
    async def test(manager: SimpleJobManager) -> None:
        stream, loading = manager.events(), []
        job = await manager.start_job('bars', act='count', disable=True)
        async for event in stream:
            if event.type == 'jobs:progress': loading.append((event.data['progress'], event.data['message']))
            if event.type == 'jobs:completed': break
        await stream.aclose()
        assert (None, 'Loading shards 0/3') in loading and (None, 'Loading shards 3/3') in loading
        assert {fraction for fraction, _ in loading} == {None}
        assert job.status == 'completed', job.error
    with_manager(test, configs={'bars': {'shards': 3}}, load_plugins='on_first_use')

@pytest.mark.parametrize('config', [{}, {'preload_modules': ('tqdm',)}, {'standby_workers': 1},
                                    {'preload_modules': ('tqdm.auto',), 'start_method': 'forkserver'}], ids=str)
def test_whenever_tqdm_is_imported(config: dict[str, Any]) -> None:
    async def test(manager: SimpleJobManager) -> None:
        for attempt in range(2):
            job, said = await run_job(manager, 'late')
            assert job.result['was_there'] == (attempt == 1 or 'preload_modules' in config)
            assert said[0] == (0, 'Encoding 0/4') and said[-1] == (1, 'Encoding 4/4')
    with_manager(test, 'late', **config)

def test_nobody_imports_it_for_us() -> None:
    async def test(manager: SimpleJobManager) -> None:
        job, said = await run_job(manager, 'without')
        assert job.result['was_there'] is False and said == []
    with_manager(test, 'without')
