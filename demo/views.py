"""What the visitor sees: functions that make FastHTML components out of documents, jobs and stream chunks."""
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fasthtml import common as fh
from fasthtml.common import H1, H2, H3, A, Button, Div, Form, P, Section, Small, Span, Strong
from fasthtml.core import htmxsrc

from cjm_fasthtml_workers.extensions.dashboard import JobActions, JobProgress, JobStatus, Look
from cjm_fasthtml_workers.extensions.panels import JobError
from cjm_fasthtml_workers.managers.base import BaseJob

from .documents import FORMATS, MAX_BYTES, MAX_PAGES, SAMPLES, Document

STATIC = Path(__file__).parent/'static'
VENDOR = STATIC/'vendor'
CLASSES = {'button': 'button', 'danger': 'button'}  # where the dashboard looks like the rest
Chunk = dict[str, Any]  # What the plugin streams: see `demo/reader.py`
ICON = ("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' stroke='%238a7f6a'>"
        "<rect x='2.5' y='.5' width='11' height='15' rx='1' fill='%23fffdf7'/>"
        "<path d='M4 5h8' stroke='%23f2b632' stroke-width='3'/><path d='M4 9h8M4 12h5'/></svg>")


def scripts() -> list[Any]:
    "htmx: what `demo/vendor.py` fetched, or else from the CDN that FastHTML uses."
    return [fh.Script(src='/static/vendor/htmx.min.js') if (VENDOR/'htmx.min.js').exists() else htmxsrc]


def headers() -> list[Any]:
    "The head of every page."
    config = {'includeIndicatorStyles': False,  # error answers carry a notice, so they are swapped in too
              'responseHandling': [{'code': '204', 'swap': False}, {'code': '[2345]..', 'swap': True}]}
    return [fh.Meta(charset='utf-8'), fh.Meta(name='viewport', content='width=device-width, initial-scale=1'),
            fh.Meta(name='color-scheme', content='light dark'), fh.Meta(name='htmx-config', content=json.dumps(config)),
            fh.Link(rel='icon', href=ICON), fh.Link(rel='stylesheet', href='/static/demo.css'),
            *scripts(), fh.Script(src='/static/demo.js', defer=True)]


def page(title: str, *content: Any, message: str = '') -> tuple[Any, ...]:
    "A whole page; `message` is a notice shown above the content."
    return (fh.Title(title),
            fh.Header(A('Read a scanned document', href='/'), Span('while you watch'), cls='top'),
            Div(notice(message) if message else '', id='notice', role='alert'),
            fh.Main(*content),
            fh.Footer('The text is recognised on this machine. ', A('All jobs and the worker', href='/jobs')))


def dashboard_page(title: str, *content: Any) -> tuple[Any, ...]:
    "A page of the dashboard."
    return page(title, Div(*content, cls='jobs-page'))


def notice(message: str) -> Any:
    "A clear word about something that did not work."
    return P(message, cls='notice')


# --- The first page ---

def home() -> tuple[Any, ...]:
    "Where a document is chosen."
    formats = ', '.join(FORMATS).replace('WEBP', 'WebP')
    limits = P(f'{formats}; up to {MAX_BYTES >> 20} MB; a TIFF may have {MAX_PAGES} pages.', cls='hint')
    samples = Div(*[sample_button(name, title) for name, title in SAMPLES.items()], cls='samples')
    return (H1('Watch a page being read'),
            P('Pick a scanned page. Each piece of text lights up on the image and appears beside it '
              'as it is recognised.', cls='lead'),
            Div(Section(H2('Bring your own'), upload_form(), limits), Section(H2('Or take one of ours'), samples),
                cls='choice'))


def upload_form() -> Any:
    "A place to drop a file on; it is sent as soon as it is chosen."
    choose = fh.Label(Strong('Choose a scan'), Span(' or drop it here'), Small('Reading starts at once.'), fr='file')
    return Form(fh.Input(type='file', name='file', id='file', accept='image/*,.tif,.tiff', required=True,
                         data_max=MAX_BYTES),
                choose, fh.NotStr('<noscript><button>Read it</button></noscript>'),
                **posting('/documents'), enctype='multipart/form-data', hx_encoding='multipart/form-data',
                hx_trigger='change', hx_indicator='closest form', cls='drop')


def sample_button(name: str, title: str) -> Any:
    "A sample page to click on."
    image = fh.Img(src=f'/static/samples/{Path(name).stem}.webp', alt='', width=180, height=254)
    return Form(Button(image, Span(title)), **posting(f'/samples/{name}'), hx_disabled_elt='find button')


def posting(path: str) -> dict[str, str]:
    "Attributes of a form that posts to `path`, through htmx if it is there; what comes back is a notice or a redirect."
    return {'action': path, 'method': 'post', 'hx_post': path, 'hx_target': '#notice'}


