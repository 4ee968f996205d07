"The rules for every test are themselves kept: a hang, and anything left behind, is found and named."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import App

CASES = '''
import os, subprocess, sys, threading, time
import pytest

@pytest.mark.limit(.5)
def test_hangs(): threading.Event().wait()

def test_after_a_hang(): pass

def test_child(): subprocess.Popen(["sleep", "100"])

def test_orphan():
    code = "import subprocess; subprocess.Popen(['sleep', '101'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_thread(): threading.Thread(target=time.sleep, args=(20,), daemon=True, name="idler").start()

def test_descriptor(): os.open(__file__, os.O_RDONLY)

@pytest.mark.may_leave("descriptors", reason="to see that it may")
def test_may(): os.open(__file__, os.O_RDONLY)

def test_ends_soon():
    threading.Thread(target=time.sleep, args=(.05,)).start()
    subprocess.Popen(["sleep", ".05"])
'''

@pytest.mark.limit(90)
def test_what_breaks_a_rule_is_named(tmp_path):
    rules = Path(__file__).with_name('conftest.py').read_text()
    (tmp_path/'conftest.py').write_text(rules.replace('SETTLE_SECONDS = 5', 'SETTLE_SECONDS = .5'))
    (tmp_path/'pytest.ini').write_text('[pytest]\nmarkers =\n  limit\n  may_leave\n')
    (tmp_path/'test_cases.py').write_text(CASES)
    env = {k: v for k, v in os.environ.items() if k != 'TEST_RUN_TOKEN'}
    r = subprocess.run([sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-rA', str(tmp_path)], env=env,
                       cwd=tmp_path, capture_output=True, text=True)
    passed = {line.split('::')[1] for line in r.stdout.splitlines() if line.startswith('PASSED')}
    assert passed >= {'test_after_a_hang', 'test_may', 'test_ends_soon'}, r.stdout
    assert 'longer than 0.5 seconds' in r.stdout and 'in test_hangs' in r.stdout
    named = [line for line in r.stdout.splitlines() if line.startswith(('process', 'thread', 'descriptor'))]
    for words in ('sleep 100', 'sleep 101', 'thread idler (daemon)', 'test_cases.py'):
        assert any(words in line for line in named), r.stdout
    assert '1 failed, 7 passed, 4 errors' in r.stdout, r.stdout

def test_a_line_of_an_app_is_heard_whole_and_its_last_word_counts():
    code = ('import os, time\nos.write(1, b"started")\ntime.sleep(.1)\nos.write(1, b" 42")\ntime.sleep(.1)\n'
            'os.write(1, b"\\nover\\n")')
    with App('-c', code) as app:
        assert app.until('started') == 'started 42\n' or app.out == 'started 42\nover\n'
        assert app.until('over') == 'started 42\nover\n'   # though it has ended
        app.popen.wait(10)
        with pytest.raises(AssertionError, match='ended with 0'): app.until('more')
