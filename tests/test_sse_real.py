"The real cjm-fasthtml-sse behind `SSEBroadcasterAdapter`: what a manager broadcasts, a client of a real server reads."
import asyncio
import contextlib
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from cjm_fasthtml_sse.core import SSEBroadcastManager
from fasthtml.common import EventStream, fast_app

from cjm_fasthtml_workers.extensions.adapters import create_standard_adapters
from support_plugins.managers import ReaderManager

JOB = {'job_id': 'j1', 'plugin_id': 'whisper'}
EVENTS = [('asr:started', JOB | {'status': 'running'}),
          ('asr:chunk', JOB | {'status': 'running', 'chunk': 'zwei\nZeilen, "ä" <b>'}),
          ('asr:completed', JOB | {'status': 'completed'})]

class Site:
    "An app with one event stream, fed by the broadcaster of cjm-fasthtml-sse"
    def __init__(self, last: str) -> None:
        self.last = last   # event with which a stream ends
        self.sse = SSEBroadcastManager()
        self.broadcaster = create_standard_adapters(sse_manager=self.sse)[2]
        self.manager = ReaderManager(event_broadcaster=self.broadcaster)
        self.app, route = fast_app(lifespan=self.lifespan)
        route('/events')(self.events)
        route('/start')(self.start)

    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        async with self.manager.lifespan(): yield

    async def start(self) -> str:
        job = await self.manager.start_job('reader', stream=True, words=['zwei\nZeilen', '"ä" <b>'])
        return job.id

    async def events(self) -> Any: return EventStream(self.messages())

    async def messages(self) -> AsyncIterator[str]:
        page = await self.sse.register_connection()
        try:
            yield ': connected\n\n'
            while True:
                message = await page.get()
                yield f"event: {message['type']}\ndata: {json.dumps(message['data'])}\n\n"
                if message['type'] == self.last: break
        finally: await self.sse.unregister_connection(page)

    def broadcast(self, event_type: str, data: dict[str, Any]) -> None:
        "As a manager does it: awaited on the loop that the app runs on"
        asyncio.run_coroutine_threadsafe(self.broadcaster.broadcast(event_type, data), self.loop).result(20)

@contextlib.contextmanager
def serve(app: Any) -> Iterator[int]:
    "A real uvicorn server in a thread; its port"
    config = uvicorn.Config(app, host='127.0.0.1', port=0, log_level='warning', timeout_graceful_shutdown=5,
                            loop='asyncio')   # uvloop keeps a pipe for the life of the process
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name='uvicorn')
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()

def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f'not true within {seconds} seconds'
        time.sleep(.01)

class Page:
    "A client that reads the event stream as a browser does"
    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
        self.connection.request('GET', '/events')
        self.response = self.connection.getresponse()
        assert self.response.headers.get_content_type() == 'text/event-stream'

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        event, data = 'message', []
        for line in iter(self.response.readline, b''):
            name, _, value = line.decode().rstrip('\n').partition(': ')
            if name == 'event': event = value
            elif name == 'data': data.append(value)
            elif not name and data:
                yield event, json.loads('\n'.join(data))
                event, data = 'message', []

    def close(self) -> None:
        self.response.close()
        self.connection.close()

def test_clients_of_a_real_server_read_what_is_broadcast() -> None:
    site = Site('asr:completed')
    with serve(site.app) as port:
        pages = [Page(port) for _ in range(2)]
        try:
            until(lambda: site.sse.connection_count == 2)
            for event in EVENTS: site.broadcast(*event)
            for page in pages: assert list(page) == EVENTS
        finally:
            for page in pages: page.close()
        until(lambda: site.sse.connection_count == 0)

def test_broadcast_to_nobody() -> None:
    site = Site('asr:completed')
    with serve(site.app):
        for event in EVENTS: site.broadcast(*event)
    assert [m['type'] for m in site.sse.get_history()] == [t for t, _ in EVENTS]

def test_clients_of_a_real_server_follow_a_job() -> None:
    site = Site('reader:completed')
    with serve(site.app) as port:
        page = Page(port)
        try:
            until(lambda: site.sse.connection_count == 1)
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/start', timeout=20) as response:
                job_id = response.read().decode()
            events = [(kind, data) for kind, data in page if data.get('job_id') == job_id]
        finally: page.close()
    names = ['queued', 'started', 'chunk', 'chunk', 'completed']
    told = [kind for kind, _ in events if kind not in ('reader:progress', 'reader:log')]
    assert told == [f'reader:{name}' for name in names]
    assert [data['chunk'] for kind, data in events if kind == 'reader:chunk'] == ['zwei\nZeilen', '"ä" <b>']
    assert all(data['plugin_id'] == 'reader' and data['status'] for _, data in events)
    assert events[-1][1]['status'] == 'completed'
