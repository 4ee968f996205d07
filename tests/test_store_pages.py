"The pages of an app whose jobs are kept in a file: what was before, and what another app does."
import asyncio
import re
import time

import httpx
import pytest
from fasthtml.common import fast_app

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from cjm_fasthtml_workers.extensions.dashboard import job_routes
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

SECONDS = 20


def manager_of(folder, **config) -> SimpleJobManager:
    store = SQLiteJobStore(folder/'jobs.db')
    return SimpleJobManager({'talker': 'tests.support_plugins.pages:Talker'}, worker_config=WorkerConfig(**config),
                            job_store=store)


def visitor_of(manager: SimpleJobManager, **options) -> httpx.AsyncClient:
    app, _ = fast_app(secret_key='tests')
    routes = job_routes(manager, **options)
    routes.to_app(app)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app, client=('127.0.0.1', 50000)),
                               base_url='http://127.0.0.1:5001', headers={'accept': 'text/html'})
    client.stop = routes.watch.stop
    return client


def texts(html: str) -> list[str]: return re.findall(r'<pre[^>]*>\n?(.*?)</pre>', html, re.S)


async def until(what, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not await what():
        assert time.monotonic() < end, 'it does not come about'
        await asyncio.sleep(.05)


def test_jobs_that_only_the_file_has_are_listed_and_have_their_pages(tmp_path) -> None:
    async def check(manager: SimpleJobManager, ids: list[str]) -> None:
        async with visitor_of(manager) as visitor:
            listed = (await visitor.get('/jobs')).text
            assert re.findall('id="job-([0-9a-f]+)-row"', listed) == ids[::-1]
            for id in ids:
                page = await visitor.get(f'/jobs/{id}')
                assert page.status_code == 200
                assert ['w0 w1 w2 ', 'line for word 0\n'] == texts(page.text)[:3:2]   # between them is the result
                part = await visitor.get('/jobs/-/part', params={'part': f'text:{id}'})
                assert texts(part.text) == ['w0 w1 w2 ']
            visitor.stop()

    async def first() -> list[str]:
        manager = manager_of(tmp_path, max_finished_jobs=2)
        ids = []
        for _ in range(4):
            job = await manager.start_job('talker', count=3, pause=0)
            await manager.wait_for_job(job.id, SECONDS)
            ids.append(job.id)
        assert [job.id for job in manager.get_all_jobs()] == ids[2:]
        assert [job.id for job in await manager.list_jobs()] == ids
        assert [job.id for job in await manager.list_jobs(3)] == ids[1:]
        await check(manager, ids)
        await manager.aclose()
        return ids

    async def second(ids: list[str]) -> None:   # after a restart, as many as before, and none was read yet
        manager = manager_of(tmp_path, max_finished_jobs=2)
        await check(manager, ids)
        manager.clear_completed_jobs()
        async with visitor_of(manager) as visitor:
            async def is_empty(): return 'No jobs yet' in (await visitor.get('/jobs')).text
            await until(is_empty)
            assert (await visitor.get(f'/jobs/{ids[0]}')).status_code == 404
            visitor.stop()
        await manager.aclose()

    asyncio.run(second(asyncio.run(first())))


@pytest.mark.may_leave('children', reason='a manager may still end its worker')
def test_the_job_of_another_app_is_listed_and_read_and_not_cancelled_here(tmp_path) -> None:
    async def main() -> None:
        mine, other = manager_of(tmp_path), manager_of(tmp_path)
        hold = tmp_path/'hold'
        hold.touch()
        own = await mine.start_job('talker', count=1, pause=0)
        await mine.wait_for_job(own.id, SECONDS)
        job = await other.start_job('talker', count=3, pause=0, hold=str(hold))
        async with visitor_of(mine) as visitor:
            async def shows(text: str, path: str = f'/jobs/{job.id}') -> bool:
                return text in (await visitor.get(path)).text
            await until(lambda: shows('data-status="running"'))
            await until(lambda: shows(f'id="job-{job.id}-row"', '/jobs'))
            assert (await visitor.get('/jobs')).text.count('<tr id="job-') == 2
            cancelled = await visitor.post(f'/jobs/{job.id}/cancel', headers={'hx-request': 'true'})
            assert 'Another process of this app' in cancelled.text and job.status == 'running'
            hold.unlink()
            await other.wait_for_job(job.id, SECONDS)
            await until(lambda: shows('data-status="completed"'))
            assert texts((await visitor.get(f'/jobs/{job.id}')).text)[0] == 'w0 w1 w2 '
            visitor.stop()
        for manager in (mine, other): await manager.aclose()
    asyncio.run(main())


def test_nobody_clears_the_jobs_of_others_that_only_the_file_has(tmp_path) -> None:
    async def main() -> None:
        manager = manager_of(tmp_path, max_finished_jobs=1)
        for owner in ('ann', 'bob'):
            job = await manager.start_job('talker', job_options=JobOptions(owner=owner), count=1, pause=0)
            await manager.wait_for_job(job.id, SECONDS)
        assert [job.owner for job in manager.get_all_jobs()] == ['bob']
        async with visitor_of(manager, authorize=lambda *_: True, owner_of=lambda request: 'bob') as bob:
            answer = await bob.post('/jobs/-/clear', headers={'hx-request': 'true'})
            assert answer.status_code == 403
            bob.stop()
        assert [job.owner for job in await manager.list_jobs()] == ['ann', 'bob']
        await manager.aclose()
    asyncio.run(main())
