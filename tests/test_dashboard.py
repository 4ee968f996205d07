"""The pages without a browser: who gets what, what is refused, what a stream brings, what a hostile text can do."""
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import html5lib
import httpx
import psutil
import pytest

from dashboard_server import DashboardServer, let_go, serve_dashboard, wait_until  # noqa: F401
from tests.hostile import hostile_strings

pytestmark = [pytest.mark.limit(120),
              pytest.mark.may_leave('children', reason='the running app and its worker: `serve_dashboard` checks')]
PAGE = {'accept': 'text/html'}


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory):
    with serve_dashboard(tmp_path_factory.mktemp('app')) as server: yield server


@pytest.fixture(scope='module')
def owned(tmp_path_factory: pytest.TempPathFactory):
    "An app whose jobs have owners; the header `user` says who one is."
    with serve_dashboard(tmp_path_factory.mktemp('owned'), '--owners') as server: yield server


def frames(answer: httpx.Response, limit: float = 20) -> Iterator[list]:
    "The lists of operations that a stream brings, as they come."
    end, event, data = time.monotonic() + limit, '', ''
    for line in answer.iter_lines():
        if line.startswith('event: '): event = line[7:]
        elif line.startswith('data: '): data += line[6:]
        elif not line:
            if event == 'ops': yield json.loads(data)['ops']
            event = data = ''
        if time.monotonic() > end: return


def stream(client: httpx.Client, *parts: str, **headers: str):
    return client.stream('GET', '/jobs/-/live', params={'part': parts}, headers=headers, timeout=30)


def read_to_end(client: httpx.Client, *parts: str, **headers: str) -> list:
    "All operations up to the end of the stream."
    with stream(client, *parts, **headers) as answer:
        assert answer.status_code == 200 and answer.headers['content-type'].startswith('text/event-stream')
        return [op for ops in frames(answer) for op in ops]


def once(client: httpx.Client, *parts: str) -> list:
    return client.get('/jobs/-/live', params={'part': parts, 'once': '1'}).json()['ops']


def grown(ops: list, dom_id: str, shown: str = '', at: str = '') -> tuple[str, str]:
    "What a page would show that has `shown` up to the place `at`, and the place then."
    for op, *args in ops:
        if op != 'text' or args[0] != dom_id: continue
        _, before, now, text, is_new, _ = args
        assert is_new or before == at, 'a piece that does not fit'
        shown, at = text if is_new else shown + text, now
    return shown, at


def words(count: int) -> str: return ''.join(f'w{n} ' for n in range(count))


# --- Streams ---

def test_stream_ends_with_the_job_and_says_everything(server: DashboardServer) -> None:
    job = server.start('talker', count=50)
    with httpx.Client(base_url=server.url) as client:
        ops = read_to_end(client, f'text:{job["id"]}', f'status:{job["id"]}', f'progress:{job["id"]}')
    assert ops[0][0] == 'hello' and ops[-1] == ['end'] and ops.count(['end']) == 1
    assert grown(ops, f'job-{job["id"]}-text')[0] == words(50)
    states = [re.search('data-status="(.*?)"', op[2])[1] for op in ops if op[0] == 'html' and 'jobs-badge' in op[2]]
    assert states[-1] == 'completed' and states.count('completed') == 1
    texts = [n for n, op in enumerate(ops) if op[0] == 'text']
    ends = [n for n, op in enumerate(ops) if op[0] == 'html' and 'data-status="completed"' in op[2]]
    assert max(texts) < max(ends) + 3   # all of the text in the last frame at the latest


