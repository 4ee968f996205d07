"""The demo as a visitor sees it, in a real browser."""
import json
import socket
import sqlite3
import subprocess
import threading
from contextlib import closing, suppress

import pytest

from demo import vendor
from demo.documents import MAX_BYTES, SAMPLE_FOLDER
from demo_server import DemoServer, serve_demo, wait_until

pytestmark = [pytest.mark.limit(300),
              pytest.mark.may_leave('children', reason='the worker of the running demo, which `serve_demo` checks')]


@pytest.fixture(scope='module')
def htmx() -> None:
    "htmx from its package: a test must not depend on a CDN."
    if (vendor.FOLDER/'htmx.min.js').exists(): return
    try: vendor.fetch()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f'NO BROWSER TEST: NOT TESTED. htmx cannot be fetched with npm: {error}')


@pytest.fixture(scope='module')
def server(htmx: None, tmp_path_factory: pytest.TempPathFactory):
    "A demo slow enough to be watched; for a closer look it has a `standstill`."
    with serve_demo(tmp_path_factory.mktemp('demo'), line_pause=.05) as server: yield server


class Wire:
    "A line to the server that can be cut."

    def __init__(self, url: str) -> None:
        self.ends: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.target = ('127.0.0.1', int(url.rpartition(':')[2]))
        self.door = socket.create_server(('127.0.0.1', 0))
        self.url = f'http://127.0.0.1:{self.door.getsockname()[1]}'

    def __enter__(self) -> 'Wire':
        self.start(self.accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.door.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self.threads: thread.join(10)
        for end in (self.door, *self.ends): end.close()

    def start(self, run, *args: socket.socket) -> None:
        "Run something in a thread."
        self.threads.append(threading.Thread(target=run, args=args))
        self.threads[-1].start()

    def accept(self) -> None:
        "Connect whoever comes with the server."
        with suppress(OSError):
            while True:
                near, far = self.door.accept()[0], socket.create_connection(self.target)
                self.ends += [near, far]
                self.start(self.pump, near, far)
                self.start(self.pump, far, near)

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        "Carry bytes until one end is closed."
        with suppress(OSError):
            while data := source.recv(65536): target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        "End every connection; new ones are welcome."
        for end in self.ends:
            with suppress(OSError): end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def visitor(server: DemoServer, browser):
    "A new visitor's first page; nothing may be asked of any other machine, and no script may fail."
    strangers: list[str] = []
    errors: list[str] = []
    context = browser.new_context(base_url=server.url, viewport={'width': 1280, 'height': 800})
    context.set_default_timeout(150_000)   # two tests at a time, and the model takes all it gets
    context.on('request', lambda request: own(request.url) or strangers.append(request.url))
    context.on('weberror', lambda error: errors.append(str(error.error)))
    page = context.new_page()
    page.goto('/')
    yield page
    context.close()
    assert not strangers and not errors


def own(url: str) -> bool:
    "Whether an address is on this machine."
    return url.startswith(('http://127.0.0.1:', 'data:'))


def text_of(page) -> list[str]:
    "The pieces of text on the page."
    return page.locator('.rows span').all_inner_texts()


def wait_for_lines(page, count: int) -> None:
    "Wait until `count` pieces of text are shown."
    page.wait_for_function('count => document.querySelectorAll(".rows span").length >= count', arg=count)


def state_of(page) -> str | None:
    "The status that the page shows."
    return page.locator('.bar .jobs-status').get_attribute('data-status')


def wait_for_state(page, state: str) -> None:
    "Wait until the page shows the status `state`."
    page.wait_for_selector(f'.bar .jobs-status[data-status={state}]')


def test_text_grows_and_a_refresh_loses_and_doubles_nothing(server: DemoServer, visitor) -> None:
    visitor.get_by_role('button', name='A tilted letter').click()
    wait_for_lines(visitor, 4)
    with server.standstill():
        assert 'line' in visitor.locator('.bar .jobs-sentence').inner_text()
        assert visitor.locator('.box.lit').count() >= 4
        before = text_of(visitor)
        second_tab = visitor.context.new_page()
        second_tab.goto(visitor.url)
        visitor.reload()
        for page in (visitor, second_tab):
            wait_for_lines(page, len(before))
            assert state_of(page) == 'running' and text_of(page)[:len(before)] == before
    for page in (visitor, second_tab):
        wait_for_state(page, 'completed')
        assert len(text_of(page)) == page.locator('.box.lit').count() == page.locator('.box').count() == 19
        assert text_of(page)[0] == '14 March 1987' and len(set(text_of(page))) == 19
    shown = text_of(visitor)
    visitor.reload()
    assert text_of(visitor) == shown and visitor.locator('.bar .jobs-percent').inner_text() == '100%'


def test_lost_connection_is_resumed(server: DemoServer, visitor) -> None:
    with Wire(server.url) as wire:
        visitor.goto(wire.url)
        visitor.get_by_role('button', name='A tilted letter').click()
        wait_for_lines(visitor, 3)
        with server.standstill():
            many, read = len(wire.ends), text_of(visitor)
            wire.cut()
            wait_until(lambda: len(wire.ends) > many, 30, 'the page to connect again')
            assert text_of(visitor)[:len(read)] == read
        wait_for_state(visitor, 'completed')
        assert len(text_of(visitor)) == len(set(text_of(visitor))) == 19


def test_second_document_waits_and_the_first_can_be_cancelled(server: DemoServer, visitor) -> None:
    visitor.get_by_role('button', name='An invoice').click()
    wait_for_lines(visitor, 2)
    with server.standstill():
        second = visitor.context.new_page()
        second.goto('/')
        second.get_by_role('button', name='Minutes, two pages').click()
        second.get_by_text('It is next.').first.wait_for()
        assert second.locator('.sheet').count() == 2 and not text_of(second)
        visitor.get_by_role('button', name='Cancel the job invoice.png').first.focus()
    visitor.keyboard.press('Enter')
    wait_for_state(visitor, 'cancelled')
    visitor.get_by_role('button', name='Run again').wait_for()
    assert visitor.evaluate('document.activeElement.id').endswith('-actions')   # next comes "Run again"
    read = len(text_of(visitor))
    wait_for_lines(second, 3)
    assert 2 <= read == len(text_of(visitor)) < 51
    second.locator('.jobs-list .jobs-badge[data-status=cancelled]').first.wait_for()
    second.wait_for_function('document.querySelectorAll("#text-2 span").length > 1')
    assert 'page 2 of 2' in second.locator('.bar .jobs-sentence').inner_text()
    wait_for_state(second, 'completed')


def test_killed_worker_is_told_and_read_again_works(server: DemoServer, visitor) -> None:
    visitor.get_by_role('button', name='A tilted letter').click()
    wait_for_lines(visitor, 3)
    server.worker().kill()
    wait_for_state(visitor, 'failed')
    assert 'The worker process crashed' in visitor.locator('.bar .jobs-status').inner_text()
    visitor.locator('.bar').get_by_text('SIGKILL').wait_for()
    read = text_of(visitor)
    assert 3 <= len(read) < 19
    visitor.get_by_role('button', name='Run again').click()
    wait_for_state(visitor, 'completed')
    assert len(text_of(visitor)) == 19 and text_of(visitor)[:len(read)] == read


def test_upload_and_bad_uploads(server: DemoServer, visitor, tmp_path) -> None:
    chooser, notice = visitor.locator('#file'), visitor.locator('#notice')
    def upload(name: str, data: bytes) -> None:
        (tmp_path/name).write_bytes(data)
        chooser.set_input_files(tmp_path/name)
    for name, data, reason in [('empty.png', b'', 'empty'), ('note.txt', b'hello', 'not an image'),
                               ('cut.jpg', (SAMPLE_FOLDER/'letter.jpg').read_bytes()[:40_000], 'damaged'),
                               ('big.png', bytes(MAX_BYTES + 1), 'too large')]:
        upload(name, data)
        notice.get_by_text(reason).wait_for()
    visitor.evaluate('document.querySelector("#file").dataset.max = 1e9')  # a browser that does not check
    upload('bigger.png', bytes(MAX_BYTES + 2**18))
    wait_until(lambda: 'too large' in notice.inner_text(), 20, 'the answer of the server')
    upload('<b>letter<b>.jpg', (SAMPLE_FOLDER/'letter.jpg').read_bytes())
    wait_for_lines(visitor, 1)
    with server.standstill():
        assert visitor.locator('h1').inner_text() == '<b>letter<b>.jpg'
        visitor.locator('.bar').get_by_role('button', name='Cancel').focus()
    visitor.keyboard.press('Enter')
    wait_for_state(visitor, 'cancelled')


def test_phone_and_dark(visitor) -> None:
    visitor.set_viewport_size({'width': 390, 'height': 844})
    visitor.emulate_media(color_scheme='dark', reduced_motion='reduce')
    for _ in range(2):
        assert visitor.evaluate('document.documentElement.scrollWidth') == 390
        assert visitor.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(23, 24, 26)'
        if visitor.locator('.samples').count(): visitor.get_by_role('button', name='An invoice').click()
        wait_for_lines(visitor, 2)
    image, text = visitor.locator('.paper').bounding_box(), visitor.locator('.text').bounding_box()
    assert image['y'] + image['height'] < text['y']
    visitor.locator('.bar').get_by_role('button', name='Cancel').click()
    wait_for_state(visitor, 'cancelled')


def test_restarted_server_says_that_the_document_is_gone(htmx: None, browser, tmp_path_factory) -> None:
    page = browser.new_page()
    with serve_demo(tmp_path_factory.mktemp('demo'), line_pause=1) as server:
        page.goto(server.url)
        page.get_by_role('button', name='A tilted letter').click()
        wait_for_state(page, 'pending')
        port = int(server.url.rpartition(':')[2])
    page.get_by_text('The connection was lost').wait_for()
    with serve_demo(tmp_path_factory.mktemp('demo'), port=port):
        page.get_by_text('Something on this page is not here any more').wait_for()
        page.reload()
        page.get_by_role('heading', name='This document is not here').wait_for()
        page.get_by_role('link', name='Read another one').click()
        page.get_by_text('No jobs yet').wait_for()


def stored_text(path) -> str:
    "All text of all jobs in a file. What a page shows is stored soon, and not before it is shown."
    with closing(sqlite3.connect(path)) as con: rows = con.execute('SELECT texts FROM chunks').fetchall()
    return ''.join(json.loads(chunk)['text'] for texts, in rows for chunk, _ in json.loads(texts) if '"line"' in chunk)


@pytest.mark.limit(300)
def test_killed_server_keeps_its_documents_and_the_page_goes_on(htmx: None, browser, tmp_path_factory, monkeypatch
                                                                ) -> None:
    "The page stays open: it says what happened to the one that was being read, and sees the other one being read."
    kept = tmp_path_factory.mktemp('kept')/'kept'
    monkeypatch.setenv('DEMO_FOLDER', str(kept))
    context = browser.new_context()
    context.set_default_timeout(150_000)
    first, second = context.new_page(), context.new_page()
    with serve_demo(tmp_path_factory.mktemp('demo'), line_pause=.5) as server:
        for page in (first, second):
            page.goto(server.url)
            page.get_by_role('button', name='A tilted letter').click()
            page.wait_for_selector('.bar')
            if page is first:
                wait_for_lines(first, 2)
                server.worker().suspend()   # it stays in the middle, however long the rest takes
        read, port = text_of(first), int(server.url.rpartition(':')[2])
        wait_until(lambda: all(text in stored_text(kept/'jobs.db') for text in read), 30, 'the text to be stored')
        server.process.kill()
        first.get_by_text('The connection was lost').wait_for()
    with serve_demo(tmp_path_factory.mktemp('demo'), port=port):
        wait_for_state(first, 'failed')
        first.get_by_text('The app was stopped while it ran.').first.wait_for()
        assert text_of(first)[:len(read)] == read
        wait_for_state(second, 'completed')
        assert len(text_of(second)) == second.locator('.box.lit').count() == 19
        for page in (first, second):
            page.reload()
            page.wait_for_selector('.bar')
        assert text_of(first)[:len(read)] == read and len(text_of(second)) == 19
    context.close()
