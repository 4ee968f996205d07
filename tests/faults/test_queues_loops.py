"Backlog, full pipes, hooks and broadcasters that misbehave, many loops and threads, forks, scripts of every shape."
import asyncio
import gc
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.errors import JobQueueFull, ManagerClosed
from cjm_fasthtml_workers.managers.events import EventHub, EventStream, Wakeups
from tests.faults.harness import App, Watched, run_case, strange_lines

QUICK = {'shutdown_timeout_seconds': .3, 'cancel_grace_seconds': .2}

# ---- The backlog

async def case_backlog_limit(ctx, started):
    m = ctx.manager(config={'request_queue_size': 5, **QUICK})
    if started: await ctx.warm(m, 'echo')
    running = await ctx.start(m, 'sleeper')
    if started: await ctx.running(m, running)
    accepted, refused, n = [], 0, len(m.get_all_jobs())
    begun = time.perf_counter()
    for i in range(1000):
        try: accepted.append(await ctx.start(m, 'echo', i=i))
        except JobQueueFull: refused += 1
    assert time.perf_counter() - begun < 5
    assert len(accepted) == (5 if started else 4) and refused == 1000 - len(accepted), (len(accepted), refused)
    assert len(m.get_all_jobs()) == n + len(accepted), 'refused jobs were left behind'
    assert await m.cancel_job(accepted.pop(2).id) is True   # its place is free again
    accepted.append(await ctx.start(m, 'echo', i=1000))
    try: await ctx.start(m, 'echo')
    except JobQueueFull: pass
    else: raise AssertionError('one too many')
    if not started: await ctx.running(m, running)
    assert await m.cancel_job(running.id) is True
    for job in accepted: await ctx.ended(job, 'completed')
    await ctx.check()

@pytest.mark.parametrize('started', [True, False])
def test_a_backlog_with_a_limit(started): run_case(case_backlog_limit, started)

async def case_thousand(ctx):
    m = ctx.manager(config={'max_finished_jobs': None})
    jobs = await asyncio.gather(*(ctx.start(m, 'echo', i=i) for i in range(1000)))
    for i, job in enumerate(jobs):
        await ctx.ended(job, 'completed')
        assert job.result['i'] == i
    begun = [j.started_at for j in jobs]
    assert begun == sorted(begun), 'not in the order of start_job'
    m.get_job_result(jobs[0].id)['data']['i'] = 5   # what a caller does with one result touches no other
    blocker = await ctx.start(m, 'sleeper')
    await ctx.running(m, blocker)
    priorities = random.Random(1).choices(range(-3, 4), k=100)
    mixed = [(p, await ctx.start(m, 'echo', JobOptions(priority=p))) for p in priorities]
    assert await m.cancel_job(blocker.id) is True
    for _, job in mixed: await ctx.ended(job, 'completed')
    order = [p for p, j in sorted(mixed, key=lambda pair: pair[1].started_at)]
    assert order == sorted(order, reverse=True)
    for p in set(order):
        same = [j.started_at for q, j in mixed if q == p]
        assert same == sorted(same)

def test_a_thousand_submits(): run_case(case_thousand)

# ---- Full pipes

def stop_for(seconds, pid):
    "A process of its own, that stops `pid` and lets it go on."
    return subprocess.Popen(['/bin/sh', '-c', f'kill -STOP {pid}; sleep {seconds}; kill -CONT {pid}'])

async def case_worker_stopped(ctx):
    m = ctx.manager(config={'unload_timeout_seconds': .1, 'reload_timeout_seconds': .1, **QUICK})
    pid = await ctx.warm(m, 'echo', 'pid')
    os.kill(pid, signal.SIGSTOP)
    jobs = [await ctx.start(m, 'echo', big=bytes([i]) * (10 * 2**20)) for i in range(5)]
    assert jobs[0].status == 'running' and jobs[1].status == 'pending'
    assert await m.get_worker_state() is None
    for i in range(5): assert await m.reload_plugin('pid', {'i': i, 'big': 'x' * 2**20}) is False
    assert await m.unload_plugin('echo') is False
    assert m.worker_process.pid == pid, 'a stopped worker is not a dead one'
    assert await m.cancel_job(jobs.pop(2).id) is True
    os.kill(pid, signal.SIGCONT)
    for job in jobs: await ctx.ended(job, 'completed')
    assert [j.result['big'][0] for j in jobs] == [0, 1, 3, 4] and all(len(j.result['big']) == 10 * 2**20 for j in jobs)
    await ctx.until(lambda: m.worker_process.state == 'ready', 'ready')
    m.worker_config.unload_timeout_seconds = 5
    state = await m.get_worker_state()   # and not the late answer to an older question
    assert state['pid'] == pid, state
    job = await ctx.ended(await ctx.start(m, 'pid'), 'completed')
    assert job.result['pid'] == pid
    await ctx.check()

    os.kill(pid, signal.SIGSTOP)   # cancelled while its request is half written
    job = await ctx.start(m, 'echo', big=b'x' * (50 * 2**20))
    waiting = [await ctx.start(m, 'echo', i=i) for i in range(3)]
    async with asyncio.timeout(8): assert await m.cancel_job(job.id) is True
    for w in waiting: await ctx.ended(w, 'completed')
    assert m.worker_process.pid != pid
    os.kill(m.worker_process.pid, signal.SIGSTOP)   # and so it is when the manager is closed
    ctx.unusable.add(m)

