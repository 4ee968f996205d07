"""Nothing grows with what was done, and where the system gives no more, that is said and gets over.

FAULTS_RESOURCE_SCALE=10 does ten times as much.
"""
import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import subprocess
import threading
import time
import weakref

import psutil
import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.managers.events import EventStream, WorkerEvent
from cjm_fasthtml_workers.managers.jobs import BaseJob
from tests.faults.harness import Watched, run_case, snapshot

SCALE = float(os.environ.get('FAULTS_RESOURCE_SCALE', 1))
MIB = 2**20

def counts():
    "How many of each there are in this process and below it; which ones, may change. /dev/shm is looked at at the end."
    gc.collect()
    return {k: len(v) for k, v in snapshot().items() if k != 'shm'}

def no_more_than(before): return all(n <= before[k] for k, n in counts().items())

def alive(kind): return sum(isinstance(o, kind) for o in gc.get_objects())

def rss(pid=None): return psutil.Process(pid).memory_info().rss

async def settle(ctx, condition, what):
    "Like `until`, for conditions that are about garbage; collecting it takes a while, which is not our doing."
    deadline = time.monotonic() + 5
    while not (gc.collect() is not None and condition()):
        assert time.monotonic() < deadline, f'{what}: in vain'
        await asyncio.sleep(.05)

def untracked(ctx, **config):
    "A manager of whose jobs and events the case itself keeps nothing."
    m = ctx.manager(config=config)
    m.ctx = type('Nobody', (), {'track': lambda *args: None})()
    ctx.unusable.add(m)
    return m

async def work(ctx, m, jobs, cancels, crashes):
    "So many of each, mixed."
    for i in range(max(jobs, 1)):
        await ctx.start(m, 'echo')
        if i * cancels // jobs < (i + 1) * cancels // jobs:
            job = await ctx.do(m, 'time.sleep(60)')
            await ctx.running(m, job)
            assert await m.cancel_job(job.id)
        if i * crashes // jobs < (i + 1) * crashes // jobs:
            await ctx.ended(await ctx.do(m, 'os._exit(7)'), 'failed', 'worker_crashed')
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')

# ---- Descriptors, threads, processes

async def case_one_long_life(ctx, scale):
    m = ctx.manager(config={'restart_policy': 'always', 'cancel_grace_seconds': 0})
    await work(ctx, m, 10, 2, 2)
    before = counts()
    await work(ctx, m, int(200 * scale), int(10 * scale), int(10 * scale))
    await ctx.check()
    await settle(ctx, lambda: no_more_than(before), f'the counts {before}')

@pytest.mark.limit(120 * max(1, SCALE))
def test_jobs_cancels_and_crashes_leave_nothing(): run_case(case_one_long_life, SCALE, timeout=60 * max(1, SCALE))

async def case_many_lives(ctx, lives):
    for _ in range(lives):
        before = counts()
        m = ctx.manager()
        done, gone = await ctx.start(m, 'echo'), await ctx.do(m, 'os._exit(1)')
        for job in (done, gone): await ctx.ended(job)
        last = await ctx.start(m, 'sleeper')
        await ctx.running(m, last) if _ % 2 else None
        m.worker_config.cancel_grace_seconds = .05
        await m.aclose()
        assert last.status in ('failed', 'cancelled')
        await settle(ctx, lambda before=before: no_more_than(before), f'the counts {before}')

def test_lives_of_managers_leave_nothing(): run_case(case_many_lives, int(5 * SCALE), timeout=60 * max(1, SCALE))

# ---- Limits

def open_descriptors(): return [int(fd) for fd in os.listdir('/proc/self/fd')]

@contextlib.contextmanager
def few_descriptors(free):
    "No more than so many can be opened; those that are numbered above stay usable."
    fillers, soft, hard = [], *resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(open_descriptors()) + 1
    try:   # the limit is on numbers: fill all gaps below the highest one
        while (fd := os.dup(0)) < top: fillers.append(fd)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + free, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers: os.close(fd)

async def try_job(ctx, m):
    "A job that must end, one way or the other; the error if it could not even be accepted."
    try: job = await ctx.start(m, 'echo')
    except OSError as e: return str(e)
    with contextlib.suppress(TimeoutError): await m.wait_for_job(job.id, 5)
    assert job.status in ('completed', 'failed'), f'{job} never ended'
    assert job.status == 'completed' or job.fault == 'start_failed', job.error
    return job.error