def test_reconnecting_at_any_moment_loses_and_doubles_nothing(server: DashboardServer) -> None:
    job = server.start('talker', count=150, pause=.01)
    part, dom_id = f'text:{job["id"]}', f'job-{job["id"]}-text'
    shown, at, connections = '', '', 0
    with httpx.Client(base_url=server.url) as client:
        over = False
        while not over:
            connections += 1
            with stream(client, f'{part}@{at}') as answer:
                for n, ops in enumerate(frames(answer)):
                    shown, at = grown(ops, dom_id, shown, at)
                    over = ops[-1] == ['end']
                    if n == connections % 4: break   # cut the line
        assert shown == words(150) and connections > 5
        assert grown(once(client, part), dom_id)[0] == words(150)
        assert grown(once(client, f'{part}@{at}'), dom_id, 'x', at) == ('x', at)   # nothing new


@pytest.mark.parametrize('at', ['0', 'x.0', '1e9', '9' * 24, '-1', '.', '@@', '<b>', "'; --", '\u0663', 'epoch.7',
                                'epoch.-1', 'epoch.99999'])
def test_old_unknown_and_forged_places_get_the_whole_text(server: DashboardServer, at: str) -> None:
    job = server.start('talker', count=10, pause=0)
    server.wait_for(job, 'completed')
    with httpx.Client(base_url=server.url) as client:
        hello = once(client, f'text:{job["id"]}')[0]
        at = at.replace('epoch', hello[1])
        for ops in (once(client, f'text:{job["id"]}@{at}'),
                    read_to_end(client, f'text:{job["id"]}@{at}', **{'last-event-id': '../../' + quote(at)})):
            whole = words(10)   # but a place in this life of the app is one to go on from
            if at.endswith('.7'): whole = 'old' + whole[whole.index('w7'):]
            assert grown(ops, f'job-{job["id"]}-text', 'old', at)[0] == whole
            assert ops[-1] == ['end']


def test_stream_of_a_job_that_is_cleared_meanwhile(server: DashboardServer) -> None:
    job = server.start('talker', count=1)
    server.wait_for(job, 'completed')
    with httpx.Client(base_url=server.url) as client:
        with stream(client, 'table:', f'status:{job["id"]}') as answer:
            all_ops = frames(answer)
            assert ['hello'] == [op[0] for op in next(all_ops)][:1]
            assert client.post('/jobs/-/clear', headers={'hx-request': 'true'}).text == 'Finished jobs were cleared.'
            assert any('No jobs yet' in str(ops) or job['id'] not in str(ops) for ops in all_ops)
        assert once(client, 'table:', f'text:{job["id"]}')[-1] == ['gone', f'text:{job["id"]}']
        assert client.get('/jobs/-/live', params={'part': f'text:{job["id"]}'}).status_code == 404


