"""What holds for every test: it ends in time, and it leaves no child, thread or descriptor behind.

`@pytest.mark.limit(120)` gives a test more than 60 seconds, `@pytest.mark.may_leave('threads', reason='...')` lets it
leave something. The fixture `browser` is a Chromium that is already on the machine.
"""
import faulthandler
import gc
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

LIMIT_SECONDS = 60
SETTLE_SECONDS = 5    # a child that was told to stop, a thread that sees its end, may need a moment
TOKEN = 'TEST_RUN_TOKEN'   # in the environment of every process that a test starts, also when it lost its parent

# ---- Signals arrive

def pytest_configure() -> None:
    "A shell that started us in the background, or `nohup`, has ignored these for us and for every child."
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN: signal.signal(number, signal.SIG_DFL)

# ---- Each test ends in time

def all_stacks() -> str:
    with tempfile.TemporaryFile('w+') as f:
        faulthandler.dump_traceback(f, all_threads=True)
        f.seek(0)
        return f.read()

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    "Whatever cannot even be interrupted, ends the run, with all stacks on the real stderr"
    mark = item.get_closest_marker('limit')
    item.limit_seconds = mark.args[0] if mark else LIMIT_SECONDS
    capture = item.config.pluginmanager.getplugin('capturemanager')
    with capture.global_and_fixture_disabled(): stderr = os.dup(2)
    faulthandler.dump_traceback_later(item.limit_seconds + 30, exit=True, file=stderr)
    try: return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    "A test that hangs fails with all stacks, and the others go on"
    def too_long(*_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        pytest.fail(f'longer than {item.limit_seconds} seconds\n{all_stacks()}', pytrace=False)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, item.limit_seconds)
    try: return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

# ---- Each test leaves nothing behind

def children() -> dict[object, str]:
    "Our descendants, and processes that come from this run but lost their parents"
    found = set(psutil.Process().children(recursive=True))
    for p in psutil.process_iter():
        try:
            if p.pid != os.getpid() and p.environ().get(TOKEN) == os.environ[TOKEN]: found.add(p)
        except psutil.Error: pass
    out: dict[object, str] = {}
    for p in found:
        try: out[p] = f'process {p.pid} ({p.status()}): {" ".join(p.cmdline())[:200]}'
        except psutil.Error: pass   # it has gone meanwhile
    return out

def threads() -> dict[object, str]:
    return {t: f'thread {t.name}{" (daemon)" if t.daemon else ""}' for t in threading.enumerate()}

def descriptors() -> dict[object, str]:
    "What each open descriptor points to"
    folder = '/proc/self/fd' if os.path.isdir('/proc/self/fd') else '/dev/fd'
    out: dict[object, str] = {}
    for fd in os.listdir(folder):
        try: target = os.readlink(f'{folder}/{fd}') if folder.startswith('/proc') else fd
        except OSError: continue   # the one that listed them
        out[fd, target] = f'descriptor {fd}: {target}'
    return out

KINDS: dict[str, Callable[[], dict[object, str]]] = dict(children=children, threads=threads, descriptors=descriptors)

@pytest.fixture(scope='session', autouse=True)
def _steady() -> None:
    "Start what Python keeps for the life of a process, so that no single test is blamed for it"
    os.environ[TOKEN] = uuid.uuid4().hex
    resource_tracker.ensure_running()

@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest, _steady: None) -> Iterator[None]:
    marks = list(request.node.iter_markers('may_leave'))
    assert all(m.kwargs.get('reason') for m in marks), 'may_leave needs a reason'
    kinds = {k: f for k, f in KINDS.items() if not any(k in m.args for m in marks)}
    before = {k: f() for k, f in kinds.items()}
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while left := [text for k, f in kinds.items() for key, text in f().items() if key not in before[k]]:
        if time.monotonic() > deadline: break
        gc.collect()
        time.sleep(.02)
    if 'children' in kinds:
        for p in children().keys() - before['children'].keys():   # the next test is not to blame
            try: p.kill()
            except psutil.Error: pass
    if left: pytest.fail('left behind:\n' + '\n'.join(left), pytrace=False)

# ---- A browser

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
QUIET = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync']

def browser_path() -> str | None:
    mac = Path('/Applications/Google Chrome.app/Contents/MacOS/Google Chrome')
    return next(filter(None, map(shutil.which, BROWSERS)), str(mac) if mac.exists() else None)

@pytest.fixture
def browser():
    "A running Chromium for one test; not for longer, since Playwright keeps an event loop in this thread while it runs"
    path = browser_path()
    if not path: pytest.skip(f'NO BROWSER: NOT TESTED. None of {", ".join(BROWSERS)} is installed')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=QUIET)
        yield b
        b.close()

def pytest_terminal_summary(terminalreporter) -> None:
    if any('NO BROWSER' in str(r.longrepr) for r in terminalreporter.stats.get('skipped', [])):
        terminalreporter.section('no browser was found: the pages were NOT tested', sep='!', red=True, bold=True)