async def case_descriptor_limit(ctx, frees):
    "Whatever the call that is the first to fail: an error that says it; with descriptors again, all is well."
    seen, ctx.stall_limit = set(), 60   # without descriptors nobody can tell a stall from a wait for the processor
    for free in frees:
        m = ctx.manager(config={'max_restart_attempts': 1})
        with few_descriptors(free): error = await try_job(ctx, m)
        if error: assert 'Too many open files' in error, f'{free} free: {error}'
        seen.add(bool(error))
        try: assert await try_job(ctx, m) is None
        except AssertionError as e: raise AssertionError(f'after {free} free descriptors ({error!r}): {e}') from e
        async with asyncio.timeout(10): await m.aclose()
        ctx.look()
    return {'seen': sorted(seen)}

@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='needs to see its descriptors')
@pytest.mark.parametrize('part', range(4))
def test_descriptor_limit(part):
    assert run_case(case_descriptor_limit, [*range(part, 24, 4), 60])['seen'] == [False, True]

async def case_descriptor_limit_restart(ctx, frees):
    "The same when the worker is to be replaced, and by BACKOFF."
    ctx.stall_limit = 60
    for free in frees:
        m = ctx.manager(config={'restart_policy': 'backoff', 'restart_backoff_base_seconds': .05,
                                'max_restart_attempts': 4})
        pid = await ctx.warm(m)
        with few_descriptors(free):
            os.kill(pid, signal.SIGKILL)
            await ctx.until(lambda m=m, pid=pid: m.worker_process is None or m.worker_process.pid != pid)
            await asyncio.sleep(.02)
        try: assert await try_job(ctx, m) is None
        except AssertionError as e: raise AssertionError(f'after {free} free descriptors: {e}') from e
        async with asyncio.timeout(10): await m.aclose()

@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='needs to see its descriptors')
def test_descriptor_limit_at_a_restart(): run_case(case_descriptor_limit_restart, [0, 2, 5, 8, 9, 10, 11, 12, 13])

async def case_fails_once(ctx, module, name):
    "What is needed when the process exists already cannot be had, once: it goes, and its jobs are told."
    import importlib
    m = ctx.manager(config={'max_restart_attempts': 1})
    owner, calls = importlib.import_module(module), []
    real = getattr(owner, name)
    def fail_once(*args, **kwargs):
        if module == 'subprocess' and args[0][0] != '/bin/sh': return real(*args, **kwargs)   # the process is let pass
        calls.append(args)
        if len(calls) == 1: raise OSError(24, 'Too many open files')
        return real(*args, **kwargs)
    setattr(owner, name, fail_once)
    error = await try_job(ctx, m)
    assert calls and (error is None or 'Too many open files' in error), error
    assert await try_job(ctx, m) is None
    assert await try_job(ctx, m) is None
    kinds = sorted(os.path.basename(p.cmdline()[0])[:6] for p in psutil.Process().children())
    assert kinds == ['python', 'sh'], f'the worker and its guard are there: {kinds}'

@pytest.mark.skipif(not hasattr(os, 'pidfd_open'), reason='another way to watch a process')
@pytest.mark.parametrize('name', ['os.pidfd_open', 'subprocess.Popen'])
def test_no_descriptor_when_the_process_is_there(name): run_case(case_fails_once, *name.split('.'), timeout=20)

def no_more(*args, **kwargs): raise BlockingIOError(11, 'Resource temporarily unavailable')

async def case_no_processes(ctx):
    "As `fork` fails at a limit of processes (which root does not have, so it is played)."
    m = ctx.manager(config={'max_restart_attempts': 2})
    real, subprocess._fork_exec = subprocess._fork_exec, no_more
    job = await ctx.ended(await ctx.start(m, 'echo'), 'failed', 'start_failed')
    assert 'Resource temporarily unavailable' in job.error, job.error
    subprocess._fork_exec = real
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')

def test_no_more_processes(): run_case(case_no_processes)

@contextlib.contextmanager
def no_threads():
    "As at a limit of threads."
    real = threading.Thread.start
    def start(self): raise RuntimeError("can't start new thread")
    threading.Thread.start = start
    try: yield
    finally: threading.Thread.start = real

async def case_no_thread_at_first(ctx):
    m = ctx.manager()
    with no_threads(), pytest.raises(RuntimeError, match='thread'): await ctx.start(m, 'echo')
    assert m.get_all_jobs() == []
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')

def test_no_thread_for_the_first_job(): run_case(case_no_thread_at_first, timeout=15)