@pytest.mark.skipif(sys.platform == 'win32', reason='no SIGSTOP')
def test_a_stopped_worker_with_full_pipes(): run_case(case_worker_stopped)

async def case_app_stopped(ctx, both):
    m = ctx.manager(config={'max_finished_jobs': None})
    pid = await ctx.warm(m, 'echo')
    stream = await ctx.start(m, 'streamer', n=20_000, size=50)
    waiting = [await ctx.start(m, 'echo', i=i, big=b'x' * 2**20) for i in range(10)]
    chunks = m.stream_job(stream.id)
    first = [await anext(chunks) for _ in range(10)]
    stopper = stop_for(.7, os.getpid())
    if both: other = stop_for(.4, pid)
    rest = [c async for c in chunks]
    await ctx.ended(stream, 'completed')
    text = [c for c in first + rest if not (c.metadata or {}).get('dropped')]
    numbers = [int(c.chunk.strip('.')) for c in text]
    assert numbers == list(range(20_000)), (len(numbers), numbers[:3], numbers[-3:])
    for w in waiting: await ctx.ended(w, 'completed')
    assert m.worker_process.pid == pid, 'a false death'
    await ctx.until(lambda: stopper.poll() is not None, 'the stopper')
    if both: await ctx.until(lambda: other.poll() is not None, 'the other stopper')
    ctx.worst_stall = 0.0   # no wonder

@pytest.mark.parametrize('both', [False, True])
def test_a_stopped_app_under_a_flood(both): run_case(case_app_stopped, both)

async def case_slow_readers(ctx):
    m = ctx.manager()
    await ctx.warm(m, 'echo', 'streamer')
    job = await ctx.start(m, 'streamer', n=5000, size=100)
    slow = m.stream_job(job.id)
    await anext(slow)   # reads one and then no more
    unread = m.events()
    readers = [asyncio.create_task(read_all(m, job.id)) for _ in range(20)]
    gone = [asyncio.create_task(read_all(m, job.id)) for _ in range(20)]
    await asyncio.sleep(0)
    for t in gone: t.cancel()
    await ctx.ended(job, 'completed')
    for t in readers: assert await t == 5000
    late = [c async for c in m.stream_job(job.id)]
    assert len(late) == 5000
    assert sum([1 async for _ in slow]) == 4999
    await unread.aclose()
    await asyncio.gather(*gone, return_exceptions=True)

async def read_all(m, job_id): return len([c async for c in m.stream_job(job_id)])

def test_slow_absent_and_many_readers(): run_case(case_slow_readers)

async def case_readers_that_leave(ctx):
    m = ctx.manager(config=QUICK)
    await ctx.warm(m)
    job = await ctx.start(m, 'sleeper')
    await ctx.running(m, job)
    async def drain(events):
        async for _ in events: pass
    async def look(read):
        try:
            async with asyncio.timeout(.01): await read()
        except TimeoutError: pass
    async def count():
        await asyncio.sleep(.02)
        gc.collect()
        return sum(isinstance(o, (asyncio.Future, EventStream)) for o in gc.get_objects())
    reads = [lambda: read_all(m, job.id), lambda: m.wait_for_job(job.id), lambda: m.wait_for_job(job.id, 60),
             lambda: anext(m.events(job.id)),
             lambda: drain(m.events())]
    for read in reads:
        before = await count()
        for _ in range(5): await asyncio.gather(*(look(read) for _ in range(40)))
        more = await count() - before
        assert more < 40, f'{more} futures of 200 readers that left are still held by {reads.index(read)}'
    assert await m.cancel_job(job.id) is True

def test_readers_that_leave_are_forgotten(): run_case(case_readers_that_leave)

async def case_caller_leaves(ctx):
    class Slow(Watched):
        async def _validate_resources(self, plugin_id, plugin_config): await asyncio.sleep(.002)
    m = ctx.manager(cls=Slow)
    await ctx.warm(m)
    for i in range(60):
        n = len(m.get_all_jobs())
        task = asyncio.create_task(ctx.start(m, 'echo', i=i))
        await asyncio.sleep(.0001 * i)
        task.cancel()
        result, = await asyncio.gather(task, return_exceptions=True)
        new = m.get_all_jobs()[n:]
        assert len(new) <= 1
        for job in new: await m.wait_for_job(job.id, 5)
        assert isinstance(result, asyncio.CancelledError) or result in new

def test_a_caller_that_goes_away_leaves_no_half_job(): run_case(case_caller_leaves)

# ---- Hooks

