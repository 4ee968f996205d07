"The harness itself: a good case passes, and each thing that must hold is really looked at."
import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.harness import run_case


async def case_good(ctx):
    m = ctx.manager()
    job = await ctx.start(m, 'echo', a=1)
    await ctx.ended(job, 'completed')
    assert job.result['a'] == 1
    await ctx.ended(await ctx.start(m, 'streamer', n=3), 'completed')
    await ctx.ended(await ctx.do(m, 'raise ValueError("no")'), 'failed', 'plugin_error')
    return {'pid': m.worker_process.pid}

def test_a_good_case(): assert run_case(case_good)['pid']

async def case_bad(ctx, what):
    if what != 'I8': m = ctx.manager(config={'cancel_grace_seconds': 0})
    if what == 'I1': await ctx.start(m, 'sleeper', seconds=30)
    if what == 'I2':
        job = await ctx.ended(await ctx.start(m, 'echo'), 'completed')
        await ctx.check()
        job.status = 'failed'
    if what == 'I3': await ctx.ended(await ctx.do(m, 'result = {"nonce": "of another"}'))
    if what == 'I4': m.extract_job_result = lambda job, data: {'nonce': data['nonce']}
    if what == 'I5': time.sleep(.5)
    if what == 'I6': subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])
    if what == 'I6 descriptor': os.open('/dev/null', os.O_RDONLY)
    if what == 'I6 zombie': subprocess.Popen(['true'])._child_created = False   # nobody will ask how it ended
    if what == 'I6 shm': Path(f'/dev/shm/fault-{os.getppid()}').touch()
    if what == 'I6t': threading.Thread(target=time.sleep, args=(4,), daemon=True, name='left-over').start()
    if what == 'I7': ctx.tasks.append(('sleeper', asyncio.ensure_future(asyncio.Event().wait())))
    if what == 'I8': os.write(2, b'Exception ignored in: something\n')

KINDS = ['I1', 'I2', 'I3', 'I4', 'I5', 'I6', 'I6t', 'I6 descriptor', 'I6 zombie', 'I6 shm', 'I7', 'I8']

@pytest.mark.parametrize('what', KINDS)
def test_a_bad_case(what, request):
    request.addfinalizer(lambda: Path(f'/dev/shm/fault-{os.getpid()}').unlink(missing_ok=True))
    env = {'FAULTS_END_SECONDS': '1', 'FAULTS_SETTLE_SECONDS': '.5'}
    with pytest.raises(AssertionError, match=what[:2]): run_case(case_bad, what, env=env)

def case_hangs(ctx): threading.Event().wait()

def test_a_case_that_hangs_shows_its_stacks():
    with pytest.raises(AssertionError, match='case_hangs'): run_case(case_hangs, timeout=1)
