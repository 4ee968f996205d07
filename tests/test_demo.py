"""The demo without a browser: the plugin, the uploads, and the server over HTTP."""
import html
import io
import json
import math
import re
import sqlite3

import httpx
import pytest
from fasthtml.common import to_xml
from PIL import Image

from demo import views
from demo.documents import MAX_BYTES, SAMPLE_FOLDER, Document, Library, Refused, clean_title, read_pages
from demo.reader import PageReader, paragraph_starts, reading_order
from demo_server import DemoServer, serve_demo, wait_until

pytestmark = pytest.mark.limit(120)   # two tests at a time, and the model takes all it gets
SENTENCE = 'The seeds you sent arrived on Tuesday'


def picture(format: str = 'PNG', size: tuple[int, int] = (300, 200), mode: str = 'RGB', **options) -> bytes:
    "An image file."
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, format, **options)
    return file.getvalue()


# --- The plugin ---

def rectangle(x: float, y: float, width: float, tilt: float) -> list[list[float]]:
    "A box 20 high, turned around the origin."
    corners = [(x, y), (x+width, y), (x+width, y+20), (x, y+20)]
    return [[a*math.cos(tilt) - b*math.sin(tilt), a*math.sin(tilt) + b*math.cos(tilt)] for a, b in corners]


@pytest.mark.parametrize('tilt', [0, .04, -.04])
def test_boxes_are_read_row_by_row_on_a_tilted_page(tilt: float) -> None:
    columns = ((100, 500), (650, 90), (800, 60))
    rows = [[rectangle(x, y, width, tilt) for x, width in columns] for y in (100, 140, 180, 300)]
    shuffled = [box for row in rows for box in row][::-1]
    shuffled = shuffled[1::2] + shuffled[::2]
    assert reading_order(shuffled) == rows
    assert paragraph_starts(rows) == {4}
    assert reading_order([]) == [] and paragraph_starts([]) == set()


def test_plugin_reads_the_samples(tmp_path) -> None:
    paths: list[str] = []
    for number, page in enumerate([*read_pages(TIFF), Image.new('RGB', (300, 200))]):
        paths.append(str(tmp_path/f'{number}.jpg'))
        page.save(paths[-1])
    reader = PageReader({'threads': 2})
    pages = reader.execute(pages=paths)['pages']
    assert 'the reading room has three buckets' in pages[0].replace('\n', ' ') and 'Page 1 of 2' in pages[0]
    assert 'accept the lower offer' in pages[0] and 'umbrellas to the school, trumpet to the band' in pages[1]
    assert pages[2] == ''
    with pytest.raises(ValueError): reader.execute(pages=[str(tmp_path/'missing.jpg')])
    reader.unload()


# --- Uploads ---

