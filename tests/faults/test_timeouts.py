"A job that runs too long: it ends in time whatever it does, and its timeout never meets another job."
import asyncio
import os
import random
import time

import pytest

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from tests.faults.harness import run_case

RACES = int(os.environ.get('FAULTS_RACES', 60))   # 1000 for a campaign
PROMPT = {'cancel_grace_seconds': .1, 'shutdown_timeout_seconds': .2}

WAYS = {
    'sleep': 'time.sleep(60)',
    'loop': 'while True: pass',
    'gil': 'import ctypes\nctypes.PyDLL(None).sleep(60)',
    'deaf': 'import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)',
    'returns': 'import signal\nsignal.signal(signal.SIGTERM, lambda *_: got.append(1))\ngot = []\n'
               'while not got: time.sleep(.002)',
    'stuck_stream': 'def stream():\n  yield "one"\n  time.sleep(60)',
    'stream': 'def stream():\n  while True:\n    yield "x"\n    time.sleep(.002)',
    'fast_stream': 'def stream():\n  while True: yield "x"',
    'pickling': 'class Slow:\n  def __reduce__(self): time.sleep(60)\nresult = {"nonce": nonce, "slow": Slow()}',
    'exception': 'class Slow(Exception):\n  def __str__(self): time.sleep(60)\nraise Slow()',
    'prints': 'while True: print("x" * 1000)',
    'threads': 'import threading\nthreading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)',
    'children': 'import subprocess\nsubprocess.run(["sleep", "60"])',
}

async def case_ways(ctx, ways):
    streams = 'stream' in ways[0]   # those that do not stream are not asked, so there is no grace for them
    grace = 20 if ways[0] == 'stream' else .1
    m = ctx.manager(config={**PROMPT, 'cancel_grace_seconds': grace}, supports_streaming=streams)
    await ctx.warm(m)
    for way in ways:
        pid = m.worker_process.pid
        job = await ctx.do(m, WAYS[way], JobOptions(timeout_seconds=.15, max_retries=2))
        behind = [await ctx.start(m, 'echo', n=i) for i in range(2)]
        await ctx.ended(job, 'failed', 'timed_out')
        assert job.attempt == 1 and job.result is None and '\n' not in job.error, way
        for b in behind: await ctx.ended(b, 'completed')
        lived_on = behind[0].worker_pid == pid
        assert lived_on == (way in ('stream', 'fast_stream')), way
        if 'stream' in way: assert [c async for c in m.stream_job(job.id)], way   # what came before stays readable
        await ctx.check()
        await ctx.warm(m)

@pytest.mark.parametrize('ways', [
    ['sleep', 'loop', 'gil', 'deaf', 'returns'], ['pickling', 'exception', 'prints', 'threads', 'children'],
    ['stream', 'fast_stream'], ['stuck_stream']], ids=lambda ways: ways[0])
def test_ways_to_take_too_long(ways): run_case(case_ways, ways)

async def case_what_counts(ctx):
    "Waiting, start-up and model load do not count; the config's limit is for jobs without one of their own."
    slow = {'plugins': {'slow': 'tests.faults.plugins:Do'}, 'configs': {'slow': {'init': 'time.sleep(.8)'}}}
    config = {**PROMPT, 'job_timeout_seconds': .5, 'restart_backoff_base_seconds': .05}
    async def waiting() -> None:
        m = ctx.manager(**slow, config=config)
        jobs = [await ctx.start(m, 'slow', code='time.sleep(.05)') for _ in range(12)]   # the last waits longer
        for job in jobs: await ctx.ended(job, 'completed')
    async def own() -> None:
        m = ctx.manager(config=config)
        longer = await ctx.start(m, 'sleeper', JobOptions(timeout_seconds=30), seconds=.7)
        too_long = await ctx.start(m, 'sleeper')
        await ctx.ended(longer, 'completed')
        await ctx.ended(too_long, 'failed', 'timed_out')
        assert too_long.worker_pid == longer.worker_pid
    async def attempts() -> None:
        m = ctx.manager(config=config)
        job = await ctx.do(m, 'time.sleep(.3)\nraise ValueError', JobOptions(max_retries=1))   # each has all of it
        await ctx.ended(job, 'failed', 'plugin_error')
        assert job.attempt == 2
    await asyncio.gather(waiting(), own(), attempts())

def test_what_counts(): run_case(case_what_counts)

async def case_load(ctx):
    "A model that is not loaded in time is a failed start, not a timeout; only its own jobs have it."
    m = ctx.manager(plugins={'slow': 'tests.faults.plugins:Do'}, configs={'slow': {'init': 'time.sleep(60)'}},
                    config={**PROMPT, 'worker_start_timeout_seconds': 3})   # a start takes a tenth of it
    await ctx.warm(m)
    job = await ctx.start(m, 'slow', JobOptions(timeout_seconds=.1, max_retries=1), code='')
    behind = await ctx.start(m, 'echo')
    await ctx.ended(job, 'failed', 'start_failed')
    assert 'slow' in job.error and job.attempt == 1
    await ctx.ended(behind, 'completed')

def test_a_model_that_loads_for_ever(): run_case(case_load)

