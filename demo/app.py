"""The web side: routes and the job manager. What follows a job on a page is the library's own dashboard."""
import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from anyio import CapacityLimiter, to_thread
from fasthtml.common import FastHTML, FileResponse, Redirect, Request, to_xml
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.extensions.dashboard import Action, job_routes
from cjm_fasthtml_workers.extensions.guard import is_local, why_foreign
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.managers.base import BaseJob, BaseJobManager
from cjm_fasthtml_workers.managers.jobs import is_finished
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

from . import views
from .documents import MAX_BYTES, SAMPLE_FOLDER, SAMPLES, TOO_LARGE, Document, Library, Refused
from .views import Chunk

LINE_PAUSE = float(os.environ.get('DEMO_LINE_PAUSE', 0))  # seconds after each line, for demonstrations and tests
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
    if not path.exists() or not path.read_text().strip():
        draft = path.with_name('secret.draft')   # so that the file is whole or not there
        draft.unlink(missing_ok=True)
        draft.touch(0o600)
        draft.write_text(secrets.token_hex(32))
        draft.replace(path)
    return path.read_text().strip()


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
    return views.page('Read a scanned document', *views.home(), message=error.detail)


# FastHTML itself rather than `fast_app`, whose static route would also serve files outside its folder
app = FastHTML(title='Read a scanned document', hdrs=views.headers(), default_hdrs=False, canonical=False,
               htmlkw={'lang': 'en'}, lifespan=lifespan, middleware=[Middleware(Gate)],
               secret_key=secret_key(), session_cookie='demo_session',
               exception_handlers={code: problem for code in (400, 404, 409, 422, 429)},
               routes=[Mount('/static', StaticFiles(directory=views.STATIC))])


# --- Documents and their jobs ---

def owner(request: Request) -> str:
    "The visitor, known by a signed cookie."
    return request.session.setdefault('owner', uuid4().hex)


def job_of(document: Document) -> BaseJob | None:
    "The newest job that reads `document`."
    jobs = reversed(manager.get_all_jobs())
    return next((job for job in jobs if job.metadata.get('document') == document.id), None)


def document_of(job: BaseJob) -> Document | None:
    "What `job` reads, if it is still there."
    return library.get(job.metadata.get('document', ''), job.owner or '')


def find(id: str, request: Request) -> tuple[Document, BaseJob]:
    "A document of this visitor and its job; somebody else's is as unknown as one that never was."
    document = library.get(id, owner(request))
    job = job_of(document) if document else None
    if document is None or job is None: raise HTTPException(404, 'This document is not here any more.')
    return document, job


def is_busy(document: Document) -> bool:
    "Whether the job of `document` still goes on."
    job = job_of(document)
    return document.is_new or job is not None and not is_finished(job)


async def chunks_of(job: BaseJob) -> list[Chunk]:
    "What the plugin has streamed, decoded. The manager keeps it, so it can be read at any time."
    return [json.loads(line) for line in (await manager.read_text(job.id)).text.splitlines()]


# --- What follows a job on a page: the dashboard, with one part of our own ---

def authorize(request: Request, action: str, job: BaseJob | None) -> bool:
    "Visitors have their own documents; the rest is for who sits at this machine."
    return is_local(request) or action in (Action.LIST, Action.VIEW, Action.CANCEL, Action.RETRY)


def again(manager: BaseJobManager, job: BaseJob) -> dict[str, Any] | None:
    "What is needed to read a document once more."
    document = document_of(job)
    return {'pages': document.paths, 'line_pause': LINE_PAUSE} if document else None


def page_of(job: BaseJob) -> str | None:
    "Where the visitor looks at `job`; None: its document has gone, and only what was read of it is left."
    document = document_of(job)
    return f'/documents/{document.id}' if document else None


async def sheets(job: BaseJob) -> Any:
    "The pages of a document with what is read of them."
    document = document_of(job)
    return views.sheets(document, await chunks_of(job)) if document else ''


jobs = job_routes(manager, authorize=authorize, owner_of=owner, restart=again, page_of=page_of,
                  parts={'sheets': sheets}, title='Jobs', layout=views.dashboard_page, classes=views.CLASSES)
jobs.to_app(app)


# --- Routes ---

@app.get('/')
async def home(request: Request) -> Any:
    "Choose a document."
    return views.page('Read a scanned document', *views.home(), await jobs.table(request))


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
    try: await start(document)
    except BaseException:   # else it would be busy for ever, and take a place
        library.drop(document)
        raise
    return Redirect(f'/documents/{document.id}')


async def start(document: Document) -> None:
    "Start the job that reads `document`."
    options = JobOptions(owner=document.owner, metadata={'title': document.title, 'document': document.id})
    await manager.start_job('reader', job_options=options, pages=document.paths, line_pause=LINE_PAUSE)
    document.is_new = False


@app.get('/documents/{id}')
async def show(id: str, request: Request) -> Any:
    "The page of a document."
    document, job = find(id, request)
    bar = views.bar(document, job, jobs.look, jobs.ahead_of(job))
    return views.page(document.title, bar, await jobs.live(job, 'sheets'), await jobs.table(request))


@app.get('/documents/{id}/pages/{number}')
def page_image(id: str, number: int, request: Request) -> Any:
    "The image of a page."
    document, _ = find(id, request)
    if not 1 <= number <= len(document.sizes): raise HTTPException(404, 'There is no such page.')
    return FileResponse(document.page_path(number), headers={'Cache-Control': 'private, max-age=3600'})


@app.get('/documents/{id}/text')
async def text(id: str, request: Request) -> Response:
    "What was read, as a text file."
    _, job = find(id, request)
    headers = {'Content-Disposition': 'attachment; filename="text.txt"'}
    return PlainTextResponse(views.plain_text(await chunks_of(job)), headers=headers)
