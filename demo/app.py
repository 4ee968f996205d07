"""The web side: routes, the job manager, and the stream that keeps a page up to date."""
import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from anyio import CapacityLimiter, to_thread
from fasthtml.common import EventStream, FastHTML, FileResponse, Redirect, Request, to_xml
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.extensions.guard import why_foreign
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.extensions.sse import encode_frame
from cjm_fasthtml_workers.managers.base import BaseJob
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

from . import views
from .documents import MAX_BYTES, SAMPLE_FOLDER, SAMPLES, TOO_LARGE, Document, Library, Refused
from .views import ENDED, Chunk

LINE_PAUSE = float(os.environ.get('DEMO_LINE_PAUSE', 0))  # seconds after each line, for demonstrations and tests
TICK = 0.25  # seconds between two looks at what no chunk tells: the place in the queue, the model being loaded

FOLDER = Path(os.environ['DEMO_FOLDER']) if os.environ.get('DEMO_FOLDER') else None  # outlives the server; or nothing

store = SQLiteJobStore(FOLDER/'jobs.db', make_directory=True) if FOLDER else None
manager = SimpleJobManager(plugins={'reader': 'demo.reader:PageReader'}, job_store=store)
library = Library(folder=FOLDER/'documents' if FOLDER else None)
unpacking = CapacityLimiter(1)  # one upload is decoded at a time, which bounds the memory it takes


async def lifespan(app: FastHTML) -> AsyncIterator[None]:
    "Load the model while the first visitor is still looking around; clean up at the end."
    async with manager.lifespan(app):
        warming = asyncio.create_task(manager.start())
        yield
        warming.cancel()
    library.close()