async def case_no_thread_at_first_then_close(ctx, way):
    m = ctx.manager()
    with no_threads(), pytest.raises(RuntimeError, match='thread'): await ctx.start(m, 'echo')
    async with asyncio.timeout(10): await (asyncio.to_thread(m.shutdown) if way == 'shutdown' else m.aclose())
    await asyncio.get_running_loop().shutdown_default_executor()   # its thread is not ours

@pytest.mark.parametrize('way', ['shutdown', 'aclose'])
def test_no_thread_and_shutdown(way): run_case(case_no_thread_at_first_then_close, way, timeout=15)

class Hooked(Watched):
    "Says whose hook was called."
    called: list[str] = []
    def _on_job_finished(self, job_id): self.called.append(job_id)

async def case_no_thread_for_hooks(ctx):
    "A hook that cannot be run is logged or run later, and the job and its worker are none the worse."
    m = ctx.manager(cls=Hooked)
    await ctx.warm(m)
    await ctx.until(lambda: threading.active_count() == 2, 'the thread of the hooks to go')
    with no_threads():
        for _ in range(20): await ctx.ended(await ctx.start(m, 'echo'), 'completed', timeout=3)
    last = await ctx.ended(await ctx.start(m, 'echo'), 'completed', timeout=3)
    await ctx.until(lambda: last.id in m.called, 'the hook')

def test_no_thread_for_a_hook():
    run_case(case_no_thread_for_hooks, timeout=20, allow="new thread|LOG cjm.* ERROR")

async def case_no_thread_at_the_end(ctx):
    "From Python 3.12 on no thread can be started once the interpreter is on its way out, as in an exit handler."
    m = ctx.manager(cls=Hooked, config={'cancel_grace_seconds': .1})
    await ctx.warm(m)
    jobs = [await ctx.start(m, 'sleeper') for _ in range(3)]
    await ctx.running(m, jobs[0])
    await ctx.until(lambda: threading.active_count() == 2, 'the thread of the hooks to go')
    with no_threads():
        async with asyncio.timeout(5): await m.aclose()
    assert [(j.status, j.fault) for j in jobs] == [('failed', 'interrupted'), ('cancelled', None), ('cancelled', None)]

def test_no_thread_for_hooks_at_the_end():
    run_case(case_no_thread_at_the_end, timeout=15, allow="new thread|LOG cjm.* ERROR")

# ---- Memory

