# Made by tools/stubs.py; edit the notebook, not this file.
"""Pages for your jobs inside your own app: `job_routes(manager).to_app(app)`."""
__all__ = ['Layout', 'Restart', 'Render', 'restart_parameters', 'secrets_of', 'default_layout', 'JobRoutes', 'job_routes', 'DAISYUI', 'EVERYBODY', 'MONSTERUI', 'Action', 'CancelButton', 'JobCard', 'JobProgress', 'JobStatus', 'JobText', 'JobsTable', 'Limits', 'Look', 'WorkerPanel', 'live_headers']
import asyncio
import inspect
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import fields, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote
from fastcore.basics import patch
from fastcore.xml import FT, H1, H2, A, Aside, Div, Main, P, Section, Title, to_xml
from fasthtml.core import APIRouter, FastHTML, FtResponse, HttpHeader
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from ..core.config import JobOptions as JobOptions
from ..core.errors import JobQueueFull as JobQueueFull, WorkersError as WorkersError
from ..core.masking import secret_values as secret_values
from ..core.protocol import TERMINAL_STATUSES as TERMINAL_STATUSES
from ..core.protocol import JobStatus as Status
from ..core.worker import error_line as error_line
from .components import DAISYUI as DAISYUI, MONSTERUI as MONSTERUI
from .components import CancelButton as CancelButton, JobActions as JobActions, JobCard as JobCard, JobProgress as JobProgress, JobStatus as JobStatus, JobText as JobText, Look as Look, PostButton as PostButton, clean as clean, hide_secrets_of as hide_secrets_of, id_of as id_of, live_attrs as live_attrs, mask_known as mask_known, slug_of as slug_of, title_of as title_of
from .guard import EVERYBODY as EVERYBODY
from .guard import Action as Action, Guard as Guard, Limits as Limits, Refused as Refused, Visitor as Visitor
from .live import ASSETS as ASSETS, HtmlPart as HtmlPart, TextPart as TextPart, TextRead as TextRead, View as View, Watch as Watch, live_headers as live_headers, read_log as read_log, read_text as read_text
from .panels import Entry as Entry, JobError as JobError, JobFacts as JobFacts, JobFilter as JobFilter, JobQuery as JobQuery, JobResult as JobResult, JobsTable as JobsTable, PluginInfo as PluginInfo, Samples as Samples, WorkerPanel as WorkerPanel, find_jobs as find_jobs
from .sse import EventResponse as EventResponse, SSEEvent as SSEEvent, SSEFrame as SSEFrame
from ..managers.base import BaseJobManager as BaseJobManager
from ..managers.jobs import BaseJob as BaseJob, is_finished as is_finished
_log = logging.getLogger(__name__)
_all_ = ['DAISYUI', 'EVERYBODY', 'MONSTERUI', 'Action', 'CancelButton', 'JobCard', 'JobProgress', 'JobStatus', 'JobText', 'JobsTable', 'Limits', 'Look', 'WorkerPanel', 'live_headers']
_BASE_FIELDS = {f.name for f in fields(BaseJob)}

def restart_parameters(manager: BaseJobManager, job: BaseJob) -> Mapping[str, Any] | None:
    """The parameters that would make the same job once more."""
    ...

def secrets_of(manager: BaseJobManager) -> set[str]:
    """What this manager's plugins and workers are given that nobody is to see."""
    ...
Layout = Callable[..., Any]
Restart = Callable[[BaseJobManager, BaseJob], Mapping[str, Any] | None]
Render = Callable[[BaseJob], Any]

def default_layout(title: str, *content: Any) -> tuple[Any, ...]:
    """A page in Pico's container."""
    ...

def _keyed(managers: Sequence[BaseJobManager]) -> dict[str, BaseJobManager]:
    """Each manager under a word that can stand in a URL; a single one needs none."""
    ...
_LARGEST_BODY = 2 ** 16

def _without_bodies(inner: Any) -> Any:
    """FastHTML reads what is posted before a handler is asked: a large body is refused before that."""
    ...