def test_client_that_never_reads_is_dropped_and_others_are_not_slowed(server: DashboardServer) -> None:
    job = server.start('talker', count=4000, pause=0.002, words=['z' * 1000] * 4000)
    host, port = '127.0.0.1', int(server.url.rpartition(':')[2])
    deaf = socket.create_connection((host, port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with deaf, httpx.Client(base_url=server.url) as client:
        deaf.sendall(f'GET /jobs/-/live?part=text:{job["id"]} HTTP/1.1\r\nhost: {host}\r\n\r\n'.encode())
        wait_until(lambda: client.get('/stats').json()['streams'] == 1, 10, 'the deaf client to be there')
        ops = read_to_end(client, f'text:{job["id"]}')
        assert ops[-1] == ['end']
        wait_until(lambda: client.get('/stats').json()['streams'] == 0, 30, 'the deaf client to be dropped')


def test_streams_end_when_the_server_stops(tmp_path: Path) -> None:
    with serve_dashboard(tmp_path) as server:
        job, file = server.hold(count=3)
        with httpx.Client(base_url=server.url) as client:
            with stream(client, 'table:', 'workers:', f'text:{job["id"]}') as answer:
                next(frames(answer))
                began = time.monotonic()
                server.stop()
                assert time.monotonic() - began < 15 and 'Traceback' not in server.said()


def test_nonsense_is_answered(server: DashboardServer) -> None:
    with httpx.Client(base_url=server.url) as client:
        for params, status in [({}, 422), ({'part': [f'text:{n}' for n in range(200)]}, 422), ({'part': ''}, 404),
                               ({'part': 'nothing:x'}, 404), ({'part': 'workers:unknown'}, 404), ({'part': ':'}, 404),
                               ({'part': 'text:~!!'}, 404), ({'part': 'text:~~0'}, 404), ({'part': '@@@'}, 404)]:
            assert client.get('/jobs/-/live', params=params).status_code == status, params
        for path in ('/jobs/-/part?part=nothing:x', '/jobs/nobody', '/jobs/~', '/jobs/-', '/jobs/%00', '/jobs/%ff'):
            assert client.get(path).status_code == 404, path
        for path in ('/jobs/', '/jobs?page=1e9', '/jobs?page=-5&status=x&q=%00%ff&m=y', '/jobs?q=' + 'x' * 5000):
            assert client.get(path).status_code == 200, path
        for path in ('/jobs/-/script', '/jobs/-/style'):
            assert 'immutable' in client.get(path).headers['cache-control']


# --- Names ---

IDS = ['a/b', '/', '..', '.', '../..', '?x=1', '#frag', '50%', '%2e%2e', 'two words', '日本語', '~', '-', "it's", '"',
       '<b>', 'a\nb', 'x' * 300, '.html', 'a.js', '\x7f', 'live']


def test_any_job_id_has_a_page_a_stream_and_a_cancel(server: DashboardServer) -> None:
    with httpx.Client(base_url=server.url) as client:
        for job_id in IDS:
            job = server.start('talker', count=100, job_id=job_id)
            page = client.get(job['url'], headers=PAGE)
            assert page.status_code == 200, job_id
            live = re.findall(r'data-live="(text:[^"]+)"', page.text)
            assert len(live) == 1 and once(client, live[0])[0][0] == 'hello', job_id
            cancel = re.search(r'action="([^"]+/cancel)"', page.text)[1]
            assert client.post(cancel).status_code == 303
            assert 'cancelled' in client.get(job['url'], headers=PAGE).text, job_id


# --- Who may ---

def test_only_this_machine_without_authorize(server: DashboardServer) -> None:
    job = server.start('talker', count=1)
    paths = ['/jobs', job['url'], f'/jobs/-/live?part=text:{job["id"]}', f'/jobs/-/part?part=status:{job["id"]}']
    for headers in ({'x-forwarded-for': '127.0.0.1'}, {'x-forwarded-for': '10.0.0.1'}, {'forwarded': 'for=127.0.0.1'},
                    {'x-real-ip': '::1'}, {'host': 'evil.example'}, {'host': '127.0.0.1.evil.example:80'}):
        with httpx.Client(base_url=server.url, headers=headers) as client:
            assert [client.get(p).status_code for p in paths] == [403] * 4, headers
            assert client.post(job['url'] + '/cancel').status_code == 403


def test_a_refusal_stands_in_the_frame_of_the_app_unless_one_is_a_stranger(owned: DashboardServer) -> None:
    gone = httpx.get(f'{owned.url}/jobs/nobody', headers=PAGE | {'user': 'bob'})
    assert gone.status_code == 404 and '<title>Not here</title>' in gone.text and 'container' in gone.text
    assert gone.headers['cache-control'] == 'no-store'
    stranger = httpx.get(f'{owned.url}/jobs/nobody', headers=PAGE)
    assert stranger.status_code == 403 and '<title>Not for you</title>' in stranger.text
    assert 'container' not in stranger.text and '<script' not in stranger.text
    line = httpx.get(f'{owned.url}/jobs/nobody', headers={'user': 'bob'})
    assert line.status_code == 404 and '<' not in line.text


def test_a_job_of_somebody_else_is_like_one_that_is_not_there(owned: DashboardServer) -> None:
    job, file = owned.hold(count=2, owner='alice')
    owned.wait_for(job, 'running')
    base = job['url']
    unknown = base.replace(job['id'], '0' * 32)
    def ask(user: str, url: str, id: str) -> list[tuple]:
        out = []
        with httpx.Client(base_url=owned.url, headers={'user': user}) as c:
            for headers in ({}, PAGE):
                for answer in (c.get(url, headers=headers),
                               c.get('/jobs/-/part', params={'part': f'status:{id}'}, headers=headers),
                               c.get('/jobs/-/live', params={'part': f'text:{id}'}, headers=headers),
                               c.get('/jobs/-/live', params={'part': f'text:{id}', 'once': '1'}, headers=headers),
                               c.post(f'{url}/cancel', headers=headers), c.post(f'{url}/retry', headers=headers)):
                    kept = {k: v for k, v in answer.headers.items() if k != 'date'}
                    text = answer.text.replace(id, 'the id')   # a page names its own address, which the visitor knows
                    out.append((answer.status_code, text, kept))
        return out
    foreign, absent = ask('bob', base, job['id']), ask('bob', unknown, '0' * 32)
    assert foreign == absent and {a[0] for a in foreign} == {404}
    assert owned.status(job) == 'running'
    with httpx.Client(base_url=owned.url, headers={'user': 'bob'}) as bob:
        assert job['id'] not in bob.get('/jobs').text and job['id'] not in str(once(bob, 'table:'))
        assert once(bob, 'table:', f'text:{job["id"]}')[-1] == ['gone', f'text:{job["id"]}']
        assert once(bob, 'table:', 'text:nobody')[-1] == ['gone', 'text:nobody']
    with httpx.Client(base_url=owned.url, headers={'user': 'alice'}) as alice:
        assert alice.get(base).status_code == 200 and job['id'] in alice.get('/jobs').text
        assert alice.post(f'{base}/cancel', headers={'hx-request': 'true'}).text == 'The job was cancelled.'
        assert 'alice' in alice.get(base).text
    file.unlink()
    with httpx.Client(base_url=owned.url) as nobody:   # who is not logged in is told so, whatever they ask for
        assert [nobody.get(p).status_code for p in ('/jobs', base, unknown)] == [403] * 3


def test_what_runs_again_keeps_its_owner(owned: DashboardServer) -> None:
    job = owned.start('talker', count=1, owner='alice')
    owned.wait_for(job, 'completed')
    with httpx.Client(base_url=owned.url, headers={'user': 'alice'}) as alice:
        again = alice.post(job['url'] + '/retry')
        assert again.status_code == 303 and again.headers['location'] != job['url']
        assert 'alice' in alice.get(again.headers['location']).text
    with httpx.Client(base_url=owned.url, headers={'user': 'bob'}) as bob:
        assert bob.get(again.headers['location']).status_code == 404


def test_nobody_clears_the_jobs_of_others(owned: DashboardServer) -> None:
    jobs = [owned.start('talker', count=1, owner=o) for o in ('alice', 'bob')]
    for job in jobs: owned.wait_for(job, 'completed')
    with httpx.Client(base_url=owned.url, headers={'user': 'bob'}) as bob:
        refused = bob.post('/jobs/-/clear')
        assert refused.status_code == 403 and 'of others' in refused.text
    assert all(owned.status(job) == 'completed' for job in jobs)


# --- From elsewhere ---

FOREIGN = {
    'cross-site': {'sec-fetch-site': 'cross-site', 'origin': 'https://evil.example'},
    'same-site': {'sec-fetch-site': 'same-site'}, 'null origin': {'origin': 'null'},
    'sandbox': {'sec-fetch-site': 'same-origin', 'origin': 'null'}, 'old browser': {'origin': 'http://evil.example'},
    'other port': {'origin': 'http://127.0.0.1:1'}, 'referer': {'referer': 'http://evil.example/'},
    'text/plain': {'content-type': 'text/plain'}, 'json': {'content-type': 'application/json'},
    'hidden text/plain': {'content-type': 'text/plain; boundary=application/x-www-form-urlencoded'}}


@pytest.mark.parametrize('kind', FOREIGN)
def test_posts_from_elsewhere_change_nothing(server: DashboardServer, kind: str) -> None:
    done = server.start('talker', count=1)
    server.wait_for(done, 'completed')
    job, file = server.hold(count=2)
    server.wait_for(job, 'running')
    with httpx.Client(base_url=server.url) as client:
        before = client.get('/stats').json()
        for path in (f'{job["url"]}/cancel', f'{done["url"]}/retry', '/jobs/-/clear', '/jobs/-/plugins/talker/unload',
                     '/jobs/-/plugins/talker/reload'):
            answer = client.post(path, headers=FOREIGN[kind], content='{}')
            assert answer.status_code == 403, path
            assert client.get(path).status_code in (404, 405) and client.put(path).status_code == 405, path
        after = client.get('/stats').json()
        assert server.status(job) == 'running' and server.status(done) == 'completed'
        for stats in (before, after): stats['workers'] = [(w['pid'], w['loaded']) for w in stats['workers']]
        assert before == after
        own = {'origin': server.url, 'sec-fetch-site': 'same-origin',
               'content-type': 'application/x-www-form-urlencoded'}
        assert client.post(f'{job["url"]}/cancel', headers=own).status_code == 303
    file.unlink()


def test_plugins_are_unloaded_and_reloaded(server: DashboardServer) -> None:
    server.wait_for(server.start('talker', count=1), 'completed')
    htmx = {'hx-request': 'true'}
    def loaded() -> list[str]: return httpx.get(f'{server.url}/stats').json()['workers'][0]['loaded']
    with httpx.Client(base_url=server.url, headers=htmx, timeout=30) as client:
        assert client.post('/jobs/-/plugins/talker/unload').text == 'The plugin was unloaded.'
        assert 'talker' not in loaded()
        assert client.post('/jobs/-/plugins/talker/reload').text == 'The plugin was loaded again.'
        assert 'talker' in loaded()
        assert client.post('/jobs/-/plugins/nothing/reload').status_code == 404
        assert client.post('/jobs/-/plugins/talker/reload?m=x').status_code == 404
        assert '"model": "tiny"' in client.get('/jobs').text   # still with its configuration


# --- Not too much ---

def test_large_bodies_are_not_even_read(server: DashboardServer) -> None:
    job = server.start('talker', count=1)
    process = psutil.Process(server.popen.pid)
    before = process.memory_info().rss
    for headers in ({'content-type': 'application/json'}, {'content-type': 'text/plain'}, {}):
        with socket.create_connection(('127.0.0.1', int(server.url.rpartition(':')[2])), timeout=20) as line:
            fields = ''.join(f'{k}: {v}\r\n' for k, v in headers.items())
            line.sendall(f'POST {job["url"]}/cancel HTTP/1.1\r\nhost: localhost\r\n{fields}'
                         'content-length: 1000000000\r\n\r\n'.encode())
            assert line.recv(100).startswith(b'HTTP/1.1 413')
    with httpx.Client(base_url=server.url) as client:
        assert client.post(f'{job["url"]}/cancel', content=iter([b'x=1'])).status_code == 411
    assert process.memory_info().rss - before < 50 * 2**20

def test_floods_are_limited(tmp_path: Path) -> None:
    with serve_dashboard(tmp_path, '--strict') as server:   # 5 streams, 30 cancels and 10 starts in a minute
        job = server.start('talker', count=1)
        server.wait_for(job, 'completed')
        with httpx.Client(base_url=server.url, headers={'hx-request': 'true'}) as client:
            held = [stream(client, 'table:') for _ in range(5)]
            for h in held: assert h.__enter__().status_code == 200
            refused = client.get('/jobs/-/live', params={'part': 'table:'})
            assert refused.status_code == 429 and 'Too many open pages' in refused.text
            assert once(client, 'table:')[0][0] == 'hello'   # but it can look
            held.pop().__exit__(None, None, None)
            wait_until(lambda: client.get('/stats').json()['streams'] == 4, 10, 'the stream to be given back')
            with stream(client, 'table:') as answer: assert answer.status_code == 200
            for h in held: h.__exit__(None, None, None)
            answers = [client.post(job['url'] + '/retry') for _ in range(12)]
            assert [a.status_code for a in answers].count(200) in (10, 11)
            assert answers[-1].status_code == 429 and 'at most 10 in a minute' in answers[-1].text
            answers = [client.post(job['url'] + '/cancel') for _ in range(40)]
            assert answers[0].text == 'The job had ended before.' and answers[-1].status_code == 429
            assert answers[-1].headers['retry-after'] == '5'


# --- Several managers ---

def test_several_managers_on_one_page(tmp_path: Path) -> None:
    with serve_dashboard(tmp_path, '--several') as server:
        jobs = [server.start('talker', count=1, manager=n, job_id='twin') for n in (0, 1)]
        assert jobs[0]['url'] == '/jobs/twin?m=talk' and jobs[1]['url'] == '/jobs/twin?m=other'
        with httpx.Client(base_url=server.url) as client:
            page = client.get('/jobs').text
            assert 'Workers of talk' in page and 'Workers of other' in page and page.count('data-label="Manager"') == 2
            assert [client.get(j['url']).status_code for j in jobs] == [200, 200]
            ops = read_to_end(client, 'text:twin.talk', 'text:twin.other')
            assert [grown(ops, f'job-twin.{k}-text')[0] for k in ('talk', 'other')] == ['w0 ', 'w0 ']
            assert client.get('/jobs?m=other').text.count('<tr id="job-') == 1


# --- Text is text ---

def skeleton(html: str, is_page: bool) -> list[tuple]:
    "Every element with the names of its attributes, as a real parser sees them, and the values that do something."
    parse = html5lib.parse if is_page else html5lib.parseFragment
    tree = parse(html, namespaceHTMLElements=False)
    out = []
    for element in tree.iter():
        if not isinstance(element.tag, str):
            out.append(('comment',))
            continue
        acts = {k for k in element.attrib if k.startswith(('on', 'hx-on', 'style', 'srcdoc'))}
        assert not acts, acts
        for name in ('href', 'src', 'action', 'hx-get', 'hx-post'):
            assert element.get(name, '/jobs').startswith(('/jobs', 'https://127.0.0.1', '/vendor')), element.attrib
        out.append((element.tag, *sorted(element.attrib)))
    return out


@pytest.fixture(scope='module')
def hostile(tmp_path_factory: pytest.TempPathFactory):
    "Jobs whose id, plugin, configuration, message, chunks, log, result and error are all one hostile text."
    with serve_dashboard(tmp_path_factory.mktemp('hostile'), '--hostile') as server:
        urls = httpx.post(f'{server.url}/hostile', timeout=110).json()
        yield server, urls


@pytest.mark.limit(300)   # hundreds of pages through a parser
def test_hostile_texts_are_text_on_pages(hostile) -> None:
    server, urls = hostile
    texts = hostile_strings()
    assert len(texts) >= 200
    with httpx.Client(base_url=server.url) as client:
        plain = {f: skeleton(client.get(urls['plain' + ' fails' * f], headers=PAGE).text, True) for f in (False, True)}
        for fails in (False, True):
            for text in texts:
                url = urls[text + ' fails' * fails]
                assert skeleton(client.get(url, headers=PAGE).text, True) == plain[fails], text


@pytest.mark.limit(300)
def test_hostile_texts_are_text_in_frames(hostile) -> None:
    server, urls = hostile
    with httpx.Client(base_url=server.url) as client:
        def ops_of(url: str) -> list:
            slug = url.rpartition('/')[2]
            kinds = ('status', 'progress', 'cancel', 'facts', 'error', 'result', 'actions', 'card', 'text', 'log')
            return once(client, *(f'{k}:{slug}' for k in kinds))
        def shape(ops: list) -> list:
            return [(op[0], skeleton(op[2], False) if op[0] == 'html' else None) for op in ops]
        plain = {f: shape(ops_of(urls['plain' + ' fails' * f])) for f in (False, True)}
        for text in hostile_strings():
            for fails in (False, True):
                ops = ops_of(urls[text + ' fails' * fails])
                assert shape(ops) == plain[fails], text
                cards = [op[2] for op in ops if op[0] == 'html' and '-card' in op[1]]
                assert len(cards) == 1
                streamed = next((op[4] for op in ops if op[0] == 'text' and op[1].endswith('-text')), '')
                if '\ud800' not in text: assert fails or streamed == text.replace('\0', '\ufffd')


@pytest.mark.limit(300)
def test_hostile_texts_are_text_in_the_list_and_the_configuration(hostile) -> None:
    server, _ = hostile
    with httpx.Client(base_url=server.url) as client:
        for page in range(1, 19):
            [table] = [op[2] for op in once(client, f'table:page={page}') if op[0] == 'html']
            assert not {row[0] for row in skeleton(table, False)} & STRANGE and table.count('<tr id=') in (25, 17)
        [panel] = [op[2] for op in once(client, 'workers:') if op[0] == 'html']   # with 220 plugins and configurations
        rows = skeleton(panel, False)
        assert not {row[0] for row in rows} & STRANGE and not [r for r in rows if 'data-evil' in r]
        assert [r[0] for r in rows].count('details') == len(hostile_strings()) + 2


STRANGE = {'img', 'iframe', 'object', 'x-evil', 'math', 'template', 'noscript', 'base', 'comment', 'script', 'style'}


def test_hostile_texts_in_the_address_are_text(server: DashboardServer) -> None:
    with httpx.Client(base_url=server.url) as client:
        for text in (t for t in hostile_strings() if '\ud800' not in t):
            html = client.get('/jobs', params={'q': text, 'm': text, 'status': text, 'said': text}, headers=PAGE).text
            assert not {row[0] for row in skeleton(html, True)} & (STRANGE - {'script'}), text


def test_secrets_are_masked_everywhere(server: DashboardServer) -> None:
    secrets = ('sesame-open-7', 'hunter-2-pw', 'abcdefgh12345678', 'tok-9876543')
    job = server.start('boom', message='refused: sesame-open-7 at https://me:hunter-2-pw@hub.local/x',
                       log='token=tok-9876543')
    server.wait_for(job, 'failed')
    slug = job['id']
    with httpx.Client(base_url=server.url) as client:
        seen = [client.get(u, headers=PAGE).text for u in ('/jobs', job['url'], '/own')]
        kinds = ('status', 'facts', 'error', 'result', 'card', 'log', 'actions')
        seen += [str(once(client, 'table:', 'workers:', *(f'{k}:{slug}' for k in kinds)))]
        seen += [client.get('/jobs/-/part', params={'part': f'{k}:{slug}'}).text for k in kinds]
    for text in seen:
        for secret in secrets: assert secret not in text
    assert any('•••' in text for text in seen)


# --- What it costs ---

def test_nothing_grows_with_visitors(server: DashboardServer) -> None:
    process = psutil.Process(server.popen.pid)
    def visit() -> None:
        job = server.start('talker', count=2, pause=0)
        with httpx.Client(base_url=server.url) as client:
            client.get('/jobs')
            read_to_end(client, f'text:{job["id"]}', f'card:{job["id"]}')
    for _ in range(3): visit()
    wait_until(lambda: httpx.get(f'{server.url}/stats').json()['streams'] == 0, 10, 'streams to end')
    before = process.num_fds(), process.num_threads()
    for _ in range(20): visit()
    wait_until(lambda: httpx.get(f'{server.url}/stats').json()['streams'] == 0, 10, 'streams to end')
    def has_not_grown() -> bool: return process.num_fds() <= before[0] + 2 and process.num_threads() <= before[1] + 2
    wait_until(has_not_grown, 10, 'descriptors and threads to be as before')