async def case_finished_jobs(ctx, n, timeout_seconds):
    "Only `max_finished_jobs` are kept, whatever else once knew of the others."
    m = untracked(ctx, max_finished_jobs=100, job_timeout_seconds=timeout_seconds, max_workers=2)
    await ctx.streams.pop(m).aclose()
    long = await m.start_job('sleeper')   # its timer is the next to ring, all the time
    await ctx.running(m, long)
    for _ in range(n // 100):
        jobs = [await m.start_job('echo', nonce=None, text='x' * 10_000) for _ in range(100)]
        await m.wait_for_job(jobs[-1].id, 20)
    del jobs
    await settle(ctx, lambda: alive(BaseJob) <= 200, f'{n} jobs to be forgotten')
    assert await m.cancel_job(long.id)

@pytest.mark.parametrize('timeout_seconds', [None, 3600])
def test_finished_jobs_are_forgotten(timeout_seconds): run_case(case_finished_jobs, int(3000 * SCALE), timeout_seconds)

async def case_queue_emptied(ctx):
    "Jobs that were cancelled while they waited are forgotten too, with their parameters."
    m = untracked(ctx, max_finished_jobs=10)
    await ctx.streams.pop(m).aclose()
    first = await m.start_job('sleeper', nonce=None, seconds=60)
    await ctx.running(m, first)
    before = rss()
    for _ in range(5):
        jobs = []
        for _i in range(30):
            jobs.append(await m.start_job('echo', nonce=None, data=bytes(MIB)))
            await asyncio.sleep(0)
        for job in jobs: assert await m.cancel_job(job.id)
    del jobs, job
    await settle(ctx, lambda: alive(BaseJob) <= 100, 'the cancelled jobs to be forgotten')
    assert rss() - before < 60 * MIB, f'{(rss() - before) / MIB:.0f} MiB'
    assert await m.cancel_job(first.id)

def test_cancelled_jobs_are_forgotten(): run_case(case_queue_emptied)

async def case_chunks(ctx, n):
    "One endless stream that somebody reads: the replay is bounded, in this process and in the worker."
    m = untracked(ctx)
    await ctx.streams.pop(m).aclose()
    job = await m.start_job('streamer', n=n, size=100, nonce=None)
    seen, marks = 0, []
    async for chunk in m.stream_job(job.id):
        seen += 1 if not (chunk.metadata or {}).get('dropped') else chunk.metadata['dropped']
        if seen % (n // 4) == 0 or not marks: marks.append((rss(), rss(m.worker_process.pid)))
    assert seen == n and job.status == 'completed', (seen, job.error)
    assert len(marks) >= 2
    mine, its = (max(m[i] for m in marks) - marks[0][i] for i in (0, 1))
    assert mine < 60 * MIB and its < 60 * MIB, (mine / MIB, its / MIB)
    return {'MiB': [mine / MIB, its / MIB]}

@pytest.mark.limit(120 * max(1, SCALE))
def test_many_chunks(): print(run_case(case_chunks, int(100_000 * SCALE), timeout=60 * max(1, SCALE)))

async def case_output(ctx, n):
    "What jobs print is bounded for all of them together, not for each only."
    m = ctx.manager()
    await ctx.streams.pop(m).aclose()
    logging.getLogger('cjm_fasthtml_workers').setLevel(logging.WARNING)
    code = 'line = "x" * 1900\nfor _ in range(1000): print(line)'
    async def some(count):
        for _ in range(count): await ctx.ended(await ctx.do(m, code), 'completed', timeout=20)
    await some(5)
    before = rss()
    await some(n)
    grown = (rss() - before) / MIB
    assert grown < 64, f'{n} jobs that print 2 MB each: {grown:.0f} MiB more; at the default of 1000 kept jobs, ' \
                       f'{grown / n * 1000:.0f} MiB'
    return {'MiB': grown}

def test_output_of_many_jobs(): run_case(case_output, 60)

async def case_left_streams(ctx):
    "A stream of events that was left in the middle, as one does, is forgotten."
    m = untracked(ctx)
    await ctx.streams.pop(m).aclose()
    async def listen_once():
        events = m.events()
        job = await m.start_job('echo')
        async for _ in events: break
        await m.wait_for_job(job.id)
    for _ in range(30): await listen_once()
    await settle(ctx, lambda: alive(EventStream) <= 5, '30 streams to be forgotten')

def test_event_streams_that_were_left(): run_case(case_left_streams)

async def case_left_readers(ctx):
    "So is each reader that went away while a job says nothing."
    m = untracked(ctx)
    await ctx.streams.pop(m).aclose()
    job = await m.start_job('sleeper')
    await ctx.running(m, job)
    before = alive(asyncio.Future)
    async def read():
        async for _ in m.stream_job(job.id): pass
    for _ in range(100):
        for what in (read(), m.wait_for_job(job.id)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(.001): await what
    await settle(ctx, lambda: alive(asyncio.Future) <= before + 10, '200 readers to be forgotten')
    assert await m.cancel_job(job.id)

def test_readers_that_went_away(): run_case(case_left_readers)

async def case_unread_events(ctx, n):
    "A stream of events that somebody holds and never reads does not keep everything."
    m = untracked(ctx)
    unread = ctx.streams.pop(m)
    for _ in range(n // 100):
        jobs = [await m.start_job('echo') for _ in range(100)]
        await m.wait_for_job(jobs[-1].id, 20)
    kept = alive(WorkerEvent)
    await unread.aclose()
    assert kept <= 20_100, f'{kept} events of {n} jobs'

def test_event_stream_that_nobody_reads(): run_case(case_unread_events, 8000)

# ---- The manager itself

async def case_collected(ctx, used):
    "After the end nothing of ours holds it: no thread, no exit handler, no timer."
    ref = weakref.ref(m := Watched({'echo': 'tests.faults.plugins:Echo', 'do': 'tests.faults.plugins:Do'}))
    m.ctx = type('Nobody', (), {'track': lambda *args: None})()
    if used:
        for code in ('pass', 'raise ValueError("no")', 'os._exit(1)', 'pass'):
            await m.wait_for_job((await m.start_job('do', code=code)).id, 10)
        job = await m.start_job('do', job_options=JobOptions(timeout_seconds=900), code='time.sleep(.2)')
        with pytest.raises(TimeoutError): await m.wait_for_job(job.id, .01)
        async for _ in m.stream_job(m.get_all_jobs()[-1].id): pass
    await m.aclose()
    del m
    await settle(ctx, lambda: ref() is None, 'the manager to be collected')

@pytest.mark.parametrize('used', [False, True])
def test_manager_is_collected(used): run_case(case_collected, used)
