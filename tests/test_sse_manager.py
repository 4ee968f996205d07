"""A real manager in a real app: what a plugin streams, a page reads, whatever happens to the line."""
import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from cjm_fasthtml_sse.core import SSEBroadcastManager
from fasthtml.common import fast_app
from starlette.requests import Request

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from cjm_fasthtml_workers.extensions.adapters import create_standard_adapters
from cjm_fasthtml_workers.extensions.sse import EventResponse, SSEHub, fan_out, sse_response
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from sse_app import Server, serve, until
from sse_client import Page

PLUGINS = {'streamer': 'tests.faults.plugins:Streamer', 'do': 'tests.faults.plugins:Do'}

class Site:
    "What a user would write, and two managers."
    def __init__(self, **options: Any):
        self.hub, self.other = SSEHub(**options), SSEBroadcastManager()
        both = fan_out(create_standard_adapters(sse_manager=self.other)[2], self.hub)
        config = WorkerConfig(cancel_grace_seconds=.5)
        self.manager = SimpleJobManager(PLUGINS, event_broadcaster=both, worker_config=config)
        self.second = SimpleJobManager(PLUGINS, 'second', event_broadcaster=self.hub)
        self.app, route = fast_app(lifespan=self.lifespan)
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]

        @route('/start/{plugin}')
        async def start(plugin: str, request: Request) -> str:
            return (await self.manager.start_job(plugin, **json.loads(request.query_params['params']))).id

        @route('/events/{job_id}')
        async def events(job_id: str, request: Request) -> EventResponse:
            return sse_response(self.hub.subscribe(job_id, request.headers.get('last-event-id')))

    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        async with self.manager.lifespan(), self.second.lifespan(): yield

    def call(self, coroutine: Any) -> Any: return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

@contextlib.contextmanager
def served(**options: Any) -> Iterator[tuple[Site, Server]]:
    site = Site(**options)
    with serve(site.app) as server: yield site, server

def start(server: Server, plugin: str = 'streamer', **params: Any) -> str:
    url = f'http://127.0.0.1:{server.port}/start/{plugin}?params={urllib.parse.quote(json.dumps(params))}'
    with urllib.request.urlopen(url, timeout=30) as response: return response.read().decode()

def text_of(messages: list[Any]) -> str:
    text = ''
    for m in messages:
        if m.event == 'snapshot': text = m.json.get('text', '')
        elif m.event == 'chunk': text += m.json['chunk']
    return text

def full_text(n: int) -> str: return ''.join(f'{i}'.ljust(8, '.') for i in range(n))

@pytest.mark.parametrize('pause', [.001, .01])
def test_line_drops_again_and_again(pause: float) -> None:
    "A page that comes back with its last id has lost nothing, and has nothing twice; another that comes anew likewise"
    n = round(1.5 / pause)
    with served() as (site, server):
        job_id = start(server, n=n, pause=pause)
        seen: list[Any] = []
        drops = 0
        while not seen or seen[-1].event != 'completed':
            with Page(server.port, f'/events/{job_id}', seen[-1].last_event_id if seen else None) as page:
                page.read_until(lambda p: len(p.seen) > 4 or p.is_complete or 'completed' in [m.event for m in p.seen])
                seen += page.seen
                drops += 1
            with Page(server.port, f'/events/{job_id}') as page:
                page.read_until(lambda p: p.seen)
                assert full_text(n).startswith(page.seen[0].json['text'])
        names = [m.event for m in seen]
        assert text_of(seen) == full_text(n) and names.count('completed') == 1 and names.count('snapshot') == 1
        assert drops > 3
        with Page(server.port, f'/events/{job_id}', seen[-1].last_event_id) as page: assert page.response.status == 204
        until(lambda: site.hub.subscribers == 0)
        assert [m['type'] for m in site.other.get_history()][-1] == 'jobs:completed'   # the other one heard it too

def test_many_pages_of_one_job() -> None:
    with served() as (site, server):
        job_id = start(server, n=300, pause=.003)
        pages = [Page(server.port, f'/events/{job_id}') for _ in range(20)]
        for page in pages:
            with page: assert text_of(page.read_all()) == full_text(300)

def test_flood_of_chunks_is_few_frames() -> None:
    with served() as (site, server):
        start(server, n=1)   # the worker is there
        with Page(server.port, f'/events/{start(server, n=20_000)}') as page:
            assert text_of(page.read_all()) == full_text(20_000)
            assert len(page.seen) < 200

def test_each_ending() -> None:
    with served() as (site, server):
        code = {'failed': 'raise ValueError("<b>no\\nway</b>")', 'died': 'os._exit(7)', 'long': 'time.sleep(60)'}
        with Page(server.port, f'/events/{start(server, "do", code=code["failed"])}') as page:
            end = page.read_all()[-1]
            assert (end.event, end.json['fault']) == ('failed', 'plugin_error') and '<b>no' in end.json['error']
        with Page(server.port, f'/events/{start(server, "do", code=code["died"])}') as page:
            assert page.read_all()[-1].json['fault'] == 'worker_crashed'
        job_id = start(server, 'do', code=code['long'])
        with Page(server.port, f'/events/{job_id}') as page:
            page.read_until(lambda p: p.seen and p.seen[-1].json['status'] == 'running')
            assert site.call(site.manager.cancel_job(job_id))
            assert page.read_all()[-1].event == 'cancelled'
        assert site.hub.snapshot(job_id)['status'] == 'cancelled'

def test_another_attempt() -> None:
    code = '''
def stream():
    from cjm_fasthtml_workers.core.context import report_progress
    report_progress(.5, 'half')
    yield 'the same '
    if not os.path.exists(flag): open(flag, 'w').close(); time.sleep(.2); raise ValueError('once')
    yield 'end'
'''
    import tempfile
    with served() as (site, server), tempfile.TemporaryDirectory() as folder:
        options = JobOptions(max_retries=1)
        params = {'code': code, 'flag': f'{folder}/flag'}
        job = site.call(site.manager.start_job('do', job_options=options, **params))
        with Page(server.port, f'/events/{job.id}') as page: names = [m.event for m in page.read_all()]
        assert names[-1] == 'completed' and names.count('queued') >= 1, names
        seen = site.hub.snapshot(job.id)
        assert (seen['text'], seen['attempt'], seen['message']) == ('the same end', 2, 'half')

def test_two_managers_one_hub() -> None:
    with served() as (site, server):
        jobs = [site.call(m.start_job('streamer', n=3)) for m in (site.manager, site.second)]
        for job, worker_type in zip(jobs, ('jobs', 'second'), strict=True):
            with Page(server.port, f'/events/{job.id}') as page: assert text_of(page.read_all()) == full_text(3)
            assert site.hub.snapshot(job.id)['worker_type'] == worker_type

def test_server_stops_while_a_job_streams() -> None:
    "The stream ends, then the app shuts down, and with it the job"
    with served() as (site, server):
        job_id = start(server, n=None, pause=.01)
        with Page(server.port, f'/events/{job_id}') as page:
            page.read_until(lambda p: len(p.seen) > 5)
            server.stop(20)
            page.read_all()
        assert site.manager.get_job(job_id).fault == 'interrupted'
        assert site.hub.snapshot(job_id)['fault'] == 'interrupted'   # told after the last page had gone
