"""An app with a hub, as a server of its own: `python -m uvicorn sse_app:app`, or in a thread."""
import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fasthtml.common import Div, fast_app
from starlette.requests import Request
from starlette.responses import JSONResponse

from cjm_fasthtml_workers.extensions.sse import EventResponse, SSEEvent, SSEHub, sse_response


def make_app(hub: SSEHub, **options: Any) -> Any:
    "Streams of one job and of all; `/html` gives components."
    app, route = fast_app(**options)

    @route('/events/{job_id}')
    def one(job_id: str, request: Request) -> EventResponse: return stream(request, job_id)

    @route('/html/{job_id}')
    async def html(job_id: str, request: Request) -> EventResponse: return stream(request, job_id, render=show)

    @route('/events')
    async def every(request: Request) -> EventResponse: return stream(request)

    @route('/state')
    def state() -> JSONResponse: return JSONResponse({'subscribers': hub.subscribers})

    def stream(request: Request, job_id: str | None = None, render: Any = None) -> EventResponse:
        return sse_response(hub.subscribe(job_id, request.headers.get('last-event-id')), render=render, hub=hub)
    return app

def show(event: SSEEvent) -> Any:
    if event.data.get('chunk') == 'broken': raise RuntimeError("cannot be shown")
    return Div(event.data['chunk']) if event.name == 'chunk' else None

class Server:
    "A real uvicorn in a thread, where no signal reaches it."
    def __init__(self, app: Any, **options: Any):
        config = uvicorn.Config(app, host='127.0.0.1', port=0, log_level='warning', loop='asyncio', **options)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, name='uvicorn')

    @property
    def port(self) -> int: return self.server.servers[0].sockets[0].getsockname()[1]

    @property
    def connections(self) -> int: return len(self.server.server_state.connections)

    def stop(self, seconds: float) -> None:
        self.server.should_exit = True
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f'still running after {seconds} seconds'

@contextlib.contextmanager
def serve(app: Any, **options: Any) -> Iterator[Server]:
    s = Server(app, **options)
    s.thread.start()
    try:
        until(lambda: s.server.started or not s.thread.is_alive())
        yield s
    finally:
        s.server.should_exit = True
        s.thread.join(10)
        s.server.force_exit = True
        s.thread.join(10)

def until(condition: Callable[[], object], seconds: float = 20, what: str = '') -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f'not true within {seconds} seconds: {what}'
        time.sleep(.01)

# ---- As a process: a job that never ends, and that says the time

hub = SSEHub()
hub.publish('chat:started', {'job_id': 'clock', 'plugin_id': 'clock', 'status': 'running'})

async def tell_time() -> None:
    n = 0
    while True:
        await asyncio.sleep(.05)
        hub.publish('chat:chunk', {'job_id': 'clock', 'plugin_id': 'clock', 'status': 'running', 'chunk': f'{n} '})
        n += 1

async def lifespan(app: Any):
    clock = asyncio.ensure_future(tell_time())
    yield
    clock.cancel()
    print('SHUT DOWN', flush=True)

app = make_app(hub, lifespan=lifespan)
