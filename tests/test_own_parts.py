"""What an app's own functions do to the pages that call them: they fail, they take their time, they say odd things."""
import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fasthtml.common import FastHTML, P, fast_app, to_xml
from starlette.applications import Starlette
from starlette.routing import Mount

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.protocol import JobStatus
from cjm_fasthtml_workers.extensions import dashboard
from cjm_fasthtml_workers.extensions.dashboard import JobCard, JobRoutes, job_routes
from cjm_fasthtml_workers.extensions.live import HtmlPart, View
from cjm_fasthtml_workers.managers.jobs import BaseJob
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

pytestmark = pytest.mark.anyio
PLUGINS = {'talker': 'tests.support_plugins.pages:Talker'}


@pytest.fixture
def anyio_backend() -> str: return 'asyncio'

@pytest.fixture
def manager() -> Iterator[SimpleJobManager]:
    "Its jobs wait: there is no worker."
    manager = SimpleJobManager(PLUGINS, on_start='paused', keep_params=True)
    yield manager
    manager.shutdown()


class Mute:
    "Says nothing of itself."
    def __str__(self) -> str: raise RuntimeError('no')
    __repr__ = __str__


class Undecided(Mute):
    "Is neither true nor false."
    def __bool__(self) -> bool: raise RuntimeError('no')


def serve(manager: SimpleJobManager, **options: Any) -> tuple[JobRoutes, httpx.AsyncClient]:
    routes, app = job_routes(manager, **options), FastHTML(default_hdrs=False, secret_key='tests')
    routes.to_app(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=('127.0.0.1', 1))
    return routes, httpx.AsyncClient(transport=transport, base_url='http://localhost')


def test_a_part_that_fails_takes_nothing_from_the_others() -> None:
    async def fine() -> Any: return P('new', id='a')
    async def fails() -> Any: raise ValueError('no')
    view = View([HtmlPart('a', fine), HtmlPart('b', fails)], 'e')
    ops = asyncio.run(view.ops(0.))
    assert [op[:2] for op in ops] == [['hello', 'e'], ['html', 'a']]


def end(manager: SimpleJobManager, job: BaseJob, text: str = '') -> None:
    "As if a worker had done it."
    record = manager._book.get(job.id)
    if text: record.chunks.append(text)
    manager._book.start(record, None, None)
    manager._book.finish(record, JobStatus.COMPLETED)


async def test_what_ends_while_a_part_is_made_is_still_followed(manager: SimpleJobManager) -> None:
    async def slow(job: BaseJob) -> str:
        seen = job.status
        end(manager, job)
        return seen
    routes, _ = serve(manager, parts={'slow': slow})
    job = await manager.start_job('talker')
    html = to_xml(await routes.live(job, 'slow'))
    assert 'pending' in html and 'data-live' in html


async def test_what_ends_while_its_page_is_made_is_still_followed(manager: SimpleJobManager, monkeypatch) -> None:
    routes, client = serve(manager)
    job, read_log = await manager.start_job('talker'), dashboard.read_log
    async def slow(*args: Any, **options: Any) -> Any:
        end(manager, job, 'the text')
        return await read_log(*args, **options)
    monkeypatch.setattr(dashboard, 'read_log', slow)
    page = (await client.get(routes.look.url(job))).text
    assert 'the text' not in page
    for part in ('status', 'text', 'result', 'actions'): assert f'data-live="{part}:{job.id}"' in page, part


INSIDE: list[Any] = []
INSIDE.append(INSIDE)


@pytest.mark.parametrize('metadata', [{'title': Mute()}, {'title': Undecided()}, {('a', 'b'): Mute()}, {'n': 10**5000},
                                      {'title': '  '}, {'title': 0}, {'x': INSIDE}],
                         ids=['mute', 'undecided', 'key', 'number', 'blank', 'zero', 'inside'])
async def test_odd_metadata_breaks_no_page(manager: SimpleJobManager, metadata: dict) -> None:
    routes, client = serve(manager)
    job = await manager.start_job('talker', job_options=JobOptions(metadata=metadata))
    for url in (routes.look.url(job), '/jobs', '/jobs?q=talker'):
        answer = await client.get(url)
        assert answer.status_code == 200 and job.id in answer.text, url
    assert (await client.get('/jobs?q=zzz')).status_code == 200
    name = to_xml(dashboard.JobCard(job, routes.look)).partition('jobs-name">')[2].partition('<')[0]
    assert name.strip()


async def test_a_title_is_masked_like_all_else(manager: SimpleJobManager) -> None:
    routes, client = serve(manager)
    titles = 'https://me:hunter-2-pw@hub.local/talk.wav', {'api_key': 'hunter-2-pw'}
    for title in titles: job = await manager.start_job('talker', job_options=JobOptions(metadata={'title': title}))
    for url in ('/jobs', routes.look.url(job)):
        text = (await client.get(url)).text
        assert '•••' in text and 'hunter-2' not in text, url


async def test_parameters_that_cannot_be_kept_are_not(manager: SimpleJobManager) -> None:
    job = await manager.start_job('talker', words=INSIDE)
    assert 'params' not in job.metadata


