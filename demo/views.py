"""What the visitor sees: functions that make FastHTML components out of documents, jobs and stream chunks."""
import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fasthtml import common as fh
from fasthtml.common import H1, H2, H3, A, Button, Div, Form, P, Section, Small, Span, Strong
from fasthtml.core import htmxsrc

from cjm_fasthtml_workers.managers.base import BaseJob

from .documents import FORMATS, MAX_BYTES, MAX_PAGES, SAMPLES, Document

STATIC = Path(__file__).parent/'static'
VENDOR = STATIC/'vendor'
SSE_CDN = 'https://cdn.jsdelivr.net/npm/htmx-ext-sse@2.2.4/dist/sse.min.js'
Chunk = dict[str, Any]  # What the plugin streams: see `demo/reader.py`
ENDED = ('completed', 'failed', 'cancelled')
FAULTS = {
    'worker_crashed': ('The reader stopped unexpectedly', 'Its process crashed or was ended from outside. '
                       'Another one is started when it is needed.'),
    'out_of_memory': ('The reader ran out of memory', 'A smaller scan of the same page may work.'),
    'timed_out': ('This took too long', 'The reader was stopped so that other documents get their turn.'),
    'start_failed': ('The model could not be loaded', 'Nothing is wrong with your document.'),
    'interrupted': ('The server was stopped', 'Nothing is wrong with your document.'),
    'quarantined': ('This document stops the reader each time', 'It is set aside and disturbs no other.'),
}
ICON = ("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' stroke='%238a7f6a'>"
        "<rect x='2.5' y='.5' width='11' height='15' rx='1' fill='%23fffdf7'/>"
        "<path d='M4 5h8' stroke='%23f2b632' stroke-width='3'/><path d='M4 9h8M4 12h5'/></svg>")


def scripts() -> list[Any]:
    "htmx with its event stream extension: what `demo/vendor.py` fetched, or else from the CDN that FastHTML uses."
    if (VENDOR/'htmx.min.js').exists() and (VENDOR/'sse.js').exists():
        return [fh.Script(src='/static/vendor/htmx.min.js'), fh.Script(src='/static/vendor/sse.js')]
    return [htmxsrc, fh.Script(src=SSE_CDN)]


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
            fh.Footer('The text is recognised on this machine; documents are deleted when the server stops.'))


def notice(message: str) -> Any:
    "A clear word about something that did not work."
    return P(message, cls='notice')


# --- The first page ---

def home(documents: Any) -> tuple[Any, ...]:
    "Where a document is chosen; `documents` is the shelf."
    formats = ', '.join(FORMATS).replace('WEBP', 'WebP')
    limits = P(f'{formats}; up to {MAX_BYTES >> 20} MB; a TIFF may have {MAX_PAGES} pages.', cls='hint')
    samples = Div(*[sample_button(name, title) for name, title in SAMPLES.items()], cls='samples')
    return (H1('Watch a page being read'),
            P('Pick a scanned page. Each piece of text lights up on the image and appears beside it '
              'as it is recognised.', cls='lead'),
            Div(Section(H2('Bring your own'), upload_form(), limits), Section(H2('Or take one of ours'), samples),
                cls='choice'),
            documents)


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


def shelf(entries: Sequence[tuple[Document, BaseJob, int]], current: str = '') -> Any:
    "The documents of a visitor with their states; it looks again while one of them is not finished."
    items = [shelf_item(document, job, ahead, document.id == current) for document, job, ahead in entries]
    empty = P('Nothing here yet. What you read stays listed until the server stops.', cls='hint')
    busy = any(job.status not in ENDED for _, job, _ in entries)
    return fh.Nav(Div(H2('Your documents'), A('Read another', href='/') if current else ''),
                  fh.Ul(*items) if items else empty, id='shelf', cls='shelf', aria_label='Your documents',
                  hx_get=f'/shelf?current={current}', hx_swap='outerHTML',
                  hx_trigger='every 1s' if busy else 'focus from:window')


def shelf_item(document: Document, job: BaseJob, ahead: int, current: bool) -> Any:
    "One document on the shelf."
    chip = Span(brief(job, ahead), cls='chip', data_status=job.status)
    return fh.Li(A(Span(document.title), chip, href=f'/documents/{document.id}', id=f'link-{document.id}',
                   aria_current='page' if current else None))


def brief(job: BaseJob, ahead: int) -> str:
    "The state of a job in a word or two."
    if job.status == 'pending': return f'waiting, {ahead} ahead' if ahead else 'loading the model'
    if job.status == 'running': return f'reading, {job.progress or 0:.0%}'
    return 'read' if job.status == 'completed' else job.status


# --- The page of a document ---