class Hooked(Watched):
    "Notes whom it was told of, then does what it is to do."
    act = staticmethod(lambda m, job_id: None)
    is_cleared = False
    def told(self): return self.__dict__.setdefault('_told', {'completed': [], 'finished': []})
    def _on_job_completed(self, job_id):
        assert self.is_cleared or self.get_job_result(job_id)['status'] == 'success'
        self.told()['completed'].append((job_id, threading.get_ident()))
        self.act(self, job_id)
    def _on_job_finished(self, job_id):
        assert self.is_cleared or self.get_job_result(job_id) is not None
        self.told()['finished'].append((job_id, threading.get_ident()))
        self.act(self, job_id)

def raise_(e): raise e

HOOKS = {
    'sleep': lambda m, i: time.sleep(.1),
    'raise': lambda m, i: 1 / 0,
    'exit': lambda m, i: sys.exit(3),
    'interrupt': lambda m, i: raise_(KeyboardInterrupt()),
    'cancelled': lambda m, i: raise_(asyncio.CancelledError()),
    'cancel': lambda m, i: [asyncio.run(m.cancel_job(j.id)) for j in m.get_all_jobs() if j.plugin_id == 'sleeper'],
    'wait': lambda m, i: asyncio.run(m.wait_for_job(i, 5)),
    'clear': lambda m, i: m.clear_completed_jobs(),
    'state': lambda m, i: asyncio.run(m.get_worker_state()),
    'busy': lambda m, i: sum(range(300_000)),
}

async def case_hooks(ctx, names):
    for name in names:
        m = ctx.manager(cls=Hooked, config=QUICK)
        m.act, m.is_cleared = HOOKS[name], name == 'clear'
        await ctx.warm(m, 'echo')
        begun = time.perf_counter()
        jobs = [await ctx.start(m, 'echo', i=i) for i in range(40)]
        bad = await ctx.act(m, 'raise ValueError')
        running = await ctx.start(m, 'sleeper', seconds=60)
        for job in jobs: await ctx.ended(job, 'completed')
        if name == 'sleep': assert time.perf_counter() - begun < 2, 'slow hooks delayed the jobs'
        await ctx.ended(bad, 'failed', 'plugin_error')
        if name == 'cancel': await ctx.until(lambda: running.status != 'pending', 'the hook')   # noqa: B023
        else:
            await ctx.running(m, running)
            assert await m.cancel_job(running.id) is True
        await ctx.ended(running, 'cancelled')
        await ctx.check()
        told, all_jobs = m.told(), [j for o, j, _ in ctx.jobs if o is m]
        await ctx.until(lambda: len(told['finished']) >= len(all_jobs), 'all hooks')   # noqa: B023
        assert sorted(i for i, _ in told['finished']) == sorted(j.id for j in all_jobs)
        good = sorted(j.id for j in all_jobs if j.status == 'completed')
        assert sorted(i for i, _ in told['completed']) == good
        assert threading.get_ident() not in {t for ts in told.values() for _, t in ts}, 'a hook on the event loop'
        await m.aclose()

@pytest.mark.parametrize('names', [list(HOOKS)[:5], list(HOOKS)[5:]], ids=lambda n: n[0])
def test_hooks_that_misbehave(names): run_case(case_hooks, names)

async def case_hook_starts(ctx):
    m = ctx.manager(cls=Hooked, config={'max_finished_jobs': None})
    loop, left = asyncio.get_running_loop(), [30]
    def start(m, job_id):
        if left[0] <= 0 or job_id in {j.id for j in m.get_all_jobs() if j.plugin_id == 'pid'}: return
        left[0] -= 1
        if left[0] % 2: asyncio.run(ctx.start(m, 'echo', i=left[0]))   # in a loop of its own, closed at once
        else: asyncio.run_coroutine_threadsafe(ctx.start(m, 'echo', i=left[0]), loop).result(5)
    m.act = start
    for i in range(3): await ctx.ended(await ctx.start(m, 'echo', i=100 + i), 'completed')
    await ctx.until(lambda: left[0] <= 0 and all(j.status == 'completed' for j in m.get_all_jobs()), 'all')

def test_hooks_that_start_jobs(): run_case(case_hook_starts)

async def case_hook_shuts_down(ctx, how):
    m = ctx.manager(cls=Hooked, config=QUICK)
    await ctx.warm(m)
    loop = asyncio.get_running_loop()
    started = threading.Event()   # the hook may be quicker than the next start
    act = {'shutdown': lambda m, i: m.shutdown(), 'aclose': lambda m, i: asyncio.run(m.aclose()),
             'on the loop': lambda m, i: asyncio.run_coroutine_threadsafe(m.aclose(), loop).result(5),
             'all three': lambda m, i: (m.shutdown(), asyncio.run(m.aclose()), m.shutdown())}[how]
    m.act = lambda m, i: (started.wait(5), act(m, i))
    jobs = [await ctx.start(m, 'echo'), await ctx.start(m, 'sleeper'), await ctx.start(m, 'echo')]
    started.set()
    for job in jobs: await ctx.ended(job)
    assert jobs[0].status == 'completed'
    await ctx.until(lambda: not m.monitor_running, 'the shutdown', 8)
    try: await m.start_job('echo')
    except ManagerClosed: pass
    else: raise AssertionError('started after shutdown')

