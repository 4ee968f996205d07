"""Streams of a real uvicorn on real sockets: clients that leave, that stare, and a server that is told to stop."""
import asyncio
import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from cjm_fasthtml_workers.extensions.sse import SSEHub, sse_response
from sse_app import make_app, serve, until
from sse_client import Page, Parser, ask_and_leave, ask_and_stare

ROOT = Path(__file__).parent.parent
JOB = {'job_id': 'j1', 'plugin_id': 'llm', 'status': 'running'}
RELOADS = int(os.environ.get('FAULTS_RELOADS', 2))

def say(hub: SSEHub, *words: str) -> None:
    for word in words: hub.publish('chat:chunk', {**JOB, 'chunk': word})

def running(**options: Any) -> SSEHub:
    hub = SSEHub(**options)
    hub.publish('chat:started', JOB)
    return hub

def end(hub: SSEHub) -> None: hub.publish('chat:completed', {**JOB, 'status': 'completed'})

class Wrapping(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any: return await call_next(request)

def bare(hub: SSEHub) -> Any: return make_app(hub)

def wrapped(hub: SSEHub) -> Any:
    return Starlette(routes=[Mount('/', make_app(hub))], middleware=[Middleware(Wrapping), Middleware(GZipMiddleware)])

SERVERS = [pytest.param(bare, 'h11', id='h11'), pytest.param(bare, 'httptools', id='httptools'),
           pytest.param(wrapped, 'h11', id='wrapped')]
over_servers = pytest.mark.parametrize('make, impl', SERVERS)

@over_servers
def test_snapshot_tail_end(make: Any, impl: str, caplog: pytest.LogCaptureFixture) -> None:
    hub = running(coalesce_seconds=0)
    say(hub, 'so far\n', '<b>')
    with serve(make(hub), http=impl) as server:
        with Page(server.port, '/events/j1') as page:
            assert page.response.status == 200 and page.response.headers.get_content_type() == 'text/event-stream'
            assert page.response.headers['cache-control'] == 'no-store, no-transform'
            page.read_until(lambda p: p.seen)
            say(hub, 'more')
            page.read_until(lambda p: len(p.seen) == 2)
            end(hub)
            seen = page.read_all()
        assert [m.event for m in seen] == ['snapshot', 'chunk', 'completed']
        assert seen[0].json['text'] == 'so far\n<b>' and 1000 <= page.parser.retry <= 1500
        with Page(server.port, '/events/j1', seen[1].last_event_id) as page:
            assert [m.event for m in page.read_all()] == ['completed']
        with Page(server.port, '/events/j1', seen[2].last_event_id) as page:   # do not come back
            assert (page.response.status, page.read_all()) == (204, [])
        until(lambda: hub.subscribers == 0)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]

def test_components_in_frames(caplog: pytest.LogCaptureFixture) -> None:
    hub = running(coalesce_seconds=0)
    with serve(make_app(hub)) as server, Page(server.port, '/html/j1') as page:
        until(lambda: hub.subscribers == 1)
        page.read_until(lambda p: p.parser.comments)
        say(hub, '<script>\r\n', 'broken', 'whole')
        end(hub)
        assert [(m.event, m.data) for m in page.read_all()] == [
            ('chunk', '<div>&lt;script&gt;\n</div>'), ('chunk', '<div>whole</div>'), ('completed', '')]
    assert 'cannot be shown' in caplog.text

def test_head_and_post() -> None:
    hub = running()
    with serve(make_app(hub)) as server:
        connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=10)
        connection.request('HEAD', '/events/j1')
        answer = connection.getresponse()
        assert answer.headers.get_content_type() == 'text/event-stream' and answer.read() == b''
        connection.close()
        until(lambda: hub.subscribers == 0)

# ---- Clients that leave

