"The code of the README, pasted into an empty folder, does what the README says."
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

README = Path(__file__).parents[1]/'README.md'

def blocks(): return re.findall(r'^```python\n(.*?)^```', README.read_text(), re.M | re.S)

@pytest.fixture
def folder(tmp_path):
    names = ('shout', 'main', 'pages', 'transcription', 'run')
    for name, code in zip(names, blocks(), strict=True):
        (tmp_path/f'{name}.py').write_text(code)
    return tmp_path

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def get(url, limit):
    "The page at `url`, as soon as somebody serves it."
    deadline = time.monotonic() + limit
    while True:
        try: return urllib.request.urlopen(url, timeout=30).read().decode()
        except OSError as e:
            if isinstance(e, urllib.error.HTTPError) or time.monotonic() > deadline: raise
            time.sleep(0.1)

def group_is_alive(pgid):
    try: os.killpg(pgid, 0)
    except ProcessLookupError: return False
    return True

@contextmanager
def serving(folder, script):
    "The app of `script`: its address. It ends with Ctrl-C, says no traceback and leaves no process."
    port = free_port()
    app = subprocess.Popen([sys.executable, script], cwd=folder, env={**os.environ, 'PORT': str(port)},
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        yield f'http://127.0.0.1:{port}'
        app.send_signal(signal.SIGINT)
        said, _ = app.communicate(timeout=30)
    finally:
        if group_is_alive(app.pid): os.killpg(app.pid, signal.SIGKILL)
        app.wait(10)
        app.stdout.close()
    assert 'Traceback' not in said, said

def test_ten_lines(folder):
    with serving(folder, 'main.py') as url:
        page = get(f'{url}/', limit=30)
        assert 'SO MUCH DEPENDS UPON' in page, page

def test_pages(folder):
    with serving(folder, 'pages.py') as url:
        get(f'{url}/', limit=30)
        card = urllib.request.urlopen(f'{url}/shout', b'text=so+much+depends+upon', timeout=30).read().decode()
        job = re.search('href="(/jobs/[0-9a-f]+)"', card)[1]
        for _ in range(2): assert get(f'{url}/', limit=1).count(f'href="{job}"') == 1   # a refresh starts nothing
        deadline = time.monotonic() + 30
        while 'SO MUCH DEPENDS UPON' not in (page := get(url + job, limit=1)):
            assert time.monotonic() < deadline, page
            time.sleep(0.1)
        assert job in get(f'{url}/jobs', limit=1)

def test_own_manager(folder):
    done = subprocess.run([sys.executable, 'run.py'], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.strip() == "completed {'transcript': 'talk.mp3, as heard by tiny'}"