@pytest.mark.parametrize('how', ['shutdown', 'aclose', 'on the loop', 'all three'])
def test_a_hook_that_shuts_down(how): run_case(case_hook_shuts_down, how)

class Late(Watched):
    "Its hooks hear of a job when the book has forgotten it; one of them is a coroutine."
    heard, gate = (), None
    def _on_job_finished(self, job_id):
        self.gate.wait(5)
        self.heard.append((self.get_job(job_id).id, self.get_job_result(job_id)['status'], None))
    async def _on_job_completed(self, job_id):
        await asyncio.sleep(.01)
        self.heard.append((self.get_job(job_id).id, self.get_job_result(job_id)['status'], asyncio.get_running_loop()))
        raise ValueError("logged, like what any hook raises")

async def case_late_hooks(ctx):
    m = ctx.manager(cls=Late, config={'max_finished_jobs': 1, **QUICK})
    m.heard, m.gate = [], threading.Event()
    jobs = [await m.start_job('echo', i=i) for i in range(5)]
    await ctx.until(lambda: all(j.status == 'completed' for j in jobs), 'the jobs')
    assert [m.get_job(j.id) is None for j in jobs] == [True] * 4 + [False]
    m.gate.set()
    await ctx.until(lambda: len(m.heard) == 10, 'all hooks')
    ids = sorted(j.id for j in jobs)
    for loop in (None, asyncio.get_running_loop()):
        assert sorted(i for i, status, where in m.heard if status == 'success' and where is loop) == ids

def test_hooks_that_hear_late_or_are_coroutines(): run_case(case_late_hooks)

async def case_hook_has_a_loop(ctx):
    "It starts a job there, and closes the loop at once: what happens is told on the app's loop all the same."
    told, follow = [], []
    class Teller:
        async def broadcast(self, event_type, data):
            told.append((event_type, data.get('job_id'), asyncio.get_running_loop()))
    m = ctx.manager(cls=Hooked, config=QUICK, event_broadcaster=Teller())
    m.act = lambda m, i: None if follow else follow.append(asyncio.run(m.start_job('sleeper', seconds=.2)).id)
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    loop, end = asyncio.get_running_loop(), f'{m.worker_type}:completed'
    await ctx.until(lambda: follow and (end, follow[0], loop) in told, 'the end is told')

def test_a_hook_with_a_loop_of_its_own_does_not_take_the_events_with_it(): run_case(case_hook_has_a_loop)

async def case_no_options(ctx):
    m = ctx.manager()
    for wrong in ({'priority': 1}, 5, 'high'):
        with pytest.raises(TypeError, match='job_options'): await m.start_job('echo', job_options=wrong)
    assert m.get_all_jobs() == []

def test_options_that_are_none(): run_case(case_no_options)

# ---- Broadcasters

class Broadcaster:
    def __init__(self, act=None): self.heard, self.act, self.threads = [], act, set()
    async def broadcast(self, event_type, data):
        self.threads.add(threading.get_ident())
        self.heard.append((event_type, data))
        if self.act: await self.act(event_type, data)

def check_heard(heard, jobs, prefix='jobs'):
    for job in jobs:
        names = [t.partition(':')[2] for t, d in heard if d['job_id'] == job.id]
        assert [n for n in names if n in ('completed', 'failed', 'cancelled')] == [job.status], (job, names)
        assert names[0] == 'queued' and names[-1] == job.status, (job, names)
    assert all(t.startswith(f'{prefix}:') for t, _ in heard)

async def pause(t, d): await asyncio.sleep(.01)
async def fail(t, d): raise ValueError('no')
async def cancelled(t, d): raise asyncio.CancelledError
async def cancel_self(t, d, once=[]):   # noqa: B006
    if not once: asyncio.current_task().cancel()
    once.append(1)
    await asyncio.sleep(0)
async def timeout(t, d): raise TimeoutError
async def change(t, d): d.clear()
async def group(t, d): raise ExceptionGroup('several', [ValueError()])

async def case_broadcasters(ctx):
    for act in (None, pause, fail, timeout, group, change, cancelled, cancel_self):
        b = Broadcaster(act)
        m = ctx.manager(event_broadcaster=b, config=QUICK)
        await ctx.warm(m)
        jobs = [await ctx.start(m, 'echo', i=i) for i in range(10)]
        jobs += [await ctx.start(m, 'streamer', n=3), await ctx.do(m, 'raise ValueError')]
        for job in jobs: await ctx.ended(job)
        running = await ctx.start(m, 'sleeper')
        await ctx.running(m, running)
        assert await m.cancel_job(running.id) is True
        what = f'{act.__name__ if act else "none"}: the last event'
        await ctx.until(lambda: any(t == 'jobs:cancelled' for t, _ in b.heard), what, 3)   # noqa: B023
        if act is not change: check_heard(b.heard, [*jobs, running])
        assert b.threads == {threading.get_ident()}
        await ctx.check()
        await m.aclose()