@over_servers
@pytest.mark.parametrize('reset', [False, True])
def test_clients_that_leave(make: Any, impl: str, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    "Before the first byte, idle, in the middle of a flow"
    hub = running(coalesce_seconds=0)
    with serve(make(hub), http=impl) as server:
        for _ in range(20): ask_and_leave(server.port, '/events/j1', reset)
        pages = [Page(server.port, '/events/j1') for _ in range(6)]
        for page in pages: page.read_until(lambda p: p.seen)
        for page in pages[:3]: page.close(reset)
        until(lambda: hub.subscribers == 3)
        for i in range(300):
            say(hub, f'{i} ' * 100)
            if i % 100 == 50: pages[3 + i // 100].close(reset)
        until(lambda: hub.subscribers == 0)
        until(lambda: server.connections == 0)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], caplog.text

def test_heartbeats() -> None:
    hub = running(heartbeat_seconds=.8)
    with serve(make_app(hub)) as server, Page(server.port, '/events/j1') as page:
        page.read_until(lambda p: len(p.parser.comments) >= 4)
        assert [m.event for m in page.seen] == ['snapshot']
        end(hub)
        assert [m.event for m in page.read_all()] == ['snapshot', 'completed']

def test_heartbeats_are_at_most_so_far_apart() -> None:
    hub = running(heartbeat_seconds=2)
    with serve(make_app(hub)) as server, Page(server.port, '/events/j1') as page:
        page.read_until(lambda p: p.seen)
        at, gaps = time.monotonic(), []
        for _ in range(3):
            page.read()
            gaps.append(time.monotonic() - at)
            at = time.monotonic()
        assert max(gaps) < 2 and min(gaps) > 1, gaps
        hub.close()

# ---- Clients that do not read

@over_servers
@pytest.mark.parametrize('by', ['stalled', 'slow'])
def test_client_that_stares(make: Any, impl: str, by: str, caplog: pytest.LogCaptureFixture) -> None:
    "It is cut off; who reads hears everything, and publishing does not wait"
    limits = dict(stall_seconds=1.0) if by == 'stalled' else dict(subscriber_buffer=100, stall_seconds=600.0)
    hub = running(coalesce_seconds=0, **limits)
    with serve(make(hub), http=impl) as server:
        staring = ask_and_stare(server.port, '/events/j1')
        with Page(server.port, '/events/j1') as page, contextlib.closing(staring):
            page.read_until(lambda p: p.seen)
            until(lambda: hub.subscribers == 2)
            took, n = 0.0, 0
            while hub.subscribers == 2:
                at = time.monotonic()
                say(hub, f'{n} '.ljust(50_000, '.'))
                took, n = max(took, time.monotonic() - at), n + 1
                page.read_until(lambda p, n=n: len(p.seen) > n)
                assert n < 5000
            assert took < 1
            until(lambda: server.connections == 1)
            end(hub)
            texts = [m.json['chunk'].rstrip('.') for m in page.read_all() if m.event == 'chunk']
            assert texts == [f'{i} ' for i in range(n)]
        with Page(server.port, '/events/j1', 'long ago') as page:
            assert [m.event for m in page.read_all()] == ['snapshot', 'completed']
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], caplog.text

# ---- The end of the server

@over_servers
def test_server_in_a_thread_is_told_to_stop(make: Any, impl: str, caplog: pytest.LogCaptureFixture) -> None:
    "With streams that are idle, that flow, that nobody reads (a little, a lot), and one that asks meanwhile"
    hub = running(coalesce_seconds=0, stall_seconds=600)
    hub.publish('chat:started', {**JOB, 'job_id': 'idle'})
    with serve(make(hub), http=impl) as server, contextlib.ExitStack() as stack:
        little = stack.enter_context(contextlib.closing(ask_and_stare(server.port, '/events/j1')))
        until(lambda: hub.subscribers == 1)
        for _ in range(300): say(hub, '.' * 20_000)   # more than the system takes
        assert little.fileno() > 0
        stack.enter_context(contextlib.closing(ask_and_stare(server.port, '/events/idle')))
        pages = [stack.enter_context(Page(server.port, f'/events{job}')) for job in ('/idle', '/j1', '')]
        for page in pages: page.read_until(lambda p: p.seen)
        at = time.monotonic()
        server.stop(10)
        assert time.monotonic() - at < 8
        for page in pages: page.read_all()   # complete, and not cut off
    assert hub.subscribers == 0
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], caplog.text