class JobRoutes(APIRouter):
    """The routes, as made by `job_routes`."""
    managers: dict[str, BaseJobManager]
    guard: Guard
    limits: Limits
    look: Look
    epoch: str
    title: str
    per_page: int
    layout: Layout
    restart: Restart
    own_parts: dict[str, Render]
    _backlogs: dict[str, tuple[int, dict[str, int]]]
    samples: Samples
    watch: Watch
    _sampled_at: float
    _registry_cache: dict[str, tuple[float, dict[str, Any]]]
    _elsewhere: dict[str, tuple[float, list[BaseJob]]]
    prefix: str

    def __init__(self, managers: Sequence[BaseJobManager], prefix: str, guard: Guard, limits: Limits, root: str=''): ...

    def to_app(self, app: FastHTML) -> None:
        """Add the routes to `app`, and what live components need to its pages."""
        ...

    def look_of(self, key: str) -> Look: ...

    def _take_samples(self) -> None: ...

    def knows_params(self, job: BaseJob, manager: BaseJobManager | None=None) -> bool:
        """Whether this job could be run again."""
        ...

    def _refusal(self, request: Request, refused: Refused) -> Response | FtResponse: ...

    def _page(self, title: str, *content: Any) -> tuple[Any, ...]: ...

    def find(self, slug: str, key: str='') -> tuple[str, BaseJobManager, BaseJob] | None:
        """A job, and whose it is."""
        ...

    async def _job_for(self, visitor: Visitor, action: str, slug: str, key: str) -> tuple[str, BaseJobManager, BaseJob]:
        """The job that this visitor asks for; `Refused` alike if there is none and if it is somebody else's."""
        ...

    async def _jobs_of(self, key: str) -> list[BaseJob]: ...

    async def visible(self, visitor: Visitor) -> list[Entry]:
        """The jobs that this visitor may see."""
        ...

    def _registered(self, key: str) -> dict[str, Any]:
        """Name -> configuration of the plugins that a registry knows; it may read files, so not each time."""
        ...

    def plugins(self, key: str='') -> list[PluginInfo]:
        """The plugins of a manager, as far as it knows them."""
        ...

    def ahead_of(self, job: BaseJob, manager: str='') -> int | None:
        """How many jobs come before this one."""
        ...

    def _ahead_now(self, job: BaseJob, key: str) -> int | None: ...

    def _key_of(self, manager: BaseJobManager) -> str: ...

    async def _may_what(self, visitor: Visitor, manager: BaseJobManager, job: BaseJob) -> dict[str, bool]:
        """Which buttons a job has for this visitor."""
        ...

    async def _render_job(self, visitor: Visitor, kind: str, key: str, manager: BaseJobManager, job_id: str) -> FT | None: ...

    async def _render_card(self, manager: BaseJobManager, job: BaseJob, look: Look, can: dict[str, bool], has_text: bool) -> FT: ...

    async def _render_table(self, visitor: Visitor, query: JobQuery) -> FT: ...

    async def table(self, request: Request, query: JobQuery | None=None) -> FT:
        """The jobs that this visitor may see, for a page of the app; why not, if they may see none."""
        ...

    async def _render_workers(self, request: Request, key: str) -> FT: ...

    async def live(self, job: BaseJob, part: str, manager: str='') -> FT:
        """One of the app's own parts, which is made again whenever something happens to the job."""
        ...

    async def part(self, request: Request, name: str) -> HtmlPart | TextPart:
        """What a component on a page shows; `Refused` if it is not there for this visitor."""
        ...

    async def _parts(self, request: Request) -> tuple[list[HtmlPart | TextPart], list[str]]:
        """The parts that the page asks for, and the names of those that are not there."""
        ...

    async def _is_still_let_in(self, request: Request, parts: Iterable[HtmlPart | TextPart]) -> bool: ...

    async def _live(self, request: Request) -> Response:
        """What a page shows, as it changes."""
        ...

    def _stream(self, request: Request, view: View, gone: list[list[str]], client: str) -> Response: ...

    async def _one_part(self, request: Request) -> Response:
        """One component, for htmx."""
        ...

    async def _text_component(self, part: TextPart) -> FT | None: ...

    async def _list(self, request: Request) -> Any:
        """The page of all jobs."""
        ...

    async def _show(self, request: Request) -> Any:
        """The page of one job."""
        ...

    async def _asset(self, request: Request) -> Response:
        """The script or the stylesheet."""
        ...

    def _answer(self, request: Request, said: str, where: str='', moves: bool=False) -> Response:
        """What an action came to."""
        ...

    async def _cancel(self, request: Request) -> Response: ...

    async def _retry(self, request: Request) -> Response: ...

    async def _owns_file(self, visitor: Visitor) -> bool:
        """Whether no job of somebody else has ended in the files of the stores, where more may be than is listed."""
        ...

    async def _clear(self, request: Request) -> Response: ...

    async def _plugin_for(self, request: Request, action: str) -> tuple[BaseJobManager, PluginInfo]: ...

    async def _unload(self, request: Request) -> Response: ...

    async def _reload(self, request: Request) -> Response: ...

