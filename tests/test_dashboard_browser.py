"""The pages as a person sees them, in a real browser. The app's own style is off: what is tested is ours."""
import re
import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest

from dashboard_server import DashboardServer, free_port, let_go, serve_dashboard, wait_until  # noqa: F401
from tests.hostile import ALIVE

pytestmark = [pytest.mark.limit(120),
              pytest.mark.may_leave('children', reason='the running app and its worker: `serve_dashboard` checks')]


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory):
    with serve_dashboard(tmp_path_factory.mktemp('app')) as server: yield server


@pytest.fixture
def visitor(browser):
    "A page; nothing may be asked of any other machine, and no script may fail."
    strangers: list[str] = []
    errors: list[str] = []
    context = browser.new_context(viewport={'width': 1280, 'height': 900}, locale='en-GB', timezone_id='UTC')
    context.set_default_timeout(30_000)
    context.on('request', lambda request: request.url.startswith('http://127.0.0.1:') or strangers.append(request.url))
    context.on('weberror', lambda error: errors.append(str(error.error)))
    page = context.new_page()
    yield page
    context.close()
    assert not strangers and not errors


def text_of(page) -> str: return page.locator('pre.jobs-text').first.evaluate('e => e.textContent')
def words(count: int) -> str: return ''.join(f'w{n} ' for n in range(count))


def wait_for_text(page, part: str) -> None:
    page.wait_for_function('part => document.querySelector("pre.jobs-text").textContent.includes(part)', arg=part)


def wait_for_state(page, word: str) -> None:
    "Wait until the badge at the top says `word`."
    badge = 'document.querySelector("[role=status] .jobs-badge")'
    page.wait_for_function(f'word => {badge}?.textContent === word', arg=word)


def test_text_grows_and_a_refresh_and_a_second_tab_lose_and_double_nothing(server: DashboardServer, visitor) -> None:
    job = server.start('talker', count=120)
    visitor.goto(server.url + job['url'])
    wait_for_text(visitor, 'w20 ')
    assert visitor.locator('progress').evaluate('e => e.value') > .1
    second = visitor.context.new_page()
    second.goto(server.url + job['url'])
    for _ in range(5):   # in the middle
        visitor.reload()
        shown = text_of(visitor)
        assert words(120).startswith(shown) and shown.count('w20 ') == 1
    for page in (visitor, second):
        wait_for_state(page, 'Done')
        assert text_of(page) == words(120)
        assert page.locator('.jobs-percent').inner_text() == '100%'
        log = page.locator('.jobs-log').last.evaluate('e => e.textContent')
        assert log == ''.join(f'line for word {n}\n' for n in range(0, 120, 5))
        assert page.locator('button', has_text='Cancel').count() == 0
    visitor.reload()
    assert text_of(visitor) == words(120)


def test_list_follows_and_keeps_the_focus(server: DashboardServer, visitor) -> None:
    first, file = server.hold(count=3)
    visitor.goto(f'{server.url}/jobs')
    visitor.locator(f'[id="job-{first["id"]}-row"] button').focus()
    jobs = [server.start('talker', count=2) for _ in range(3)]
    for job in jobs: visitor.locator(f'[id="job-{job["id"]}-row"]').wait_for()
    assert visitor.evaluate('document.activeElement.closest("tr").id') == f'job-{first["id"]}-row'   # it has moved down
    visitor.keyboard.press('Enter')
    visitor.locator(f'[id="job-{first["id"]}-row"][data-status=cancelled]').wait_for()
    for job in jobs: visitor.locator(f'[id="job-{job["id"]}-row"][data-status=completed]').wait_for()
    file.unlink()
    assert visitor.locator('.jobs-notice').inner_text() == 'The job was cancelled.'


