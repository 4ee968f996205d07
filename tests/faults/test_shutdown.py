"However an app ends, its worker goes with it, and nothing waits for ever."
import contextlib
import json
import os
import signal
import time

import pytest

from tests.faults.harness import strange_lines
from tests.faults.life import LOOKS, STATES, Life

ASYNC_CANCELLED = r'^Traceback|^  |^KeyboardInterrupt|^asyncio\.|^LookupError|^During handling|^The above'

def all_states(ending, folder, states=STATES):
    stack = contextlib.ExitStack()
    return stack, [stack.enter_context(Life(s, ending, folder)) for s in states]

def judge(app, code, seconds=10):
    "It ends with this exit code, orderly, and nothing is left; what it said on stderr."
    got, left = app.finish(seconds), app.left()
    said = f'{app}\n{app.out}\n{app.err}'
    assert got == code, f'exit code {got}: {said}'
    assert not left, f'left: {left}: {said}'
    report = json.loads(app.out.rpartition('REPORT ')[2])
    assert report['jobs'] == [LOOKS[kind] for kind in STATES[app.state]], said
    assert report['threads'] == ['MainThread'], said
    return app.err

ENDINGS = {'shutdown': 0, 'aclose': 0, 'end': 0, 'exit': 3, 'raise': 1}

@pytest.mark.parametrize('ending', ENDINGS)
def test_in_every_state(ending, tmp_path):
    stack, apps = all_states(ending, tmp_path)
    with stack:
        for app in apps:
            err = judge(app, ENDINGS[ending])
            assert ('nobody catches this' in err) == (ending == 'raise')
            strange = strange_lines(err, ASYNC_CANCELLED if ending == 'raise' else None)
            assert not strange, f'{app}: {strange}'

def test_ctrl_c_in_every_state(tmp_path):
    "The worker does not see it; the app cleans up in its own time."
    stack, apps = all_states('wait', tmp_path)
    with stack:
        for app in apps: app.heard('READY')
        for app in apps: os.killpg(app.popen.pid, signal.SIGINT)
        for app in apps:
            err = judge(app, -signal.SIGINT)
            assert not (strange := strange_lines(err, ASYNC_CANCELLED)), f'{app}: {strange}'

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_nobody_handles(sig, tmp_path):
    "To the app alone, then to its whole group, as a terminal and a service manager send it."
    for kill in (os.kill, os.killpg):
        stack, apps = all_states('wait', tmp_path, ['idle', 'stuck', 'starting'])
        with stack:
            for app in apps: app.heard('READY')
            for app in apps: kill(app.pid, sig)
            for app in apps:
                assert app.finish(10) == -sig
                assert not (left := app.left()), f'{app}: {left}'
                assert not (strange := strange_lines(app.err)), f'{app}: {strange}'

def test_ctrl_c_twice(tmp_path):
    "Also while the first is being dealt with: in the loop, in an exit handler."
    stack, apps = all_states('wait', tmp_path, ['idle', 'busy', 'stubborn', 'starting', 'streaming'])
    with stack:
        for app in apps: app.heard('READY')
        for pause in (0, .02, .1):
            for app in apps:
                with contextlib.suppress(ProcessLookupError): os.killpg(app.pid, signal.SIGINT)
            time.sleep(pause)   # a person's fingers
        for app in apps:
            assert app.finish(10) is not None, f'{app}: {app.err}'
            assert not (left := app.left()), f'{app}: {left}'

@pytest.mark.parametrize('ending', ['handler', 'handler-inside'])
def test_shutdown_in_a_signal_handler(ending, tmp_path):
    "The handler may interrupt any line of ours in the main thread, also one that holds a lock."
    stack, apps = all_states(ending, tmp_path, ['idle', 'busy', 'starting'])
    with stack:
        for app in apps: app.heard('READY')
        if ending == 'handler':
            for app in apps: os.kill(app.pid, signal.SIGTERM)
        for app in apps:
            assert app.finish(8) == 5, f'{app}: {app.err[-5000:]}'
            assert not (left := app.left()), f'{app}: {left}'

def test_app_stopped_and_continued(tmp_path):
    "What happened meanwhile is looked at before anything is held to have taken too long."
    stack, apps = all_states('resume', tmp_path, ['idle', 'paused-job', 'paused-start'])
    with stack:
        for app in apps: app.heard('READY')
        for app in apps: os.kill(app.pid, signal.SIGSTOP)
        time.sleep(2.5)   # longer than all that is timed in these
        for app in apps: os.kill(app.pid, signal.SIGCONT)
        for app in apps:
            assert app.finish(10) == 0, f'{app}: {app.err}'
            assert not (left := app.left()), f'{app}: {left}'
            seen = app.heard('RESUMED')
            assert seen['worker_before'] == seen['worker_after'], f'{app}: {seen}'
            assert all(status == 'completed' for status, _ in seen['jobs']), f'{app}: {seen} {app.err}'
            assert seen['restarts'] == 0