def test_broadcasters_that_are_slow_or_raise(): run_case(case_broadcasters)

async def case_broadcaster_hangs(ctx):
    async def hang(t, d): await asyncio.Event().wait()
    m = ctx.manager(event_broadcaster=Broadcaster(hang), config=QUICK)
    await ctx.warm(m)
    jobs = [await ctx.start(m, 'echo', i=i) for i in range(10)]
    for job in jobs: await ctx.ended(job, 'completed')
    async with asyncio.timeout(3): await m.aclose()
    for task in asyncio.all_tasks():
        if 'pump' in repr(task): task.cancel()

def test_a_broadcaster_that_hangs(): run_case(case_broadcaster_hangs)

async def case_broadcaster_calls(ctx, what):
    b = Broadcaster()
    m = ctx.manager(event_broadcaster=b, config=QUICK)
    calls = []
    async def act(t, d):
        if t != 'jobs:started' or calls: return
        job = m.get_job(d['job_id'])
        if job.plugin_id != 'sleeper': return
        calls.append(t)
        if what == 'cancel': assert await m.cancel_job(job.id) is True
        elif what == 'start': await ctx.start(m, 'echo')
        elif what == 'wait': await ctx.ended(await ctx.start(m, 'echo')) if m.get_stats()['running'] == 0 else None
        elif what == 'shutdown': m.shutdown()
        elif what == 'aclose': await m.aclose()
        elif what == 'clear': m.clear_completed_jobs()
        elif what == 'broadcast': await m.broadcast_event('mine', {'job_id': None})
        calls.append('done')
    b.act = act
    await ctx.warm(m)
    if what == 'shutdown': ctx.stall_limit = 5   # it is the blocking one
    jobs = [await ctx.start(m, 'sleeper', seconds=.3), await ctx.start(m, 'echo')]
    for job in jobs: await ctx.ended(job)
    await ctx.until(lambda: 'done' in calls, f'{what} to come back', 5)
    if what == 'cancel': assert jobs[0].status == 'cancelled'

@pytest.mark.parametrize('what', ['cancel', 'start', 'shutdown', 'aclose', 'clear', 'broadcast'])
def test_a_broadcaster_that_calls_us(what): run_case(case_broadcaster_calls, what)

# ---- Loops and threads

async def work(ctx, m, seed, loops=25):
    "What a busy page does: start, stream, wait, cancel, look."
    r = random.Random(seed)
    for i in range(loops):
        kind = r.choice(['echo', 'echo', 'stream', 'cancel', 'fail', 'look'])
        if kind == 'echo':
            job = await ctx.start(m, 'echo', i=i, seed=seed)
            await m.wait_for_job(job.id, 20)
            assert (job.status, job.result['i'], job.result['seed']) == ('completed', i, seed), (job, job.error)
        if kind == 'stream':
            job = await ctx.start(m, 'streamer', n=20)
            chunks = [c.chunk async for c in m.stream_job(job.id)]
            assert job.status == 'completed' and len(chunks) == 20, (job, job.error, len(chunks))
        if kind == 'cancel':
            job = await ctx.start(m, 'polite')
            await asyncio.sleep(r.choice([0, 0, .002, .01]))
            assert await m.cancel_job(job.id) is True and job.status == 'cancelled', job
        if kind == 'fail':
            job = await ctx.act(m, 'raise ValueError')
            await m.wait_for_job(job.id, 20)
            assert job.fault == 'plugin_error', (job, job.error)
        if kind == 'look':
            await m.get_worker_state()   # None, when another thread's cancel has just cost the worker
            assert m.get_stats() and m.get_all_jobs()

async def in_threads(n, make):
    "Run the coroutines `make(0)` ... `make(n-1)`, each in a thread and loop of its own."
    return await asyncio.gather(*(asyncio.to_thread(lambda i=i: asyncio.run(make(i))) for i in range(n)))

async def case_threads(ctx, workers):
    sys.setswitchinterval(1e-4)
    m = ctx.manager(config={'max_workers': workers, 'max_finished_jobs': None, **QUICK, 'cancel_grace_seconds': 2.0})
    await ctx.warm(m)
    await in_threads(4, lambda i: work(ctx, m, i))
    await work(ctx, m, 99, 10)
    await ctx.check()
    await ctx.loop.shutdown_default_executor()

@pytest.mark.parametrize('workers', [1, 2])
def test_four_threads_with_loops_of_their_own(workers): run_case(case_threads, workers, timeout=60)