def document_page(
    document: Document,
    job: BaseJob,
    ahead: int,  # Jobs that come before this one
    chunks: Sequence[Chunk],  # What was read, if the job has ended
    documents: Any,  # The shelf
) -> tuple[Any, ...]:
    "A document with its text, or with a stream that brings it."
    bar = Section(H1(document.title), *parts(document, job, ahead, chunks[-1] if chunks else None).values(),
                  cls='bar', aria_label='Progress')
    sheets = [sheet(document, number, [c for c in chunks if c['page'] == number])
              for number in range(1, len(document.sizes)+1)]
    stream = Div(hx_ext='sse', sse_connect=f'/documents/{document.id}/stream', sse_swap='update', sse_close='end',
                 hx_swap='none')
    return bar, *sheets, documents, '' if job.status in ENDED else stream


def parts(document: Document, job: BaseJob, ahead: int, last: Chunk | None) -> dict[str, Any]:
    "The pieces of the page that change while a job goes on, by id. `last` is the newest chunk."
    return {'state': state(job, ahead, last), 'progress': progress(job, ahead, last),
            'controls': controls(document, job, last)}


def state(job: BaseJob, ahead: int, last: Chunk | None) -> Any:
    "What is going on, in a sentence."
    headline, detail = '', ''
    match job.status:
        case 'pending' if ahead:
            headline, detail = f'Waiting, {ahead} ahead', 'It starts by itself when its turn comes.'
        case 'pending': headline, detail = 'Loading the model', 'This takes a few seconds after a start.'
        case 'running': headline = 'Reading'
        case 'completed': headline, detail = 'Read', f'in {seconds(job):.1f} seconds'
        case 'cancelled':
            headline, detail = 'Cancelled', 'What was read is kept.' if last else 'Nothing had been read.'
        case _: headline, detail = FAULTS.get(job.fault or '', ('This document could not be read', ''))
    return Div(Strong(headline), Span(detail), Small(job.error) if job.error and job.status == 'failed' else '',
               id='state', role='status', data_status=job.status)


def progress(job: BaseJob, ahead: int, last: Chunk | None) -> Any:
    "The bar, with the line and page it stands at."
    words, value = 'Looking for text' if job.status == 'running' else '', 0.
    if last:
        line, lines = last.get('line', 0), last['lines']
        words = f"line {line} of {lines} · page {last['page']} of {last['pages']}"
        value = (last['page']-1 + (line/lines if lines else 1)) / last['pages']
    unknown = job.status not in ENDED and not last and not ahead
    return Div(fh.Progress(value=None if unknown else f'{value:.4f}', max=1, aria_label='Read so far'), Span(words),
               id='progress')


def controls(document: Document, job: BaseJob, last: Chunk | None) -> Any:
    "What the visitor can do now. Both buttons have one id: the focus stays where it is when one replaces the other."
    where = f'/documents/{document.id}'
    if job.status not in ENDED:
        return Div(Form(Button('Cancel', id='act'), **posting(f'{where}/cancel')), id='controls')
    return Div(A('Save the text', href=f'{where}/text', download=True, cls='button') if last else '',
               Form(Button('Read again', id='act'), **posting(f'{where}/again')), id='controls')


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
    **attrs: Any,
) -> Any:
    "The mark around one piece of text: an upright rectangle turned by the tilt of the text."
    (x0, y0), (x1, y1), _, (x3, y3) = [(x*width, y*height) for x, y in corners]
    long, tall = math.dist((x0, y0), (x1, y1)) / width, math.dist((x0, y0), (x3, y3)) / height
    x, y = (sum(corner[axis] for corner in corners) / 4 for axis in (0, 1))
    style = (f'left:{x - long/2:.2%};top:{y - tall/2:.2%};width:{long:.2%};height:{tall:.2%};'
             f'rotate:{math.atan2(y1-y0, x1-x0):.4f}rad')
    return Span(id=f'box-{page}-{line}', cls='box lit' if lit else 'box', style=style, **attrs)


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


def chunk_update(
    chunk: Chunk,
    before: Chunk | None,  # The chunk that came before it
) -> list[Any]:  # Out-of-band swaps
    "What a new chunk changes on the page."
    number, width, height = chunk['page'], chunk['width'], chunk['height']
    if chunk['kind'] == 'page':
        boxes = [box(number, line, where, width, height, lit=False) for line, where in enumerate(chunk['boxes'], 1)]
        if not boxes: return [Div(no_text(), hx_swap_oob=f'innerHTML:#text-{number}')]
        return [Div(*boxes, hx_swap_oob=f'innerHTML:#boxes-{number}')]
    same_row = before is not None and (before['page'], before.get('row')) == (number, chunk['row'])
    target, piece = f'text-{number}', text_row([chunk])
    if same_row: target, piece = f"row-{number}-{chunk['row']}", words(chunk)
    return [box(number, chunk['line'], chunk['box'], width, height, lit=True, hx_swap_oob='true'),
            Div(piece, hx_swap_oob=f'beforeend:#{target}')]


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


def seconds(job: BaseJob) -> float:
    "How long `job` ran."
    if not job.started_at or not job.completed_at: return 0.
    return (datetime.fromisoformat(job.completed_at) - datetime.fromisoformat(job.started_at)).total_seconds()