@pytest.mark.parametrize('name', ['row', 'retry', 'trace', 'result-box', 'row-cancel', 'cancel-form', 'status'])
def test_a_part_cannot_have_the_id_of_another(manager: SimpleJobManager, name: str) -> None:
    with pytest.raises(ValueError, match=name): job_routes(manager, parts={name: P})


async def test_a_page_that_is_not_told_is_that_of_the_routes(manager: SimpleJobManager) -> None:
    def page_of(job: BaseJob) -> str: return f"/documents/{job.metadata['document']}"
    routes, client = serve(manager, page_of=page_of)
    job = await manager.start_job('talker')
    own = await manager.start_job('talker', job_options=JobOptions(metadata={'document': '文'}))
    page = (await client.get('/jobs')).text
    assert f'href="/jobs/{job.id}"' in page and 'href="/documents/文"' in page
    await manager.cancel_job(own.id)
    answer = await client.post(routes.look.url(own, '/retry'), headers={'hx-request': 'true'})
    assert answer.status_code == 200 and answer.headers['hx-redirect'] == '/documents/%E6%96%87'


async def test_a_place_in_the_backlog_is_counted_again(manager: SimpleJobManager) -> None:
    routes, client = serve(manager)
    first, job = [await manager.start_job('talker') for _ in range(2)]
    async def sentence() -> str: return (await client.get('/jobs/-/part', params={'part': f'status:{job.id}'})).text
    assert '1 job is before it' in await sentence()
    await manager.cancel_job(first.id)
    async with asyncio.timeout(30):
        while 'It is next.' not in await sentence(): await asyncio.sleep(0.05)
    routes.watch.stop()


# --- Apps within apps ---

async def test_an_app_below_another_leads_nobody_out_of_it(manager: SimpleJobManager) -> None:
    inner = FastHTML(default_hdrs=False, canonical=False, secret_key='tests')
    routes = job_routes(manager, root='sub/')
    routes.to_app(inner)

    @inner.route('/card')
    def card(): return JobCard(job, routes.look)

    job = await manager.start_job('talker', count=1)
    transport = httpx.ASGITransport(Starlette(routes=[Mount('/sub', inner)]), client=('127.0.0.1', 1))
    async with httpx.AsyncClient(transport=transport, base_url='http://localhost',
                                 headers={'accept': 'text/html'}) as me:
        for path in ('/sub/jobs', f'/sub/jobs/{job.id}', '/sub/jobs/nobody', '/sub/card'):
            page = (await me.get(path)).text
            links = re.findall(r'(?:href|src|action|hx-get|hx-post|data-jobs)="([^"]*)"', page)
            assert links and all(link.startswith('/sub/jobs') for link in links), (path, links)
            for link in re.findall(r'(?:href|src|hx-get)="(/[^"]*)"', page):
                assert (await me.get(link)).status_code == 200, link
        again = await me.post(f'/sub/jobs/{job.id}/cancel')
        assert again.headers['location'] == f'/sub/jobs/{job.id}?said=cancelled' and job.status == JobStatus.CANCELLED
        assert (await me.post('/sub/jobs/-/clear')).headers['location'] == '/sub/jobs?said=cleared'
    with pytest.raises(ValueError, match='root'): job_routes(manager, root='https://evil.example')


async def test_one_lifespan_for_two_managers() -> None:
    two = [SimpleJobManager(PLUGINS, name, on_start='paused') for name in ('one', 'two')]
    async def lifespan(app):
        async with two[0].lifespan(app), two[1].lifespan(app): yield
    app, rt = fast_app(lifespan=lifespan, secret_key='tests')
    async with app.router.lifespan_context(app): assert not any(m.is_closed for m in two)
    assert all(m.is_closed for m in two)


async def test_what_is_cleared_leaves_the_lists_of_others_at_once(manager: SimpleJobManager) -> None:
    "Clearing is no event of a manager, so the streams are told by the page that does it"
    job = await manager.start_job('talker', count=1)
    await manager.cancel_job(job.id)
    routes, me = serve(manager)
    heard = routes.watch.hub.subscribe()
    await anext(heard)
    async with me: assert (await me.post('/jobs/-/clear')).status_code == 303
    assert (await asyncio.wait_for(anext(heard), 5)).name == 'changed' and manager.get_all_jobs() == []
    heard.close()


async def test_a_card_offers_again_what_its_job_offers(manager: SimpleJobManager) -> None:
    "Also when the page is loaded again, and never because an app's own function fails"
    def fails(manager, job): raise KeyError(job.id)
    forgetful = SimpleJobManager(PLUGINS, 'forgetful', on_start='paused')
    job, other = await manager.start_job('talker', count=1), await forgetful.start_job('talker', count=1)
    routes = job_routes([manager, forgetful])
    assert 'Run again' not in to_xml(JobCard(job, routes.look))
    for m, j in ((manager, job), (forgetful, other)): await m.cancel_job(j.id)
    offered = [[word in to_xml(JobCard(j, r.look)) for j in (job, other)] for word in ('Run again', 'Cancelled')
               for r in (routes, job_routes([manager, forgetful], restart=fails))]
    assert offered == [[True, False], [False, False], [True, True], [True, True]]
    await forgetful.aclose()