async def case_cross_cancel(ctx):
    m = ctx.manager(config=QUICK)
    await ctx.warm(m)
    for _ in range(5):
        jobs = [await ctx.start(m, 'sleeper') for _ in range(12)]
        async def cancel_all(i): return [await m.cancel_job(j.id) for j in random.Random(i).sample(jobs, len(jobs))]   # noqa: B023
        answers = await in_threads(4, cancel_all)
        assert sum(sum(a) for a in answers) == len(jobs), answers   # True exactly once for each
        for job in jobs: await ctx.ended(job, 'cancelled')
    await ctx.check()
    await ctx.loop.shutdown_default_executor()

def test_cancels_of_the_same_jobs_from_four_loops(): run_case(case_cross_cancel)

def case_closed_loop(ctx):
    b = Broadcaster()
    m = ctx.manager(event_broadcaster=b, config=QUICK)
    async def first():
        job = await ctx.start(m, 'sleeper', seconds=.3)
        asyncio.ensure_future(m.wait_for_job(job.id))   # both cancelled with the loop
        asyncio.ensure_future(read_all(m, job.id))
        asyncio.ensure_future(anext(m.events()))
        await asyncio.sleep(.01)
        return job
    async def second(job):
        await m.wait_for_job(job.id, 10)
        assert job.status == 'completed', (job, job.error)
        assert await m.get_worker_state() is not None
        return [await ctx.start(m, 'echo', i=i) for i in range(5)]
    async def third(jobs):
        for job in jobs: await m.wait_for_job(job.id, 10)
        deadline = time.monotonic() + 5
        while sum(t == 'jobs:completed' for t, _ in b.heard) < 1 + len(jobs) and time.monotonic() < deadline:
            await asyncio.sleep(.005)
        return jobs
    slept = asyncio.run(first())
    jobs = asyncio.run(second(slept))
    time.sleep(.05)   # they end while there is no loop at all
    asyncio.run(third(jobs))
    check_heard(b.heard, [slept, *jobs])
    for i in range(10): asyncio.run(third(asyncio.run(some(ctx, m, i))))

async def some(ctx, m, i): return [await ctx.start(m, 'echo', i=i)]

def test_a_first_loop_that_has_closed(): run_case(case_closed_loop)

def case_no_loop_at_the_end(ctx):
    m = ctx.manager(event_broadcaster=Broadcaster(), config=QUICK)
    async def first():
        await ctx.warm(m)
        return await ctx.start(m, 'sleeper')
    job = asyncio.run(first())
    m.shutdown()   # without any loop
    m.shutdown()
    assert (job.status, job.fault) == ('failed', 'interrupted'), job

def test_shutdown_without_a_loop(): run_case(case_no_loop_at_the_end)

async def case_pinned_loop(ctx):
    b = Broadcaster()
    m = ctx.manager(event_broadcaster=b)
    async with m.lifespan(None):
        jobs = await asyncio.to_thread(lambda: asyncio.run(case_some_jobs(ctx, m)))
        await ctx.until(lambda: sum(t == 'jobs:completed' for t, _ in b.heard) >= len(jobs), 'the events')
    assert b.threads == {threading.get_ident()}, 'an event on another loop than the app\'s'
    check_heard(b.heard, jobs)
    await ctx.loop.shutdown_default_executor()

async def case_some_jobs(ctx, m):
    jobs = [await ctx.start(m, 'echo', i=i) for i in range(5)]
    for job in jobs: await m.wait_for_job(job.id, 10)
    return jobs

def test_events_come_on_the_loop_that_the_app_runs_on(): run_case(case_pinned_loop)

async def case_test_client(ctx):
    "The pages of an app in the way that starlette's test client calls them: each in a loop of its own, in a thread."
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient
    m = ctx.manager(event_broadcaster=(b := Broadcaster()))
    async def start(request):
        job = await ctx.start(m, request.path_params['plugin'])
        return JSONResponse({'id': job.id})
    async def wait(request):
        job = await m.wait_for_job(request.path_params['id'], 10)
        return JSONResponse({'status': job.status})
    async def stream(request):
        async def chunks():
            async for c in m.stream_job(request.path_params['id']): yield c.chunk
        return StreamingResponse(chunks())
    app = Starlette(routes=[Route('/start/{plugin}', start), Route('/wait/{id}', wait), Route('/stream/{id}', stream)])
    def visit():
        client = TestClient(app)   # no lifespan: a new loop for each request
        for plugin in ('echo', 'streamer', 'echo', 'streamer'):
            job_id = client.get(f'/start/{plugin}').json()['id']
            if plugin == 'streamer': assert len(client.get(f'/stream/{job_id}').text) == 80
            assert client.get(f'/wait/{job_id}').json() == {'status': 'completed'}
    await asyncio.to_thread(visit)
    await asyncio.to_thread(visit)
    await ctx.warm(m)
    await ctx.until(lambda: sum(t == 'jobs:completed' for t, _ in b.heard) >= 8, 'the events')
    await ctx.loop.shutdown_default_executor()

def test_a_test_client_with_a_loop_per_request(): run_case(case_test_client, allow='LOG httpx')

# ---- Several managers, forks, scripts