# --- The page of a document ---

def bar(
    document: Document,
    job: BaseJob,
    look: Look,  # Of the dashboard
    ahead: int | None,  # Jobs that come before this one, if it waits
) -> Any:
    "What is going on, and what the visitor can do now."
    save = A('Save the text', href=f'/documents/{document.id}/text', download=True, cls='button save')
    actions = Div(save, JobActions(job, look, can_retry=True), cls='controls')
    return Section(H1(document.title), JobStatus(job, look, ahead=ahead), actions, JobProgress(job, look),
                   JobError(job, look), cls='bar', aria_label='Progress')


def sheets(document: Document, chunks: Sequence[Chunk]) -> Any:
    "All pages, with what is read of them."
    numbers = range(1, len(document.sizes)+1)
    return Div(*[sheet(document, number, [c for c in chunks if c['page'] == number]) for number in numbers])


def sheet(document: Document, number: int, chunks: Sequence[Chunk]) -> Any:
    "One page: the image with its boxes, and its text."
    width, height = document.sizes[number-1]
    found = next((c for c in chunks if c['kind'] == 'page'), None)
    lines = [c for c in chunks if c['kind'] == 'line']
    corners = dict(enumerate(found['boxes'], 1)) if found else {}
    corners |= {c['line']: c['box'] for c in lines}
    boxes = [box(number, line, where, width, height, lit=line <= len(lines)) for line, where in corners.items()]
    rows: dict[int, list[Chunk]] = {}
    for chunk in lines: rows.setdefault(chunk['row'], []).append(chunk)
    image = fh.Img(src=f'/documents/{document.id}/pages/{number}', width=width, height=height,
                   alt=f'Scanned page {number} of {document.title}')
    return Section(fh.Figure(image, Div(*boxes, id=f'boxes-{number}', cls='boxes'), cls='paper',
                             style=f'--w:{width};--h:{height}'),
                   Div(H3(f'Page {number}' if len(document.sizes) > 1 else 'Text'),
                       Div(*map(text_row, rows.values()), *([no_text()] if found and not boxes else []),
                           id=f'text-{number}', role='log', aria_live='polite', cls='rows'), cls='text'),
                   id=f'sheet-{number}', cls='sheet', aria_label=f'Page {number}')


def box(
    page: int,
    line: int,
    corners: Sequence[Sequence[float]],  # From the top left clockwise, as fractions of the page
    width: int,
    height: int,
    lit: bool,  # Whether its text has been read
) -> Any:
    "The mark around one piece of text: an upright rectangle turned by the tilt of the text."
    (x0, y0), (x1, y1), _, (x3, y3) = [(x*width, y*height) for x, y in corners]
    long, tall = math.dist((x0, y0), (x1, y1)) / width, math.dist((x0, y0), (x3, y3)) / height
    x, y = (sum(corner[axis] for corner in corners) / 4 for axis in (0, 1))
    style = (f'left:{x - long/2:.2%};top:{y - tall/2:.2%};width:{long:.2%};height:{tall:.2%};'
             f'rotate:{math.atan2(y1-y0, x1-x0):.4f}rad')
    return Span(id=f'box-{page}-{line}', cls='box lit' if lit else 'box', style=style)


def words(chunk: Chunk) -> Any:
    "One recognised piece of text."
    place, sure = f"box-{chunk['page']}-{chunk['line']}", f"{chunk['confidence']:.0%} sure"
    return Span(chunk['text'], data_box=place, title=sure)


def text_row(chunks: Sequence[Chunk]) -> Any:
    "Pieces of text that stand side by side on the page."
    first = chunks[0]
    return P(*map(words, chunks), id=f"row-{first['page']}-{first['row']}",
             cls='paragraph' if first['paragraph'] else None)


def no_text() -> Any:
    "For an empty page."
    return P('No text was found on this page.', cls='hint')


# --- Else ---

def plain_text(chunks: Iterable[Chunk]) -> str:
    "The text in `chunks`, row by row, with an empty line before paragraphs and pages."
    text, row = '', None
    for c in chunks:
        if c['kind'] != 'line' or not c['text']: continue
        here = c['page'], c['row']
        if row: text += '  ' if here == row else '\n\n' if c['paragraph'] or here[0] != row[0] else '\n'
        text, row = text + c['text'], here
    return text + '\n'


def missing() -> tuple[Any, ...]:
    "For an address that leads nowhere, or to somebody else's document."
    return page('Not here', H1('This document is not here'),
                P('Documents are kept until the server stops, and only for the browser that brought them.', cls='lead'),
                P(A('Read another one', href='/', cls='button')))