async def case_race(ctx, n, plugin):
    "It ends within 5 ms of its timeout, before or after."
    m = ctx.manager(config={'cancel_grace_seconds': 20, 'shutdown_timeout_seconds': .3, 'max_finished_jobs': 20})
    await ctx.warm(m)
    await ctx.ended(await ctx.start(m, plugin, seconds=0), 'completed')
    rng, late, counts = random.Random(plugin), .0, {'completed': 0, 'timed_out': 0}
    for i in range(n):
        seconds = max(.001, .02 + late + rng.uniform(-.004, .004))
        job = await m.start_job(plugin, seconds=seconds, nonce=f'race-{i}', job_options=JobOptions(timeout_seconds=.02))
        behind = await m.start_job('echo', nonce=f'behind-{i}')
        for j in (job, behind): await m.wait_for_job(j.id, 10)
        assert behind.status == 'completed', behind.error
        how = job.fault or job.status
        assert how in counts, f'{job} {job.error}'
        counts[how] += 1
        late += .001 if how == 'completed' else -.001
        if i % 50 == 49:
            await ctx.check()
            ctx.jobs.clear()
    assert min(counts.values()) > n * .1, f'no race: {counts}'
    if plugin == 'polite': assert not m.restart_count
    return counts

@pytest.mark.limit(600)
@pytest.mark.parametrize('plugin', ['sleeper', 'polite'])
def test_race_with_the_end(plugin): run_case(case_race, RACES // 2, plugin, timeout=30 + RACES * .4)

async def case_extremes(ctx):
    for field in ('timeout_seconds', 'job_timeout_seconds'):
        make = JobOptions if field == 'timeout_seconds' else WorkerConfig
        for bad in (-1, -1e-9, float('nan'), float('inf'), -float('inf'), True, '1', [1], 1j, 10**400, -10**400):
            with pytest.raises((ValueError, TypeError), match=field): make(**{field: bad})
    m = ctx.manager(config=PROMPT)
    await ctx.warm(m)
    for small in (0, 0.0, 1e-300, 1e-6):
        job = await ctx.start(m, 'sleeper', JobOptions(timeout_seconds=small))
        await ctx.ended(job, 'failed', 'timed_out')
    for huge in (1e9, 1e300, 10**18, 1.7e308):
        job = await ctx.start(m, 'echo', JobOptions(timeout_seconds=huge))
        await ctx.ended(job, 'completed')

def test_extremes(): run_case(case_extremes)

async def case_cancelled_meanwhile(ctx):
    "A timeout in the grace of a cancel changes nothing, nor a cancel in the grace of a timeout."
    m = ctx.manager(config={'cancel_grace_seconds': .6, 'shutdown_timeout_seconds': .2})
    await ctx.warm(m)
    stuck = 'def stream():\n  yield "x"\n  time.sleep(60)'
    job = await ctx.do(m, stuck, JobOptions(timeout_seconds=.4))
    await ctx.until(lambda: m._book.get(job.id).cooperates, 'the stream')
    assert await m.cancel_job(job.id) is True and (job.status, job.fault) == ('cancelled', None)
    await ctx.warm(m)
    job, behind = await ctx.do(m, stuck, JobOptions(timeout_seconds=.05)), await ctx.start(m, 'echo')
    await ctx.ended(job, 'failed', 'timed_out')
    assert await m.cancel_job(job.id) is False
    assert behind.status == 'pending'             # behind the one that has its grace
    assert await m.cancel_job(behind.id) is True
    job = await ctx.start(m, 'echo')
    await ctx.ended(job, 'completed')

def test_with_a_cancel(): run_case(case_cancelled_meanwhile)

async def case_cleared(ctx, kept):
    "A job that timed out politely is no more in the book when it obeys."
    m = ctx.manager(config={'cancel_grace_seconds': 20, 'max_finished_jobs': kept})
    await m.start()
    pid = m.worker_process.pid
    job = await m.start_job('streamer', n=None, pause=.05, job_options=JobOptions(timeout_seconds=.2))
    behind = await m.start_job('pid')
    await m.wait_for_job(job.id, 10)
    if kept: m.clear_completed_jobs()
    begun = time.monotonic()
    await ctx.until(lambda: behind.status == 'completed', 'the next job')
    assert time.monotonic() - begun < 10 and behind.worker_pid == pid and not m.restart_count
    ctx.unusable.add(m)

@pytest.mark.parametrize('kept', [0, 5])
def test_a_polite_job_that_was_cleared(kept): run_case(case_cleared, kept)

async def case_many(ctx):
    "Jobs with timeouts, one after the other: nobody gets the timeout of another."
    m = ctx.manager(config=PROMPT)
    pid = await ctx.warm(m)
    jobs = [await ctx.start(m, 'echo', JobOptions(timeout_seconds=.5)) for _ in range(150)]
    for job in jobs: await ctx.ended(job, 'completed')
    slow = [await ctx.start(m, 'sleeper', JobOptions(timeout_seconds=2), seconds=.06) for _ in range(10)]
    for job in slow: await ctx.ended(job, 'completed')
    assert m.worker_process.pid == pid

def test_many_in_a_row(): run_case(case_many)