TIFF = (SAMPLE_FOLDER/'minutes.tiff').read_bytes()
JPEG = (SAMPLE_FOLDER/'letter.jpg').read_bytes()
BAD = {
    'empty': (b'', 'empty'),
    'text': (b'not an image at all', 'not an image'),
    'vector': (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not an image'),
    'postscript': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n', 'not an image'),
    'too many bytes': (bytes(MAX_BYTES + 1), 'too large'),
    'bomb': (picture(size=(30_000, 20_000), mode='1'), 'too many pixels'),
    'small bomb': (picture(size=(9_000, 9_000), mode='1'), 'too many pixels'),
    'cut PNG': (picture(size=(900, 900))[:-60], 'damaged'),
    'cut JPEG': (JPEG[:len(JPEG)//2], 'damaged'),
    'cut TIFF': (TIFF[:-400], 'damaged'),
    'one pixel': (picture(size=(1, 1)), 'too small'),
    'ribbon': (picture(size=(8_000, 40)), 'too small or too narrow'),
    'too many pages': (picture('TIFF', save_all=True, append_images=[Image.new('RGB', (99, 99))]*10), 'more than 10'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_upload_is_refused_with_a_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(Refused, match=reason): read_pages(data)


@pytest.mark.parametrize('format, mode', [
    ('PNG', 'RGBA'), ('PNG', 'P'), ('PNG', 'I;16'), ('PNG', 'LA'), ('PNG', '1'), ('JPEG', 'CMYK'), ('JPEG', 'L'),
    ('TIFF', '1'), ('TIFF', 'F'), ('WEBP', 'RGB'), ('GIF', 'P'), ('BMP', 'RGB')])
def test_every_kind_of_image_becomes_a_plain_page(format: str, mode: str) -> None:
    assert [(page.mode, page.size) for page in read_pages(picture(format, mode=mode))] == [('RGB', (300, 200))]


def test_pages_are_upright_and_not_too_large() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # the camera was held sideways
    [page] = read_pages(picture('JPEG', size=(3000, 1000), exif=tags))
    assert page.size == (667, 2000)
    assert len(read_pages(TIFF)) == 2


@pytest.mark.parametrize('name, title', [
    ('../../etc/passwd', 'passwd'), (r'C:\scans\page.png', 'page.png'), ('a\u202egnp.exe', 'agnp.exe'),
    ('\x00\r\n', 'Untitled'), ('', 'Untitled'), ('page\ud800.png', 'page.png')])
def test_file_name_becomes_a_harmless_title(name: str, title: str) -> None:
    assert clean_title(name) == title
    assert len(clean_title('x'*5000)) < 60


def test_library_is_bounded_and_removes_its_files() -> None:
    library = Library(max_each=2, max_all=3)
    busy: set[str] = set()
    def add(owner: str) -> Document:
        document = library.unpack(owner, 'page.png', picture())
        library.keep(document, lambda d: d.id in busy)
        return document
    first, second, third = add('a'), add('a'), add('a')
    assert library.of('a') == [third, second] and not first.folder.exists()
    assert library.get(second.id, 'a') is second and library.get(second.id, 'b') is None
    add('b')
    add('b')
    assert library.of('a') == [third]
    busy |= {d.id for d in library.documents.values()}
    with pytest.raises(Refused, match='waiting already'): add('c')
    assert len(list(library.folder.iterdir())) == 3
    with pytest.raises(Refused): library.unpack('a', 'page.png', b'no image')
    assert len(list(library.folder.iterdir())) == 3
    library.close()
    assert not library.folder.exists()


# --- The page ---

def test_scripts_come_from_this_machine_or_else_from_the_cdn(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(views, 'VENDOR', tmp_path)
    assert all('https://cdn.jsdelivr.net/npm/htmx' in to_xml(script) for script in views.scripts())
    (tmp_path/'htmx.min.js').touch()
    assert all('src="/static/vendor/' in to_xml(script) for script in views.scripts())


# --- The server ---

talks_to_server = pytest.mark.may_leave('children', reason='the worker of the running demo, which `serve_demo` checks')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "A demo that pauses a little after each line."
    with serve_demo(tmp_path_factory.mktemp('demo'), line_pause=.03) as server: yield server


@pytest.fixture
def visitor(server: DemoServer):
    "A browser without scripts."
    with httpx.Client(base_url=server.url, timeout=60) as visitor:
        visitor.get('/')
        yield visitor


def start(visitor: httpx.Client, sample: str = 'letter.jpg') -> str:
    "Start a sample and return the address of its page."
    answer = visitor.post(f'/samples/{sample}')
    assert answer.status_code == 303
    return answer.headers['location']


def job_of(visitor: httpx.Client, page: str) -> str:
    "The address of the job that reads the document of `page`."
    return re.search(r'(/jobs/[0-9a-f]{32})/(?:cancel|retry)', visitor.get(page).text)[1]


def views_of(visitor: httpx.Client, page: str, stop=lambda html: False) -> list[str]:
    "What the stream of a document's page shows of its sheets, up to what is a reason to `stop`."
    found: list[str] = []
    part = 'sheets:' + job_of(visitor, page).removeprefix('/jobs/')
    with visitor.stream('GET', '/jobs/-/live', params={'part': part}) as answer:
        assert answer.status_code == 200 and answer.headers['content-type'].startswith('text/event-stream')
        for line in answer.iter_lines():
            if not line.startswith('data: '): continue
            found += [op[2] for op in json.loads(line[6:])['ops'] if op[0] == 'html']
            if found and stop(found[-1]): break
    return found


def lines(html: str) -> list[str]:
    "The lines of text in a piece of a page, as `page-line`."
    return re.findall(r'data-box="box-(\d+-\d+)"', html)


def lines_of(visitor: httpx.Client, page: str) -> list[str]:
    "The lines at the end of a document's job."
    return lines(views_of(visitor, page)[-1])


@talks_to_server
def test_document_is_streamed_and_kept(visitor: httpx.Client) -> None:
    page = start(visitor)
    found = views_of(visitor, page)
    every = [f'1-{n}' for n in range(1, 20)]
    assert lines(found[-1]) == every and len(found) > 5 and SENTENCE in found[-1]
    assert all(every[:len(lines(html))] == lines(html) for html in found)   # it grows, and nothing is shown twice
    whole = visitor.get(page).text
    assert SENTENCE in whole and 'data-status="completed"' in whole and 'data-live="sheets' not in whole
    assert lines(whole) == every
    text = visitor.get(f'{page}/text')
    assert SENTENCE in text.text and '\n\nYour cousin' in text.text
    assert 'attachment' in text.headers['content-disposition']
    assert Image.open(io.BytesIO(visitor.get(f'{page}/pages/1').content)).size == (1240, 1754)
    assert visitor.get(f'{page}/pages/2').status_code == 404
    assert lines_of(visitor, page) == every   # and again


@talks_to_server
def test_second_document_waits_and_cancel_keeps_the_queue(visitor: httpx.Client) -> None:
    first, second, third = start(visitor, 'minutes.tiff'), start(visitor), start(visitor)
    views_of(visitor, first, stop=lines)   # it has begun
    assert 'It is next.' in visitor.get(second).text and '1 job is before it.' in visitor.get(third).text
    assert visitor.get('/').text.count('data-status="pending"') == 4   # two rows, each with its badge
    assert visitor.post(f'{job_of(visitor, second)}/cancel').status_code == 303
    assert 'It had not begun.' in visitor.get(second).text and 'It is next.' in visitor.get(third).text
    visitor.post(f'{job_of(visitor, first)}/cancel')
    page = visitor.get(first).text
    assert 'data-status="cancelled"' in page and 0 < len(lines(page)) < 18
    assert lines_of(visitor, third) == [f'1-{n}' for n in range(1, 20)]
    assert visitor.post(f'{job_of(visitor, first)}/cancel').status_code == 303  # too late: nothing happens
    again = visitor.post(f'{job_of(visitor, second)}/retry')
    assert (again.status_code, again.headers['location']) == (303, second)
    assert len(lines_of(visitor, second)) == 19


@talks_to_server
def test_killed_worker_is_told_and_replaced(server: DemoServer, visitor: httpx.Client) -> None:
    page = start(visitor)
    views_of(visitor, page, stop=lines)
    server.worker().kill()
    assert 0 < len(lines_of(visitor, page)) < 19
    whole = visitor.get(page).text
    assert 'The worker process crashed' in whole and 'SIGKILL' in whole and 'Run again' in whole
    visitor.post(f'{job_of(visitor, page)}/retry')
    assert len(lines_of(visitor, page)) == 19
    assert 'data-status="completed"' in visitor.get(page).text


@talks_to_server
def test_bad_uploads_say_why(visitor: httpx.Client) -> None:
    for name in ('empty', 'text', 'bomb', 'cut JPEG', 'one pixel'):
        data, reason = BAD[name]
        answer = visitor.post('/documents', files={'file': ('page.png', data)})
        assert answer.status_code == 422 and reason in answer.text and 'Choose a scan' in answer.text
        answer = visitor.post('/documents', files={'file': ('page.png', data)}, headers={'HX-Request': 'true'})
        assert answer.status_code == 422 and reason in answer.text and '<main' not in answer.text
    assert visitor.post('/documents', files={'file': ('page.png', bytes(MAX_BYTES + 2**17))}).status_code == 413
    assert visitor.post('/documents', content=(part for part in [b'x'] * 3)).status_code == 411
    assert visitor.post('/documents', data={'file': 'text'}).status_code == 422
    assert visitor.post('/documents').status_code == 422
    broken = visitor.post('/documents', content=b'broken', headers={'Content-Type': 'multipart/form-data; boundary=x'})
    assert broken.status_code in (400, 422)
    assert visitor.post('/samples/..%2f..%2fREADME.md').status_code == 404
    assert 'No jobs yet' in visitor.get('/').text


@talks_to_server
def test_hostile_file_name_is_only_text(visitor: httpx.Client) -> None:
    name = '../"><img src=x onerror=alert(1)>.png'
    page = visitor.post('/documents', files={'file': (name, picture())}).headers['location']
    views_of(visitor, page)
    for path in (page, '/', '/jobs', job_of(visitor, page)):
        text = visitor.get(path).text
        assert '<img src=x' not in text and html.escape('<img src=x onerror=alert(1)>.png') in text
    assert 'No text was found on this page' in visitor.get(page).text


@talks_to_server
def test_documents_of_others_are_unknown(server: DemoServer, visitor: httpx.Client) -> None:
    page = start(visitor)
    views_of(visitor, page)
    job = job_of(visitor, page)
    def both(ask, path: str, of: str) -> None:
        foreign, never = ask(of + path), ask(re.sub('[0-9a-f]{32}', '0'*32, of) + path)
        assert (foreign.status_code, foreign.text) == (never.status_code, never.text) and foreign.status_code == 404
    with httpx.Client(base_url=server.url) as other:
        for path in ('', '/pages/1', '/text'): both(other.get, path, page)
        for path in ('/cancel', '/retry'): both(other.post, path, job)
        both(other.get, '', job)
        both(lambda path: other.get('/jobs/-/live?part=sheets:' + path.removeprefix('/jobs/')), '', job)
        assert 'This document is not here' in other.get(page).text
        assert page not in other.get('/').text and page not in other.get('/jobs').text
    assert page in visitor.get('/').text


@talks_to_server
def test_state_changes_by_own_posts_only(visitor: httpx.Client) -> None:
    page = start(visitor, 'minutes.tiff')
    job = job_of(visitor, page)
    for path in ('/documents', '/samples/letter.jpg', f'{job}/cancel', f'{job}/retry', '/jobs/-/clear',
                 '/jobs/-/plugins/reader/unload'):
        for name, value in [('Sec-Fetch-Site', 'cross-site'), ('Sec-Fetch-Site', 'same-site'), ('Origin', 'null'),
                            ('Origin', 'http://evil.example')]:
            assert visitor.post(path, headers={name: value}).status_code == 403
        assert visitor.get(path).status_code in (404, 405)
    shown = visitor.get('/').text
    assert shown.count('/documents/') == 1 and 'data-status="cancelled"' not in shown
    own = str(visitor.base_url).rstrip('/')
    assert visitor.post(f'{job}/cancel', headers={'Origin': own, 'Sec-Fetch-Site': 'same-origin'}).status_code == 303
    wait_until(lambda: 'data-status="cancelled"' in visitor.get('/').text, 10, 'the cancelled job to be shown')


@talks_to_server
def test_workers_are_for_who_sits_here(visitor: httpx.Client) -> None:
    assert 'Worker 1' in visitor.get('/jobs').text
    forwarded = {'X-Forwarded-For': '203.0.113.7'}
    assert 'Worker 1' not in visitor.get('/jobs', headers=forwarded).text
    assert visitor.get('/', headers=forwarded).status_code == 200
    assert visitor.post('/jobs/-/plugins/reader/unload', headers=forwarded).status_code == 403


@talks_to_server
def test_files_outside_the_static_folder_are_not_served(server: DemoServer) -> None:
    for path in ('/static/../app.py', '/static/%2e%2e/app.py', '/static/..%2fapp.py', '/../mkdocs.yml',
                 '/%2e%2e/mkdocs.yml', '/mkdocs.yml'):
        request = httpx.Request('GET', server.url)
        request.url = request.url.copy_with(raw_path=path.encode())
        with httpx.Client() as client: assert client.send(request).status_code == 404, path


# --- A server that is killed ---

def statuses(path) -> list[str]:
    "Of the jobs in a file, in their order."
    con = sqlite3.connect(path)
    try: return [status for status, in con.execute('SELECT status FROM jobs ORDER BY seq')]
    finally: con.close()


@pytest.mark.limit(400)
def test_a_server_that_is_killed_finds_its_documents_again(tmp_path, monkeypatch) -> None:
    "The one that was read is there, the one that was being read says what happened, the one that waited is read."
    monkeypatch.setenv('DEMO_FOLDER', str(tmp_path/'kept'))
    for name in 'ab': (tmp_path/name).mkdir()
    with serve_demo(tmp_path/'a', line_pause=.2) as server, httpx.Client(base_url=server.url) as visitor:
        pages = [visitor.post(f'/samples/{name}').headers['location'] for name in
                 ('letter.jpg', 'invoice.png', 'minutes.tiff')]
        wanted = ['completed', 'running', 'pending']
        wait_until(lambda: statuses(tmp_path/'kept'/'jobs.db') == wanted, 150, 'the second')
        before, cookies = visitor.get(f'{pages[0]}/text').text, dict(visitor.cookies)
        server.process.kill()
    with serve_demo(tmp_path/'b') as server, httpx.Client(base_url=server.url, cookies=cookies) as visitor:
        assert visitor.get(f'{pages[0]}/text').text == before and len(before) > 50
        assert 'The app was stopped while it ran.' in visitor.get(pages[1]).text
        assert visitor.get(f'{pages[1]}/pages/1').status_code == 200
        visitor.post(f'{job_of(visitor, pages[1])}/retry')
        wanted = ['completed', 'failed', 'completed', 'completed']
        wait_until(lambda: statuses(tmp_path/'kept'/'jobs.db') == wanted, 150, 'the third, and the second once more')
        for page in pages: assert len(visitor.get(f'{page}/text').text) > 50
    assert (tmp_path/'kept'/'secret').stat().st_mode & 0o077 == 0


def test_a_server_starts_with_whatever_the_last_one_left(tmp_path, monkeypatch) -> None:
    "An empty secret, as when the server was killed while it wrote it; documents that are broken, or of an older demo."
    kept = tmp_path/'kept'
    monkeypatch.setenv('DEMO_FOLDER', str(kept))
    whole = {'id': 'old', 'owner': 'me', 'title': 'Old', 'sizes': [[300, 200]], 'job_id': 'x'}
    for name, text in {'broken': '{"id": "a', 'list': '[]', 'no-page': json.dumps(whole | {'id': 'no-page'}),
                       'old': json.dumps(whole)}.items():
        (kept/'documents'/name).mkdir(parents=True)
        (kept/'documents'/name/'document.json').write_text(text)
    (kept/'documents'/'old'/'1.jpg').write_bytes(picture('JPEG'))
    (kept/'secret').touch(0o600)
    with serve_demo(tmp_path) as server: assert httpx.get(server.url).status_code == 200
    assert [folder.name for folder in (kept/'documents').iterdir()] == ['old']
    assert len((kept/'secret').read_text()) == 64 and (kept/'secret').stat().st_mode & 0o077 == 0
