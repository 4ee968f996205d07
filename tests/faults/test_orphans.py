"""The app gets a SIGKILL, at any moment and whatever its worker does: all that it started is gone within 2 seconds.

Children of a plugin that moved to a session of their own (`setsid`) are theirs to look after, and not looked for here.
FAULTS_ORPHAN_ROUNDS=50 and FAULTS_ORPHAN_RUNS=200 make the campaigns longer, FAULTS_SEED=1234 repeats them.
"""
import contextlib
import os
import random
import signal
import time

import pytest

from tests.faults.life import STATES, Life

ROUNDS = int(os.environ.get('FAULTS_ORPHAN_ROUNDS', 2))
RUNS = int(os.environ.get('FAULTS_ORPHAN_RUNS', 16))
GONE_SECONDS = 2.0

@pytest.mark.parametrize('kill', [os.kill, os.killpg])
def test_app_killed_in_every_state(kill, tmp_path):
    states = [s for s in STATES if s != 'unstarted']
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(Life(s, 'wait', tmp_path)) for s in states]
        for app in apps: app.heard('READY')
        for app in apps:
            kill(app.pid, signal.SIGKILL)
            left = app.left(GONE_SECONDS)   # one after the other: each has its two seconds
            assert not left, f'{app}: {left}'

FIVE = 'idle', 'busy', 'stuck', 'starting', 'parent'   # 'stuck': in C, holding the GIL; 'parent': with grandchildren

@pytest.mark.limit(60 + ROUNDS * 10)
def test_app_killed_in_five_states(tmp_path):
    "Again and again, a random moment after the state was reached."
    seed, looked = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6)), 0
    print('FAULTS_SEED', seed)
    rng = random.Random(seed)
    for turn in range(ROUNDS):
        (folder := tmp_path/f'{turn}').mkdir()
        with contextlib.ExitStack() as stack:
            apps = [stack.enter_context(Life(s, 'wait', folder)) for s in FIVE]
            for app in apps: app.heard('READY')
            for app in rng.sample(apps, len(apps)):
                time.sleep(rng.uniform(0, .02))
                looked += len(app.family()) > 1
                rng.choice([os.kill, os.killpg])(app.pid, signal.SIGKILL)
                assert not (left := app.left(GONE_SECONDS)), f'{app}, round {turn}, seed {seed}: {left}'
    assert looked == 5 * ROUNDS, 'an app without a worker'

def test_app_killed_while_it_shuts_down(tmp_path):
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(Life(s, 'wait', tmp_path)) for s in ('busy', 'stubborn', 'parent', 'streaming')]
        for app in apps: app.heard('READY')
        for app in apps: os.kill(app.pid, signal.SIGINT)
        for app in apps:
            time.sleep(.05)
            app.popen.kill()
            left = app.left(GONE_SECONDS)
            assert not left, f'{app}: {left}'

@pytest.mark.limit(60 + RUNS * 2)
def test_app_killed_at_any_moment(tmp_path):
    "From its first line on: also between the start of a process and the first word to it."
    seed = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
    print('FAULTS_SEED', seed)
    rng = random.Random(seed)
    for turn in range(0, RUNS, 4):
        with contextlib.ExitStack() as stack:
            apps = []
            for i in range(4):
                (folder := tmp_path/f'{turn}.{i}').mkdir()
                state = rng.choice(['idle', 'parent', 'starting', 'busy', 'backoff', 'reloading'])
                apps.append(stack.enter_context(Life(state, 'wait', folder)))
            start, moments = time.monotonic(), sorted(rng.uniform(.1, 1.6) for _ in apps)
            for app, moment in zip(apps, moments):
                time.sleep(max(0, start + moment - time.monotonic()))
                os.kill(app.pid, signal.SIGKILL)
            for app, moment in zip(apps, moments):
                assert not (left := app.left(GONE_SECONDS)), f'{app} killed after {moment:.3f} s, seed {seed}: {left}'