def job_routes(manager: BaseJobManager | Sequence[BaseJobManager], prefix: str='/jobs', authorize: Callable[..., Any] | None=None, *, owner_of: Callable[[Request], Any] | None=None, origins: Collection[str]=(), limits: Limits | None=None, restart: Restart | None=None, classes: Mapping[str, str] | None=None, title: str='Jobs', layout: Layout=default_layout, per_page: int=25, parts: Mapping[str, Render] | None=None, page_of: Callable[[BaseJob], str | None] | None=None, root: str='') -> JobRoutes:
    """Pages for the jobs of a manager."""
    ...
_GONE = 'There is no such job here. It may have been cleared, or the app was started anew.'
_PRIVATE = {'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'SAMEORIGIN', 'referrer-policy': 'same-origin'}

def _serve(routes: JobRoutes, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """What FastHTML calls."""
    ...
_REFUSALS = {404: 'Not here', 409: 'Not now', 429: 'Not now'}

def _wants_page(request: Request) -> bool: ...

def _find_job(manager: BaseJobManager, slug: str) -> BaseJob | None: ...
_MOST_ROWS = 10 ** 6
_LIST_SECONDS = 1.0
_CACHE_SECONDS = 10.0

def _places(manager: BaseJobManager) -> dict[str, int]: ...
_EVERY = {'facts': 0.2, 'card': 0.1, 'brief': 0.1}
_OWN_EVERY = 0.2
_JOB_PARTS: dict[str, Callable[..., FT]] = {'progress': JobProgress, 'cancel': CancelButton, 'facts': JobFacts, 'error': JobError}

def _busy_too(manager: BaseJobManager) -> dict[str, Any]:
    """The stats of a manager; a worker that runs a job is not ready but busy."""
    ...
_KINDS = {*_JOB_PARTS, 'status', 'result', 'actions', 'card', 'brief', 'text', 'log', 'table', 'workers'}
_FORMS = [form + end for form in ('cancel', 'row-cancel', 'retry') for end in ('', '-form', '-button', '-form-button')]
_TAKEN: set[str] = {*_KINDS, *_FORMS, 'row', 'trace', 'result-box'}

def _is_over(manager: BaseJobManager, job_id: str) -> bool: ...

def _params(query: str) -> dict[str, str]: ...
_MOST_PARTS = 100
_ASK_AGAIN_SECONDS = 15.0

class _LiveResponse(EventResponse):
    """An event stream that gives something back when it is over."""
    release: Callable[[], None] = staticmethod(lambda: None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

def _with(gone: list[list[str]], ops: list[Any]) -> list[Any]:
    """`end` stays the last word."""
    ...
_SAID = {'cancelled': 'The job was cancelled.', 'ended': 'The job had ended before.', 'elsewhere': 'Another process of this app has this job, and only there it can be cancelled.', 'cleared': 'Finished jobs were cleared.', 'reloaded': 'The plugin was loaded again.', 'unloaded': 'The plugin was unloaded.', 'unchanged': 'Nothing was changed: no worker runs, or it did not agree in time. The log of the app says more.'}

def _flash(request: Request) -> FT | str: ...

def _as_header(url: str) -> str: ...
_ROUTES: list[tuple[str, str, Callable[..., Awaitable[Any]]]] = [('/-/live', 'get', JobRoutes._live), ('/-/part', 'get', JobRoutes._one_part), ('/-/script', 'get', JobRoutes._asset), ('/-/style', 'get', JobRoutes._asset), ('/-/clear', 'post', JobRoutes._clear), ('/-/plugins/{slug}/unload', 'post', JobRoutes._unload), ('/-/plugins/{slug}/reload', 'post', JobRoutes._reload), ('/{slug}/cancel', 'post', JobRoutes._cancel), ('/{slug}/retry', 'post', JobRoutes._retry), ('/{slug}', 'get', JobRoutes._show), ('', 'get', JobRoutes._list)]
