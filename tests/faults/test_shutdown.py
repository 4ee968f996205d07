"However an app ends, its worker goes with it, and nothing waits for ever."
import contextlib
import json
import os
import signal

import pytest

from tests.faults.harness import strange_lines
from tests.faults.life import LOOKS, STATES, Life

ASYNC_CANCELLED = r'^Traceback|^  |^    |^\s*[\^~]+|^KeyboardInterrupt|^asyncio\.|^LookupError|^During handling|^The above|^$'

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