def test_cancel_with_the_keyboard_alone(server: DashboardServer, visitor) -> None:
    job, file = server.hold(count=3)
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Running')
    for _ in range(20):
        visitor.keyboard.press('Tab')
        if visitor.evaluate('document.activeElement.innerText') == 'Cancel': break
    assert visitor.evaluate('document.activeElement.getAttribute("aria-label")') == 'Cancel the job talker'
    visitor.keyboard.press('Space')
    wait_for_state(visitor, 'Cancelled')
    assert visitor.evaluate('document.activeElement.id') == f'job-{job["id"]}-actions'   # not at the top of the page
    visitor.keyboard.press('Tab')
    assert visitor.evaluate('document.activeElement.innerText') == 'Run again'
    file.unlink()
    visitor.keyboard.press('Enter')
    visitor.wait_for_url(lambda url: job['id'] not in url and '/jobs/' in url)
    wait_for_state(visitor, 'Done')
    assert text_of(visitor) == words(3)


def test_live_regions_stay_in_place(server: DashboardServer, visitor) -> None:
    "A screen reader reads a region that changes, not one that is replaced"
    job, file = server.hold(count=3)
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Running')
    visitor.evaluate('window.before = [...document.querySelectorAll("[role=status], [role=log], [role=alert]")]')
    file.unlink()
    wait_for_state(visitor, 'Done')
    assert visitor.evaluate('window.before.length >= 4 && window.before.every(e => e.isConnected)')


def test_killed_worker_is_told(server: DashboardServer, visitor) -> None:
    job, file = server.hold(count=3)
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Running')
    server.worker().kill()
    wait_for_state(visitor, 'Failed')
    assert 'crashed or was ended from outside' in visitor.locator('.jobs-status').inner_text()
    assert 'SIGKILL' in visitor.get_by_role('alert').inner_text()
    assert 'worker_crashed' in visitor.locator('.jobs-facts').inner_text()
    file.unlink()
    visitor.goto(f'{server.url}/jobs')   # the next one gets a new worker, and the page says that it is one
    server.wait_for(server.start('talker', count=1), 'completed')
    visitor.wait_for_function('[...document.querySelectorAll("dt")].some(e => e.textContent === "Generation"'
                              ' && +e.nextElementSibling.textContent > 1)')


def test_failed_job_shows_its_traceback_and_no_secret(server: DashboardServer, visitor) -> None:
    job = server.start('boom', message='no access to https://me:hunter-2-pw@hub.local/x with sesame-open-7',
                       log='Authorization: Bearer abcdefgh12345678')
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Failed')
    visitor.get_by_text('Traceback', exact=True).click()
    assert 'pages.py' in visitor.get_by_role('alert').inner_text()
    visitor.wait_for_function('document.querySelectorAll(".jobs-log")[1]?.textContent.includes("Authorization")')
    for url in (job['url'], '/jobs'):
        visitor.goto(server.url + url)
        for secret in ('hunter-2-pw', 'sesame-open-7', 'abcdefgh12345678'): assert secret not in visitor.content()
    assert '"api_key": "•••"' in visitor.content() and '"model": "tiny"' in visitor.content()


def test_opened_details_stay_open(server: DashboardServer, visitor) -> None:
    visitor.goto(f'{server.url}/jobs')
    visitor.get_by_text('Configuration').click()
    before = visitor.locator('.jobs-workers').inner_text()
    server.wait_for(server.start('talker', count=1), 'completed')   # the number of jobs done changes
    wait_until(lambda: visitor.locator('.jobs-workers').inner_text() != before, 20, 'the workers to change')
    assert visitor.locator('.jobs-workers details').first.evaluate('e => e.open')


def test_restarted_server_is_found_again_and_the_page_says_so(visitor, tmp_path) -> None:
    port = free_port()
    with serve_dashboard(tmp_path, port=port) as server:
        job, file = server.hold(count=3)
        visitor.goto(f'{server.url}/jobs')
        visitor.locator(f'[id="job-{job["id"]}-row"]').wait_for()
        of_job = visitor.context.new_page()
        of_job.goto(server.url + job['url'])
        wait_for_state(of_job, 'Running')
    for page in (visitor, of_job): page.get_by_text('The connection was lost').wait_for()
    with serve_dashboard(tmp_path, port=port) as server:
        visitor.get_by_text('The server was restarted. This page is connected again.').wait_for()
        visitor.get_by_text('No jobs yet.').wait_for()
        again = server.start('talker', count=1)
        visitor.locator(f'[id="job-{again["id"]}-row"]').wait_for()
        of_job.get_by_text('There is no such job here.').wait_for()