async def case_two_managers(ctx):
    a, b = ctx.manager(config=QUICK, worker_type='a'), ctx.manager(config=QUICK, worker_type='b')
    pid_a, pid_b = await ctx.warm(a, 'echo'), await ctx.warm(b, 'echo')
    assert pid_a != pid_b
    slow = await ctx.start(b, 'sleeper', seconds=.6)
    jobs = [await ctx.start(a, 'sleeper'), await ctx.start(a, 'echo')]
    await ctx.running(a, jobs[0])
    assert await b.cancel_job(jobs[0].id) is False and b.get_job(jobs[0].id) is None
    assert await a.cancel_job(jobs[0].id) is True
    os.kill(await ctx.until(lambda: a.worker_process and a.worker_process.pid), signal.SIGKILL)
    await ctx.ended(jobs[1])
    await a.aclose()
    await ctx.ended(slow, 'completed')
    assert b.worker_process.pid == pid_b == slow.worker_pid
    c = ctx.manager(config=QUICK)   # one after the other
    await ctx.warm(c)
    await ctx.check()
    await asyncio.gather(b.aclose(), c.aclose(), b.aclose())

def test_two_managers(): run_case(case_two_managers)

WATCH = '''
import multiprocessing, os, signal, sys, threading
def look():
    return (threading.active_count(), multiprocessing.get_start_method(allow_none=True), dict(os.environ),
            [signal.getsignal(s) for s in signal.valid_signals()], sys.excepthook, threading.excepthook,
            sorted(os.listdir('/dev/fd')))
before = look()
import cjm_fasthtml_workers.managers.base, cjm_fasthtml_workers.managers.simple
import cjm_fasthtml_workers.extensions.adapters
assert before == look(), (before, look())
'''

def test_an_import_changes_nothing():
    with App('-c', WATCH) as app: assert (app.finish(20), app.err) == (0, '')

def child_work(x): return x * 2

async def case_app_that_forks(ctx):
    m = ctx.manager(config=QUICK)
    multiprocessing.set_start_method('fork')   # would raise if we had set one
    pid = await ctx.warm(m, 'echo')
    job = await ctx.start(m, 'sleeper', seconds=.5)
    await ctx.running(m, job)
    for end in ('exit', 'shutdown', 'aclose', 'raise'):
        child = os.fork()
        if child == 0:
            try:
                if end == 'shutdown': m.shutdown()
                if end == 'aclose': m._close()
                if end == 'raise': raise ValueError
            finally: os._exit(0)
        await ctx.until(lambda: os.waitpid(child, os.WNOHANG)[0], f'the child that does {end}')   # noqa: B023
    p = multiprocessing.Process(target=child_work, args=(1,))
    p.start()
    p.join(5)
    assert p.exitcode == 0
    await ctx.ended(job, 'completed')
    assert m.worker_process.pid == pid, 'a fork of the app ended our worker'
    await ctx.check()

def test_an_app_that_forks(): run_case(case_app_that_forks, allow='DeprecationWarning|os.fork')

HEAD = '''
import asyncio, os, sys, time
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from cjm_fasthtml_workers.core.config import WorkerConfig
ECHO = {'echo': 'tests.faults.plugins:Echo'}
'''
PRELOAD = HEAD + '''
m = SimpleJobManager(ECHO)   # as gunicorn does it with --preload: made before the fork, used after
if os.fork() == 0:
    async def main():
        job = await m.start_job('echo', a=1)
        await m.wait_for_job(job.id, 10)
        print(job.status, job.result, flush=True)
    asyncio.run(main())
    m.shutdown()
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.wait()[1]))
'''
FORKED_LATE = HEAD + '''
async def one(m):
    job = await m.start_job('echo', a=1)
    await m.wait_for_job(job.id, 5)
    return job
m = SimpleJobManager(ECHO)
print(asyncio.run(one(m)).status, flush=True)
if os.fork() == 0:   # no thread of ours lives here: to be refused, or to work, and not to hang
    try: print('child', asyncio.run(one(m)).status, flush=True)
    except Exception as e: print('child refused', type(e).__name__, isinstance(e, TimeoutError), flush=True)
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.wait()[1]), asyncio.run(one(m)).status)
m.shutdown()
'''

def run_script(tmp_path, text, timeout=20, name='app.py', args=()):
    script = tmp_path/name
    script.write_text(text)
    with App(str(script), *args, cwd=tmp_path) as app:
        code = app.finish(timeout)
        left, out, err = app.left(), app.out, app.err
    assert not left, left
    return code, out, err

def test_a_manager_that_is_made_before_the_fork_and_used_after(tmp_path):
    code, out, err = run_script(tmp_path, PRELOAD)
    assert (code, out, strange_lines(err)) == (0, "completed {'a': 1}\n5\n", [])

def test_a_manager_that_runs_already_is_no_use_to_a_fork(tmp_path):
    code, out, err = run_script(tmp_path, FORKED_LATE)
    assert code == 0 and out.startswith('completed\nchild') and out.endswith('5 completed\n'), (code, out, err)
    assert 'Timeout' not in out, 'it hung'

