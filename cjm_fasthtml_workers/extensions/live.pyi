# Made by tools/stubs.py; edit the notebook, not this file.
"""What keeps the components on a page up to date: one event stream for all of them, a small script, a small stylesheet."""
__all__ = ['Op', 'LIVE_JS', 'LIVE_CSS', 'ASSETS', 'read_text', 'read_log', 'HtmlPart', 'TextPart', 'View', 'Watch', 'live_headers']
import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from fastcore.basics import patch
from fastcore.xml import FT, Link, Script, to_xml
from ..core.errors import JobNotFound as JobNotFound
from .components import clean as clean
from .sse import SSEHub as SSEHub
from ..managers.base import BaseJobManager as BaseJobManager
from ..managers.jobs import TextRead as TextRead
_log = logging.getLogger(__name__)

async def read_text(manager: BaseJobManager, job_id: str, place: int | None=None) -> TextRead | None:
    """What a job has streamed since `place`, as it can be shown."""
    ...

async def read_log(manager: BaseJobManager, job_id: str, place: int | None=None, mask: Callable[[str], str]=str) -> TextRead | None:
    """What a job has printed and logged since `place`, which counts lines."""
    ...
Op = list[Any]

def _place(at: str, epoch: str) -> int | None: ...

@dataclass
class HtmlPart:
    """A component that is sent again when it looks different."""
    name: str
    render: Callable[[], Awaitable[FT | None]]
    is_over: Callable[[], bool] = lambda: False
    every: float = 0.0
    looks: bool = False
    _last: str | None = None
    _due: float = 0.0
    _is_told: bool = False
    _gone: bool = False
    _has_ended: bool = False

    def has_ended(self) -> bool:
        """Whether it is over and was not before."""
        ...

    async def ops(self, now: float, is_told: bool) -> list[Op]:
        """What is different."""
        ...

@dataclass
class TextPart:
    """A text that is continued."""
    name: str
    dom_id: str
    read: Callable[[int | None], Awaitable[TextRead | None]]
    epoch: str
    at: str = ''
    is_over: Callable[[], bool] = lambda: False
    _gone: bool = False

    async def ops(self, now: float, is_told: bool) -> list[Op]:
        """What has come since."""
        ...
_LOOK_AT_ALL_SECONDS = 5.0

@dataclass
class View:
    """All that one page shows."""
    parts: Sequence[HtmlPart | TextPart]
    epoch: str
    is_over: bool = False
    _looked: float = float('-inf')
    _greeted: bool = False

    async def ops(self, now: float, is_told: bool=True) -> list[Op]:
        """What is different; the last one is `end` when all is over."""
        ...

    async def _ops_of(self, part: HtmlPart | TextPart, now: float, is_told: bool) -> list[Op]: ...
_LINGER_SECONDS = 30.0

@dataclass(eq=False)
class Watch:
    """Tells streams when to look."""
    managers: Collection[BaseJobManager]
    on_tick: Callable[[], None] = lambda: None
    coalesce_seconds: float = 0.05
    tick_seconds: float = 1.0
    hub: SSEHub = field(default_factory=lambda: SSEHub(max_jobs=1, subscriber_buffer=1000))
    changes: int = 0
    _ticker: asyncio.Task | None = None
    _hearers: dict[int, asyncio.Task] = field(default_factory=dict)

    def start(self) -> None:
        """Begin on the running loop, if that has not been done."""
        ...

    def tell(self, ids: Collection[str | None]=()) -> None:
        """Something happened: all streams look now."""
        ...

    def stop(self) -> None:
        """End the tasks. On their loop."""
        ...

    async def _tick(self) -> None: ...

    def _hear(self) -> None:
        """Hear every manager that is not being heard."""
        ...

    def _stop_hearing(self) -> None: ...

    async def _hear_one(self, manager: BaseJobManager) -> None: ...
_JS = ['(() => {\n\'use strict\'\nif (window.jobsLive) return\nconst region = Object.assign(document.createElement(\'div\'), {className: \'jobs-notice\'})\nregion.setAttribute(\'role\', \'status\')\nlet fading\nconst say = (text, stays) => {\n  clearTimeout(fading)\n  region.textContent = text\n  if (text && !stays) fading = setTimeout(() => say(\'\'), 8000)\n}\nconst all = id => document.querySelectorAll(\'[id="\' + CSS.escape(id) + \'"]\')\n']
LIVE_JS: str = ''.join(_JS)
_CSS = ['\n:root { --jobs-line: color-mix(in srgb, currentColor 20%, transparent);\n  --jobs-soft: color-mix(in srgb, currentColor 72%, transparent); --jobs-good: light-dark(#1b7a3d, #6fce8f);\n  --jobs-bad: light-dark(#b3261e, #ff9a8f); --jobs-wait: light-dark(#805b00, #e3bd62);\n  --jobs-busy: light-dark(#0a5fb4, #7ab8ff); --jobs-gone: light-dark(#5b6470, #a9b2bd);\n  --jobs-back: light-dark(#fff, #1b2129); }\n:where(html.dark) { color-scheme: dark; }\n@layer base {\n  :where(html:has(main.jobs-page)) { font-family: system-ui, sans-serif; line-height: 1.5; }\n  :where(main.jobs-page) { box-sizing: border-box; max-width: 80rem; margin: 0 auto; padding: 1rem; }\n}\n.jobs-page { overflow-wrap: anywhere; }\n.jobs-page :is(h1, h2), .jobs-title { font-weight: 700; }\n.jobs-page h1 { margin-bottom: .5rem; font-size: 1.6rem; line-height: 1.25; }\n.jobs-page h2 { margin: 2rem 0 .75rem; font-size: 1.2rem; }\n.jobs-title { margin: 0; }\nh3.jobs-title { font-size: 1rem; }\n.jobs-page h2.jobs-title { margin-top: 0; }\n.jobs-workers { margin-top: 2.5rem; }\n.jobs-hint, .jobs-sentence, .jobs-id, .jobs-said, .jobs-count, .jobs-off { color: var(--jobs-soft);\n  font-weight: 400; }\n.jobs-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);\n  white-space: nowrap; }\n.jobs-back { display: inline-block; margin-bottom: 1rem; }\n:is(.jobs-name, .jobs-back, .jobs-empty a, .jobs-pages a):any-link { text-decoration-line: underline; }\n:is(.jobs-page, .jobs-card, .jobs-list, .jobs-workers) :focus-visible:not([tabindex="-1"]) {\n  outline: 2px solid currentColor; outline-offset: 2px; }\n.jobs-name { unicode-bidi: isolate; overflow-wrap: anywhere; }\n.jobs-empty { margin: 0 0 1rem; padding: 2.5rem 1rem; text-align: center; color: var(--jobs-soft);\n  border: 1px dashed var(--jobs-line); border-radius: .5rem; }\n']
LIVE_CSS: str = ''.join(_CSS)

def _digest(text: str) -> str: ...
ASSETS: dict[str, tuple[str, str]] = {'script': ('text/javascript', LIVE_JS), 'style': ('text/css', LIVE_CSS)}

def live_headers(prefix: str='/jobs') -> tuple[FT, ...]:
    """What a page needs in its head for its components to be live; the routes add it to their app by themselves."""
    ...