def test_server_that_has_had_enough_requests() -> None:
    "It stops without being told to"
    hub = running()
    with serve(make_app(hub), limit_max_requests=2) as server, Page(server.port, '/events/j1') as page:
        page.read_until(lambda p: p.seen)
        for _ in range(2):
            with Page(server.port, '/state') as other: other.read_all()
        page.read_all()
        server.thread.join(10)
        assert not server.thread.is_alive()

def test_one_hub_two_lives_of_a_server() -> None:
    hub = running()
    for _ in range(2):
        with serve(make_app(hub)) as server, Page(server.port, '/events/j1') as page:
            page.read_until(lambda p: p.seen)
            server.stop(10)
            page.read_all()

def test_two_servers_on_one_loop() -> None:
    "One stops; the streams of the other go on"
    import uvicorn
    hub = running()
    async def main() -> None:
        configs = [uvicorn.Config(make_app(hub), host='127.0.0.1', port=0, log_level='warning') for _ in range(2)]
        servers = [uvicorn.Server(c) for c in configs]
        tasks = []
        for s in servers:
            s.capture_signals = contextlib.nullcontext   # type: ignore[method-assign,assignment]
            tasks.append(asyncio.ensure_future(s.serve()))
            while not s.started: await asyncio.sleep(.01)
        ports = [s.servers[0].sockets[0].getsockname()[1] for s in servers]
        pages = [await asyncio.to_thread(Page, p, '/events/j1') for p in ports]
        for p in pages: await asyncio.to_thread(p.read_until, lambda p: p.seen)
        servers[0].should_exit = True
        await asyncio.wait_for(tasks[0], 10)
        await asyncio.to_thread(pages[0].read_all)
        end(hub)
        assert [m.event for m in await asyncio.to_thread(pages[1].read_all)] == ['snapshot', 'completed']
        servers[1].should_exit = True
        await asyncio.wait_for(tasks[1], 10)
        for p in pages: p.close()
    asyncio.run(main())

class Process:
    "uvicorn as a user starts it."
    def __init__(self, folder: Path, *options: str):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.log = folder/'log'
        env = os.environ | {'PYTHONPATH': f'{ROOT}:{ROOT/"tests"}'}
        run = [sys.executable, '-m', 'uvicorn', '--port', str(self.port), *options]
        with self.log.open('w') as log:
            self.popen = subprocess.Popen(run, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self) -> 'Process': return self

    def __exit__(self, *exc: object) -> None:
        if self.popen.poll() is not None: return
        for p in [*psutil.Process(self.popen.pid).children(recursive=True), self.popen]: p.kill()
        self.popen.wait()

    def said(self) -> str: return self.log.read_text()

    def page(self, last_event_id: str | None = None) -> Page:
        "As an `EventSource` does it: again and again."
        deadline = time.monotonic() + 30
        while True:
            try: return Page(self.port, '/events/clock', last_event_id)
            except OSError: assert time.monotonic() < deadline, self.said()
            time.sleep(.05)

@contextlib.contextmanager
def reader(process: Process) -> Iterator[Page]:
    with process.page() as page:
        page.read_until(lambda p: sum(m.event == 'chunk' for m in p.seen) > 2)
        yield page

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('options', [(), ('--loop', 'uvloop'), ('--workers', '2')])
def test_process_is_told_to_stop(sig: int, options: tuple[str, ...], tmp_path: Path) -> None:
    with Process(tmp_path, 'sse_app:app', *options) as process, reader(process) as page:
        process.popen.send_signal(sig)
        page.read_all()
        assert process.popen.wait(10) in (0, -sig), process.said()
        said = process.said()
        assert 'SHUT DOWN' in said and 'ERROR' not in said and 'Traceback' not in said, said

def next_life(process: Process, last: str | None) -> Page:
    "Come back until the server is another one; the old one answers for a moment yet, and ends at once what it begins."
    while True:
        page = process.page(last)
        while not page.seen and not page.is_complete: page.read()
        if page.seen and (last is None or page.seen[0].last_event_id[:16] != last[:16]): return page
        page.read_all()
        last = page.parser.last_event_id or last
        page.close()