def secret_key() -> str:
    "What signs the cookies; the same as before where documents are kept, so that visitors find theirs again."
    if FOLDER is None: return secrets.token_hex(32)
    path = FOLDER/'secret'
    if not path.exists():
        path.touch(0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()


class Gate:
    "Turns away what our own pages never send: posts from other sites, and bodies too large to be taken."

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response | None = None
        if scope['type'] == 'http' and scope['method'] not in ('GET', 'HEAD'):
            request = Request(scope, receive)
            if why := why_foreign(request): answer = PlainTextResponse(why, 403)
            elif 'transfer-encoding' in request.headers: answer = PlainTextResponse('How long is the body?', 411)
            elif int(request.headers.get('content-length', 0)) > MAX_BYTES + 2**16:
                async for _ in request.stream(): pass  # a browser reads our answer only after it has sent everything
                answer = HTMLResponse(to_xml(views.notice(TOO_LARGE)), 413)
        await (answer or self.app)(scope, receive, send)


def problem(request: Request, error: HTTPException) -> Any:
    "A clear word: into the page for htmx, as a page of its own otherwise."
    if 'hx-request' in request.headers: return views.notice(error.detail)
    if error.status_code == 404: return views.missing()
    return views.page('Read a scanned document', *views.home(shelf(owner(request))), message=error.detail)


# FastHTML itself rather than `fast_app`, whose static route would also serve files outside its folder
app = FastHTML(title='Read a scanned document', hdrs=views.headers(), default_hdrs=False, canonical=False,
               htmlkw={'lang': 'en'}, lifespan=lifespan, middleware=[Middleware(Gate)],
               secret_key=secret_key(), session_cookie='demo_session',
               exception_handlers={code: problem for code in (400, 404, 409, 422, 429)},
               routes=[Mount('/static', StaticFiles(directory=views.STATIC))])
app.state.stopping = False  # set by the server when it is told to stop


# --- Who may see what ---

def owner(request: Request) -> str:
    "The visitor, known by a signed cookie."
    return request.session.setdefault('owner', uuid4().hex)


def find(id: str, request: Request) -> tuple[Document, BaseJob]:
    "A document of this visitor and its job; somebody else's is as unknown as one that never was."
    document = library.get(id, owner(request))
    job = manager.get_job(document.job_id) if document else None
    if document is None or job is None: raise HTTPException(404, 'This document is not here any more.')
    return document, job


def is_busy(document: Document) -> bool:
    "Whether the job of `document` still goes on."
    job = manager.get_job(document.job_id)
    return not document.job_id or job is not None and job.status not in ENDED


def ahead_of(job: BaseJob) -> int:
    "How many jobs, of all visitors, are done before `job` starts."
    jobs = manager.get_all_jobs()
    return sum(other.status not in ENDED for other in jobs[:jobs.index(job)]) if job.status == 'pending' else 0


def shelf(visitor: str, current: str = '') -> Any:
    "The documents of a visitor."
    jobs = [(document, manager.get_job(document.job_id)) for document in library.of(visitor)]
    return views.shelf([(document, job, ahead_of(job)) for document, job in jobs if job], current)


# --- Routes ---

@app.get('/')
def home(request: Request) -> Any:
    "Choose a document."
    return views.page('Read a scanned document', *views.home(shelf(owner(request))))


@app.get('/shelf')
def refresh_shelf(request: Request, current: str = '') -> Any:
    "The shelf alone."
    return shelf(owner(request), current)


@app.post('/documents')
async def upload(request: Request) -> Any:
    "Take an upload."
    file = (await request.form()).get('file')
    if not isinstance(file, UploadFile): raise HTTPException(422, 'Choose a file first.')
    return await read(owner(request), file.filename or '', await file.read())


@app.post('/samples/{name}')
async def take_sample(name: str, request: Request) -> Any:
    "Take one of our pages as if it had been uploaded."
    if name not in SAMPLES: raise HTTPException(404, 'There is no such sample.')
    return await read(owner(request), name, (SAMPLE_FOLDER/name).read_bytes())


async def read(visitor: str, name: str, data: bytes) -> Redirect:
    "Check a file, start its job, and lead the visitor to its page."
    try:
        document = await to_thread.run_sync(library.unpack, visitor, name, data, limiter=unpacking)
        library.keep(document, is_busy)
    except Refused as error: raise HTTPException(422, str(error)) from None
    await start(document)
    return Redirect(f'/documents/{document.id}')


async def start(document: Document) -> None:
    "Start the job that reads `document`."
    options = JobOptions(owner=document.owner)
    job = await manager.start_job('reader', job_options=options, pages=document.paths, line_pause=LINE_PAUSE)
    document.job_id = job.id
    await to_thread.run_sync(library.save, document)


@app.get('/documents/{id}')
async def show(id: str, request: Request) -> Any:
    "The page of a document: whole if its job is over, else filled by the stream."
    document, job = find(id, request)
    chunks = [chunk async for chunk in chunks_of(job)] if job.status in ENDED else []
    content = views.document_page(document, job, ahead_of(job), chunks, shelf(document.owner, id))
    return views.page(document.title, *content)


@app.get('/documents/{id}/pages/{number}')
def page_image(id: str, number: int, request: Request) -> Any:
    "The image of a page."
    document, _ = find(id, request)
    if not 1 <= number <= len(document.sizes): raise HTTPException(404, 'There is no such page.')
    return FileResponse(document.page_path(number), headers={'Cache-Control': 'private, max-age=3600'})


@app.get('/documents/{id}/text')
async def text(id: str, request: Request) -> Response:
    "What was read, as a text file."
    document, job = find(id, request)
    chunks = [chunk async for chunk in chunks_of(job)] if job.status in ENDED else []
    headers = {'Content-Disposition': 'attachment; filename="text.txt"'}
    return PlainTextResponse(views.plain_text(chunks), headers=headers)


@app.post('/documents/{id}/cancel')
async def cancel(id: str, request: Request) -> Any:
    "Stop a job, or take it out of the queue. The open pages learn it from their streams."
    _, job = find(id, request)
    await manager.cancel_job(job.id)
    return '' if 'hx-request' in request.headers else Redirect(f'/documents/{id}')


@app.post('/documents/{id}/again')
async def read_again(id: str, request: Request) -> Any:
    "Read a document once more."
    document, job = find(id, request)
    if job.status in ENDED: await start(document)
    return Redirect(f'/documents/{id}')


@app.get('/documents/{id}/stream')
async def stream(id: str, request: Request) -> Any:
    "The changes of a document's page as server-sent events."
    document, job = find(id, request)
    seen = request.headers.get('last-event-id', '')  # sent by a browser that reconnects
    return EventStream(updates(document, job, int(seen) if seen.isdecimal() and len(seen) < 9 else 0))


async def updates(document: Document, job: BaseJob, seen: int) -> AsyncIterator[str]:
    "Events from chunk number `seen` on until the job has ended."
    number, over = 0, False
    last: Chunk | None = None
    shown: dict[str, str] = {}
    arrived: asyncio.Queue[Chunk | None] = asyncio.Queue()
    collecting = asyncio.create_task(collect(job, arrived))
    yield 'retry: 1000\n\n'  # milliseconds until a browser that lost the connection tries again
    try:
        while not over and not app.state.stopping:
            changes: list[Any] = []
            for chunk in await gather(arrived):
                if chunk is None: over = True
                else:
                    before, last, number = last, chunk, number+1
                    if number > seen: changes += views.chunk_update(chunk, before)
            for name, part in views.parts(document, job, ahead_of(job), last).items():
                html = to_xml(part)
                if shown.get(name) != html: changes.append(part(hx_swap_oob='true'))
                shown[name] = html
            if changes: yield message('update', changes, number)
        if over: yield message('end', ['over'], number)
    finally: collecting.cancel()


async def collect(job: BaseJob, arrived: asyncio.Queue[Chunk | None]) -> None:
    "Put the chunks of `job` into `arrived`, from the first one on, and `None` after the last."
    try:
        async for chunk in chunks_of(job): await arrived.put(chunk)
    finally: arrived.put_nowait(None)


async def gather(arrived: asyncio.Queue[Chunk | None]) -> list[Chunk | None]:
    "What has arrived, waiting a moment for it."
    try: first = await asyncio.wait_for(arrived.get(), TICK)
    except TimeoutError: return []
    return [first, *(arrived.get_nowait() for _ in range(arrived.qsize()))]


async def chunks_of(job: BaseJob) -> AsyncIterator[Chunk]:
    "What the plugin streams, decoded. The manager keeps it, so it can be read again from the start at any time."
    async for piece in manager.stream_job(job.id):
        if piece.chunk: yield json.loads(piece.chunk)


def message(event: str, content: list[Any], id: int) -> str:
    "One server-sent event. The browser sends the last `id` back when it reconnects."
    return encode_frame(event=event, id=str(id), data=''.join(map(to_xml, content))).decode()