BODY = '''
class Local:
    def __init__(self, config): pass
    def execute(self, **params): return {'main': __name__, **params}

async def main(plugins):
    m = SimpleJobManager(plugins, worker_config=WorkerConfig(max_restart_attempts=2))
    job = await m.start_job('echo', a=1)
    await m.wait_for_job(job.id, 15)
    print(job.status, job.fault, job.error, job.result)
    await m.aclose()
'''
SCRIPTS = {   # script -> what it prints
    'guard, local plugin': (HEAD + BODY + "if __name__ == '__main__': asyncio.run(main({'echo': Local}))",
                            "completed None None {'main': '__mp_main__', 'a': 1}"),
    'guard, path': (HEAD + BODY + "if __name__ == '__main__': asyncio.run(main(ECHO))", "completed None None {'a': 1}"),
    'no guard, path': (HEAD + BODY + 'asyncio.run(main(ECHO))', "completed None None {'a': 1}"),
    'no guard, local plugin': (HEAD + BODY + "asyncio.run(main({'echo': Local}))", 'if __name__'),
    'no guard, never shut down': (HEAD + BODY.replace('await m.aclose()', '') + 'asyncio.run(main(ECHO))', 'completed'),
    'main raises in the worker': (HEAD + BODY + "if __name__ != '__main__': raise ValueError('only here')\n"
                                  "asyncio.run(main({'echo': Local}))", 'only here'),
    'main exits in the worker': (HEAD + BODY + "if __name__ != '__main__': sys.exit(0)\n"
                                 "asyncio.run(main({'echo': Local}))", 'failed start_failed'),
}

@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_of_every_shape(tmp_path, name):
    text, said = SCRIPTS[name]
    code, out, err = run_script(tmp_path, text)
    assert code == 0 and said in out, (code, out, err)
    assert out.count('\n') == 1, f'the script ran more than once: {out}'
    if 'no guard, local' in name: assert out.startswith('failed start_failed'), out
    assert not [line for line in err.splitlines() if line.strip() and 'worker' not in line], err

CHILDREN = HEAD + """
import signal, threading
def reap():
    while True:
        try: os.waitpid(-1, 0)
        except ChildProcessError: threading.Event().wait(.001)
async def main():
    m = SimpleJobManager({'do': 'tests.faults.plugins:Do'}, worker_config=WorkerConfig(cancel_grace_seconds=0))
    for code in ('pass', 'os._exit(7)', 'os.kill(os.getpid(), 9)', 'pass', 'time.sleep(60)', 'pass'):
        job = await m.start_job('do', code=code)
        if 'sleep' in code: print(await m.cancel_job(job.id))
        await m.wait_for_job(job.id, 10)
        print(job.status, job.fault, job.exit_code)
    await m.aclose()
if __name__ == '__main__':
    if sys.argv[1] == 'ignores': signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else: threading.Thread(target=reap, daemon=True).start()
    asyncio.run(main())
"""

@pytest.mark.parametrize('how', ['ignores', 'reaps'])
def test_an_app_that_takes_our_children(tmp_path, how):
    "The exit code may be lost with them; the death is not."
    code, out, err = run_script(tmp_path, CHILDREN, args=[how])
    lines = [re.sub(r' (7|-9)$', ' None', line) for line in out.splitlines()]
    good, bad = 'completed None None', 'failed worker_crashed None'
    assert (code, lines) == (0, [good, bad, bad, good, 'True', 'cancelled None None', good]), (out, err)
    assert not strange_lines(err, 'worker'), err

def test_a_script_from_c_or_m(tmp_path):
    text = HEAD + BODY + "asyncio.run(main(ECHO))"
    with App('-c', text, cwd=tmp_path) as app:
        assert app.finish(20) == 0 and app.out == "completed None None {'a': 1}\n", (app.out, app.err)
    (tmp_path/'mod.py').write_text(HEAD + BODY + "if __name__ == '__main__': asyncio.run(main({'echo': Local}))")
    with App('-m', 'mod', cwd=tmp_path) as app:
        assert app.finish(20) == 0 and 'completed' in app.out, (app.out, app.err)

# ---- A reader of events and a publisher, at one instant

class Handover:
    "A lock; another thread gets its turn right after it was let go."
    def __init__(self, inner): self.inner, self.then = inner, None
    def __enter__(self): return self.inner.__enter__()

    def __exit__(self, *error):
        self.inner.__exit__(*error)
        then, self.then = self.then, None
        if then is None: return
        thread = threading.Thread(target=then)
        thread.start()
        thread.join()

def test_event_that_comes_while_its_reader_lies_down():
    async def read():
        wakeups = Wakeups()
        hub = EventHub('chat', wakeups)
        stream = hub.subscribe()
        hub.lock = lock = Handover(hub.lock)
        lock.then = lambda: (hub.publish('started', {'job_id': 'j'}), wakeups.flush())
        return await asyncio.wait_for(anext(stream), 5)
    assert asyncio.run(read()).type == 'chat:started'