@pytest.mark.limit(60 + 10 * RELOADS)
def test_reload(tmp_path: Path) -> None:
    "Each new life of the server ends the stream of the one before; the page comes back with an id that is not known"
    (tmp_path/'reloaded.py').write_text('from sse_app import app')
    with Process(tmp_path, 'reloaded:app', '--reload', '--reload-dir', str(tmp_path)) as process:
        last, epochs = None, set()
        for i in range(RELOADS + 1):
            with next_life(process, last) as page:
                page.read_until(lambda p: len(p.seen) > 2)
                assert page.seen[0].event == 'snapshot', page.seen
                epochs.add(page.seen[0].last_event_id.partition('-')[0])
                if i == RELOADS: break
                (tmp_path/'reloaded.py').write_text(f'from sse_app import app   # {i}')
                at = time.monotonic()
                page.read_all()
                last = page.parser.last_event_id
                assert time.monotonic() - at < 20
        assert len(epochs) == RELOADS + 1
        process.popen.send_signal(signal.SIGTERM)
        process.popen.wait(15)
        said = process.said()
        assert said.count('SHUT DOWN') == RELOADS + 1 and 'Traceback' not in said and 'ERROR' not in said, said

# ---- Other servers, as ASGI has them

def serve_by_hand(hub: SSEHub, spec: str, is_gone_after: int) -> list[dict[str, Any]]:
    "An ASGI server whose client leaves after some messages; what was sent."
    async def main() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        gone = asyncio.Event()
        async def send(message: dict[str, Any]) -> None:
            if len(sent) >= is_gone_after:
                if spec == '2.4': raise OSError("the client has gone")
                gone.set()
                return
            sent.append(message)
        async def receive() -> dict[str, Any]:
            if spec == '2.3': await gone.wait()
            else: await asyncio.Event().wait()
            return {'type': 'http.disconnect'}
        scope = {'type': 'http', 'method': 'GET', 'path': '/', 'asgi': {'spec_version': spec}}
        async def talk() -> None:
            while True:
                await asyncio.sleep(.01)
                say(hub, 'x')
        talker = asyncio.ensure_future(talk())
        await asyncio.wait_for(sse_response(hub.subscribe('j1'))(scope, receive, send), 10)
        talker.cancel()
        return sent
    return asyncio.run(main())

@pytest.mark.parametrize('spec', ['2.3', '2.4'])
@pytest.mark.parametrize('after', [0, 1, 2, 5])
def test_disconnect_in_each_version(spec: str, after: int) -> None:
    hub = running(coalesce_seconds=0)
    assert len(serve_by_hand(hub, spec, after)) == after
    assert hub.subscribers == 0

def test_idle_disconnect_under_2_4() -> None:
    "No `send` to raise: `receive` tells it"
    hub = running()
    async def main() -> None:
        async def send(message: Any) -> None: pass
        async def receive() -> Any:
            await asyncio.sleep(.2)
            return {'type': 'http.disconnect'}
        response = sse_response(hub.subscribe('j1'))
        await asyncio.wait_for(response({'type': 'http', 'asgi': {'spec_version': '2.4'}}, receive, send), 5)
    asyncio.run(main())
    assert hub.subscribers == 0

def test_cancelled_by_the_server() -> None:
    "As uvicorn does when its patience is over"
    hub = running()
    async def main() -> None:
        async def send(message: Any) -> None: pass
        async def receive() -> Any: await asyncio.Event().wait()
        task = asyncio.ensure_future(sse_response(hub.subscribe('j1'))({'type': 'http'}, receive, send))
        await asyncio.sleep(.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError): await task
        assert len(asyncio.all_tasks()) == 1
    asyncio.run(main())
    assert hub.subscribers == 0

def test_error_of_the_server_is_not_swallowed() -> None:
    hub = running()
    async def main() -> None:
        async def send(message: Any) -> None: raise RuntimeError("no")
        async def receive() -> Any: await asyncio.Event().wait()
        await sse_response(hub.subscribe('j1'))({'type': 'http'}, receive, send)
    with pytest.raises(RuntimeError, match='no'): asyncio.run(main())

def test_json_of_all_jobs() -> None:
    hub = running()
    with serve(make_app(hub)) as server, Page(server.port, '/events') as page:
        page.read_until(lambda p: p.seen)
        assert json.loads(page.seen[0].data)['jobs'][0]['job_id'] == 'j1'
        hub.close()
        page.read_all()
    assert Parser().feed(b'data: x\n\n')