def test_a_page_that_gets_no_stream_polls(server: DashboardServer, visitor) -> None:
    for broken in ('delete window.EventSource',
                   'window.EventSource = class { constructor() { setTimeout(() => this.onerror(), 50) }'
                   ' addEventListener() {} close() {} }'):
        page = visitor.context.new_page()
        page.add_init_script(broken)
        job = server.start('talker', count=60, pause=.05)
        page.goto(server.url + job['url'])
        wait_for_state(page, 'Done')
        assert text_of(page) == words(60)
        page.close()


def test_without_scripts_it_is_a_page_with_forms(server: DashboardServer, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    job, file = server.hold(count=3)
    server.wait_for(job, 'running')
    page.goto(server.url + job['url'])
    page.get_by_role('button', name='Cancel').click()
    assert 'The job was cancelled.' in page.inner_text('body') and 'said=cancelled' in page.url
    page.get_by_role('link', name='All jobs').click()
    page.get_by_label('Find jobs').fill(job['id'])
    page.get_by_role('button', name='Find').click()
    assert page.locator('tr[id]').count() == 1
    file.unlink()
    page.goto(server.url + job['url'])
    page.get_by_role('button', name='Run again').click()
    assert job['id'] not in page.url
    context.close()


def test_components_on_a_page_of_the_app(server: DashboardServer, visitor) -> None:
    jobs = [server.start('talker', count=40) for _ in range(3)]
    visitor.goto(f'{server.url}/own')
    for job in jobs:
        card = visitor.locator(f'[id="job-{job["id"]}-card"]')
        card.locator('.jobs-badge', has_text='Done').wait_for()
        assert card.locator('pre').evaluate('e => e.textContent') == words(40)
        assert card.locator('button').count() == 0 or card.get_by_role('button').inner_text() == 'Run again'
    wait_until(lambda: httpx.get(f'{server.url}/stats').json()['streams'] == 0, 10, 'the stream to end')
    visitor.reload()   # a card of a finished job gets its text too
    wait_for_text(visitor, 'w39 ')


def test_more_cards_than_one_stream_has_room_for(server: DashboardServer, visitor) -> None:
    "The last ones are fetched; those whose jobs have ended get their texts all the same"
    over = [server.start('talker', count=2, pause=0) for _ in range(110)]
    server.wait_for(over[-1], 'completed')
    first, file = server.hold(count=3, at=1)
    waiting = [server.start('talker', count=2, pause=0) for _ in range(60)]
    visitor.goto(f'{server.url}/newest?count=171')
    texts = 'count => [...document.querySelectorAll("article pre")].filter(p => p.textContent).length >= count'
    visitor.wait_for_function(texts, arg=111)   # newest first: the one that runs is the 61st
    file.unlink()
    for job in (first, waiting[-1]): visitor.locator(f'[id="job-{job["id"]}-status"][data-status=completed]').wait_for()
    visitor.wait_for_function(texts, arg=171)
    visitor.wait_for_function('!document.querySelector("[data-live]")')


def test_a_card_that_is_put_in_again_gets_its_text_again(server: DashboardServer, visitor) -> None:
    "As by htmx: its name is that of the card before, and its text is empty"
    again = """async () => {
      const page = new DOMParser().parseFromString(await (await fetch('/newest?count=1')).text(), 'text/html')
      document.querySelector('article').replaceWith(page.querySelector('article'))
      return document.querySelector('article pre').textContent
    }"""
    job, file = server.hold(count=3, at=1)
    server.wait_for(job, 'running')
    visitor.goto(f'{server.url}/newest?count=1')
    wait_for_text(visitor, 'w0 ')
    assert visitor.evaluate(again) == ''
    wait_for_text(visitor, 'w0 ')
    file.unlink()
    wait_for_text(visitor, 'w2 ')
    wait_for_state(visitor, 'Done')
    visitor.wait_for_function('!document.querySelector("[data-live]")')
    assert visitor.evaluate(again) == ''
    wait_for_text(visitor, 'w2 ')
    assert text_of(visitor) == words(3)


def test_a_text_that_grows_is_shown_at_its_end(server: DashboardServer, visitor) -> None:
    "Also when the page comes in the middle; one that is complete is shown from its beginning"
    place = """() => { const p = document.querySelector("pre.jobs-text")
      return [p.scrollTop > 0, p.scrollTop + p.clientHeight >= p.scrollHeight - 8] }"""
    job, file = server.hold(count=3, at=1, words=['line\n' * 200] * 3)
    server.wait_for(job, 'running')
    visitor.goto(server.url + job['url'])
    for _ in range(2):
        wait_for_text(visitor, 'line')
        visitor.wait_for_function(f'() => ({place})().every(x => x)')
        visitor.reload()
    file.unlink()
    wait_for_state(visitor, 'Done')
    assert visitor.evaluate(place) == [True, True]
    for url in (job['url'], '/newest?count=1'):
        visitor.goto(server.url + url)
        wait_for_text(visitor, 'line')
        assert visitor.evaluate(place) == [False, False]


def test_who_is_logged_out_is_led_to_log_in(server: DashboardServer, visitor) -> None:
    "An app may answer with a redirect or a page: neither is shown as text, and neither is a lost connection"
    job, file = server.hold(count=3)
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Running')
    page = lambda route: route.fulfill(status=200, content_type='text/html', body='<h1>Log in</h1>')   # noqa: E731
    visitor.route('**/-/live?*', page)
    visitor.evaluate('for (const s of jobsLive.sources.values()) s.open()')
    visitor.get_by_text('You are not let in here any more.').wait_for()
    assert visitor.locator('[data-live]').count() == 0
    visitor.route('**/cancel', page)
    visitor.evaluate('jobsLive.say("")')
    visitor.get_by_role('button', name='Cancel').click()
    visitor.get_by_text('You are not let in here any more.').wait_for()
    visitor.unroute('**/cancel')
    visitor.route('**/cancel', lambda route: route.fulfill(status=303, headers={'location': '/own'}))
    visitor.get_by_role('button', name='Cancel').click()
    visitor.wait_for_url('**/own')
    file.unlink()


def test_what_is_read_out_is_little(server: DashboardServer, visitor) -> None:
    "The state of a job when it changes, its text as it grows; not each step of its progress, nor its log"
    listen = """() => { window.heard = []
      for (const region of document.querySelectorAll('[role=status], [role=log], [role=alert]'))
        new MutationObserver(changes => { for (const {target} of changes) {
          const near = (target.nodeType === 1 ? target : target.parentElement).closest('[aria-live], [role]')
          if (near.getAttribute('aria-live') !== 'off') heard.push([region.getAttribute('role'), region.textContent])
        } }).observe(region, {subtree: true, childList: true, characterData: true}) }"""
    job, file = server.hold(count=60)
    visitor.goto(server.url + job['url'])
    wait_for_state(visitor, 'Running')
    visitor.evaluate(listen)
    file.unlink()
    wait_for_state(visitor, 'Done')
    heard = visitor.evaluate('heard')
    assert len([h for h in heard if h[0] == 'status']) <= 3, heard
    assert all('line for word' not in text for _, text in heard)
    assert any('w5 ' in text for role, text in heard if role == 'log')


def test_a_worker_that_runs_a_job_is_busy(server: DashboardServer, visitor) -> None:
    job, file = server.hold(count=3)
    visitor.goto(f'{server.url}/jobs')
    visitor.locator('article [data-status=busy]', has_text='Busy').wait_for()
    file.unlink()
    visitor.locator('article [data-status=ready]', has_text='Ready').wait_for()


def test_a_card_without_text_stays_one(server: DashboardServer, visitor) -> None:
    job, file = server.hold(count=3)
    visitor.goto(f'{server.url}/brief')
    card = visitor.locator(f'[id="job-{job["id"]}-card"]')
    card.locator('.jobs-badge', has_text='Running').wait_for()
    file.unlink()
    card.locator('.jobs-badge', has_text='Done').wait_for()
    assert card.locator('pre').count() == 0


def test_a_result_without_text_is_unfolded_and_an_empty_log_is_not_there(server: DashboardServer, visitor) -> None:
    silent = server.start('silent', word='again')
    visitor.goto(server.url + silent['url'])
    for _ in range(2):   # as it comes, and when the page is loaded again
        wait_for_state(visitor, 'Done')
        assert visitor.get_by_text('"answer": "again again"').is_visible()
        assert not visitor.get_by_role('heading', name='Log').is_visible()
        visitor.reload()
    talker = server.start('talker', count=3)
    visitor.goto(server.url + talker['url'])
    wait_for_state(visitor, 'Done')
    visitor.get_by_text('Result', exact=True).wait_for()
    assert not visitor.locator('[id$=result-box] pre').is_visible()
    assert visitor.get_by_role('heading', name='Log').is_visible()


def test_waiting_jobs_say_how_many_are_before_them(server: DashboardServer, visitor) -> None:
    first, file = server.hold(count=3)
    second, third = server.start('talker', count=1), server.start('talker', count=1)
    visitor.goto(server.url + third['url'])
    visitor.get_by_text('1 job is before it.').wait_for()
    httpx.post(f'{server.url}{second["url"]}/cancel')
    visitor.get_by_text('It is next.').wait_for()
    file.unlink()
    wait_for_state(visitor, 'Done')


def test_ten_thousand_jobs_long_names_and_a_megabyte(server: DashboardServer, visitor) -> None:
    httpx.post(f'{server.url}/many', params={'count': 10_000}, timeout=60)
    name = 'wide' * 50
    big = server.start('talker', job_id=name, count=64, pause=0, words=['x' * 1023 + '\n'] * 1024)
    huge = server.start('talker', count=1024, pause=0, words=['y' * 1023 + '\n'] * 1024)
    server.wait_for(big, 'completed')
    server.wait_for(huge, 'completed')
    for width in (1280, 390):
        visitor.set_viewport_size({'width': width, 'height': 844})
        visitor.goto(f'{server.url}/jobs')
        assert visitor.evaluate('document.documentElement.scrollWidth') <= width
        visitor.get_by_text(re.compile(r'1–25 of 10,\d{3}')).wait_for()
        visitor.get_by_label('Older page').click()
        visitor.get_by_text(re.compile(r'26–50 of 10,\d{3}')).wait_for()
        for job in (big, huge):
            visitor.goto(server.url + job['url'])
            assert visitor.evaluate('document.documentElement.scrollWidth') <= width
    assert len(text_of(visitor)) == 2**20


def fetch_from_npm(folder: Path, package: str, members: dict[str, str]) -> None:
    "Files of an npm package, for a test that needs them as they are."
    subprocess.run(['npm', 'pack', '--silent', package], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120)
    archive = next(folder.glob(package.lstrip('@').replace('/', '-').split('@')[0] + '-*.tgz'))
    with tarfile.open(archive) as tar:
        for member, name in members.items(): (folder/name).write_bytes(tar.extractfile(f'package/{member}').read())


@pytest.fixture(scope='module')
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "htmx (0BSD) and Pico (MIT), as FastHTML's pages load them."
    folder = tmp_path_factory.mktemp('vendor')
    try:
        fetch_from_npm(folder, 'htmx.org@2.0.7', {'dist/htmx.min.js': 'htmx.min.js'})
        fetch_from_npm(folder, '@anyblades/pico@2.5.0', {'css/pico.min.css': 'pico.min.css'})
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        pytest.skip(f'NO BROWSER TEST: NOT TESTED. npm cannot fetch htmx and Pico: {error}')
    return folder


@pytest.fixture(scope='module')
def styles(vendor: Path) -> Path:
    "Beside these, daisyUI (MIT) and Franken UI (MIT), on which MonsterUI 1.0 stands, in the version that it asks for."
    try:
        fetch_from_npm(vendor, 'daisyui@5.8.1', {'daisyui.css': 'daisyui.css'})
        fetch_from_npm(vendor, 'franken-ui@2.0.0', {'dist/css/core.min.css': 'franken-ui.css'})
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        pytest.skip(f'NO BROWSER TEST: NOT TESTED. npm cannot fetch daisyUI and Franken UI: {error}')
    return vendor


def test_beside_htmx_and_pico(vendor: Path, visitor, tmp_path) -> None:
    with serve_dashboard(tmp_path, '--vendor', str(vendor)) as server:
        job, file = server.hold(count=3)
        polls: list[str] = []
        visitor.on('request', lambda r: '/-/part' in r.url and polls.append(r.url))
        visitor.goto(server.url + job['url'])
        wait_for_state(visitor, 'Running')
        posted = []
        visitor.on('request', lambda r: r.method == 'POST' and posted.append(r.headers.get('hx-request')))
        visitor.wait_for_timeout(4000)   # longer than htmx would wait before it polls
        visitor.get_by_role('button', name='Cancel').click()
        wait_for_state(visitor, 'Cancelled')
        visitor.get_by_text('The job was cancelled.').wait_for()
        visitor.wait_for_timeout(4000)   # nor does it poll what has ended
        assert posted == ['true'] and not polls
        file.unlink()
        visitor.get_by_role('button', name='Run again').click()
        visitor.wait_for_url(lambda url: job['id'] not in url and '/jobs/' in url)
        wait_for_state(visitor, 'Done')
        for scheme, back in (('light', 255), ('dark', 19)):
            visitor.emulate_media(color_scheme=scheme)
            seen = visitor.evaluate('getComputedStyle(document.documentElement).backgroundColor')
            assert int(re.search(r'\d+', seen)[0]) == back


def test_htmx_alone_polls(vendor: Path, visitor, tmp_path) -> None:
    "Without our script, htmx keeps a component up to date"
    with serve_dashboard(tmp_path, '--vendor', str(vendor)) as server:
        visitor.route('**/-/script*', lambda route: route.abort())
        job = server.start('talker', count=30)
        visitor.goto(server.url + job['url'])
        wait_for_state(visitor, 'Done')
        wait_for_text(visitor, 'w29 ')
        assert text_of(visitor) == words(30)


CONTRAST = """element => {   // of its text with what is behind it, as WCAG 2 has it
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d')
  const paint = color => { pen.fillStyle = color; pen.fillRect(0, 0, 1, 1) }
  const light = () => [.2126, .7152, .0722].reduce((sum, weight, i) => {
    const part = pen.getImageData(0, 0, 1, 1).data[i] / 255
    return sum + weight * (part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
  }, 0)
  const behind = []
  for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor)
  const isDark = getComputedStyle(document.documentElement).colorScheme === 'dark'
  for (const color of [isDark ? '#121212' : '#fff', ...behind]) paint(color)
  const back = light()
  paint(getComputedStyle(element).color)
  const [low, high] = [back, light()].sort((a, b) => a - b)
  return (high + .05) / (low + .05)
}"""
READ = ['[data-status]:is(.jobs-badge, .badge, .jobs-tone)', '.jobs-warn, .jobs-danger', '.jobs-hint', '.jobs-id',
        '.jobs-said', '.jobs-count', '.jobs-facts dt']


def seen_with_focus(page) -> dict[str, float]:
    "Width of the outline of each kind of thing that the tab key comes to."
    found: dict[str, float] = {}
    page.evaluate('document.activeElement.blur()')
    for _ in range(40):
        page.keyboard.press('Tab')
        kind, width = page.evaluate("""() => {
          const e = document.activeElement, style = getComputedStyle(e)
          return [e.tagName + ' ' + e.className, style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth)]
        }""")
        if not kind.startswith('BODY'): found[kind] = min(width, found.get(kind, width))
    return found


@pytest.mark.parametrize('style', ['pico', 'daisy', 'monster', 'none'])
def test_text_is_readable_and_focus_is_seen_in_every_style(styles: Path, visitor, tmp_path, style: str) -> None:
    with serve_dashboard(tmp_path, '--vendor', str(styles), '--style', style) as server:
        server.wait_for(server.start('talker', count=1), 'completed')
        failed = server.start('boom')
        server.wait_for(failed, 'failed')
        cancelled, first = server.hold(count=3)
        server.wait_for(cancelled, 'running')
        httpx.post(server.url + cancelled['url'] + '/cancel', headers={'hx-request': 'true'})
        server.wait_for(cancelled, 'cancelled')
        running, second = server.hold(count=3)
        server.wait_for(running, 'running')
        server.start('talker')
        for scheme in ('light', 'dark'):
            visitor.emulate_media(color_scheme=scheme)
            visitor.goto(f'{server.url}/jobs')
            visitor.locator('article [data-status=busy]').wait_for()
            assert visitor.locator(READ[0]).count() == 6   # five states and the worker's
            for part in READ:
                for element in visitor.locator(part).all():
                    assert element.evaluate(CONTRAST) >= 4.5, (scheme, part, element.inner_text())
            focus = seen_with_focus(visitor)
            assert len(focus) > 4 and min(focus.values()) >= 2, (scheme, focus)
            visitor.goto(server.url + failed['url'])
            error = visitor.get_by_role('alert').locator('p')
            assert error.evaluate(CONTRAST) >= 4.5
        for width in (1280, 800):   # no word of a column and no button is broken in two
            visitor.set_viewport_size({'width': width, 'height': 844})
            visitor.goto(f'{server.url}/jobs')
            for part in ('th', 'td button', '[data-label=Took]'):
                for element in visitor.locator(part).filter(has_text=re.compile('.')).all():
                    lines = element.evaluate('''e => { const range = document.createRange()
                      range.selectNodeContents(e)
                      return new Set([...range.getClientRects()].map(r => Math.round(r.bottom))).size }''')
                    assert lines == 1 or element.locator('.jobs-unseen').count(), (width, element.inner_text())
        visitor.set_viewport_size({'width': 390, 'height': 844})
        for url in ('/jobs', failed['url'], running['url'], '/jobs/nobody', '/own'):
            visitor.goto(server.url + url)
            assert visitor.evaluate('document.documentElement.scrollWidth') <= 390, url
        for file in (first, second): file.unlink()


@pytest.mark.limit(300)
def test_hostile_texts_come_alive_nowhere(visitor, tmp_path) -> None:
    "As a page and as what the stream brings: both end in the DOM of a real browser"
    with serve_dashboard(tmp_path, '--hostile') as server:
        httpx.post(f'{server.url}/hostile', timeout=110)
        visitor.add_init_script('window.evil = () => { window.caught = true }')
        dialogs: list[str] = []
        evil: list[str] = []
        visitor.on('dialog', lambda d: (dialogs.append(d.message), d.dismiss()))
        visitor.on('request', lambda r: 'evil' in r.url.partition('?')[0].rpartition('/')[2] and evil.append(r.url))
        for start in range(0, 442, 50):
            visitor.goto(f'{server.url}/cards?start={start}&count=50')
            count = visitor.locator('article').count()
            assert count == min(50, 442 - start)
            texts = 'document.querySelectorAll("[data-at]:not([data-at=\'\'])")'   # that have come
            visitor.wait_for_function(f'count => {texts}.length === count', arg=count)
            assert visitor.evaluate('alive => document.querySelectorAll(alive).length', ALIVE) == 0
        for url in ('/jobs', '/jobs?page=9'):
            visitor.goto(server.url + url)
            visitor.wait_for_function('window.jobsLive.sources.get("/jobs").epoch')
            assert visitor.evaluate('alive => document.querySelectorAll(alive).length', ALIVE) == 0
        assert not visitor.evaluate('window.caught') and not dialogs and not evil
