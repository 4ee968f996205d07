"An event loop that reads results itself: it loses nothing, holds up nobody, and gives back what it borrowed."
import asyncio
import os
import signal
import threading
import time

from cjm_fasthtml_workers.managers.supervisor import LEASE_SECONDS
from tests.faults.harness import Case, run_case


def lease(m): return m.worker_process and m.worker_process.lease

async def leased(ctx: Case, m):
    "Short jobs until the loop reads their results."
    async def one(): return lease(m) or await ctx.ended(await ctx.start(m, 'echo'), 'completed') and None
    for _ in range(200):
        if await one(): return lease(m)
    raise AssertionError('no lease')

def readers() -> set[int]:
    "The descriptors that the running loop reads."
    return set(asyncio.get_running_loop()._selector.get_map())

async def case_ends_by_itself(ctx):
    "Nothing comes: the supervisor reads again, and the loop holds nothing of it."
    m, before = ctx.manager(), readers()
    await leased(ctx, m)
    assert len(readers() - before) == 1
    await ctx.until(lambda: lease(m) is None and readers() == before, 'its end', 50 * LEASE_SECONDS)
    job = await ctx.do(m, 'time.sleep(.3); result["n"] = 1')   # longer than a lease
    assert (await ctx.ended(job, 'completed')).result['n'] == 1
    await leased(ctx, m)
    await m.aclose()
    await ctx.until(lambda: readers() == before, 'its end', 5)

def test_ends_by_itself(): run_case(case_ends_by_itself)

async def case_deaths(ctx):
    "The worker dies under a lease, in every way, and each job still has one end with its own result."
    m, before = ctx.manager(config={'restart_policy': 'always', 'max_restart_attempts': 10**6}), readers()
    for how in ('idle', 'with a job', 'by itself', 'cancel', 'while it answers') * 5:
        held = await leased(ctx, m)
        pid = m.worker_process.pid
        if how == 'idle': os.kill(pid, signal.SIGKILL)
        elif how == 'by itself': await ctx.ended(await ctx.do(m, 'os._exit(3)'), 'failed', 'worker_crashed')
        elif how == 'cancel':
            job = await ctx.do(m, 'time.sleep(60)')
            assert await m.cancel_job(job.id)
        else:
            jobs = [await ctx.start(m, 'echo', n=i) for i in range(20)]
            if how == 'while it answers': await m.wait_for_job(jobs[3].id)
            os.kill(pid, signal.SIGKILL)
            for job in jobs: await ctx.ended(job)
            assert sum(j.status != 'completed' for j in jobs) <= 1, [j.error for j in jobs]
        await ctx.until(lambda held=held: lease(m) is not held and held.fd < 0, 'its end')
    await ctx.check()
    await m.aclose()
    await ctx.until(lambda: readers() == before, 'its end', 5)

def test_deaths(): run_case(case_deaths)

async def case_not_quick(ctx):
    "What is large, loud or not plain goes another way; order and results are the same."
    m = ctx.manager()
    await leased(ctx, m)
    codes = {'plain': 'result["n"] = 1', 'large': 'result["n"] = "x" * 3_000_000',
             'odd': 'import datetime; result["n"] = datetime.date(2025, 1, 31)',
             'loud': 'print("hello"); result["n"] = 2', 'fails': '1 / 0'}
    for i in range(60):
        name = list(codes)[i * 7 % 5]
        job = await ctx.ended(await ctx.do(m, codes[name]))
        assert job.status == ('failed' if name == 'fails' else 'completed'), (name, job.error)
        if name == 'loud': assert m.get_job_logs(job.id).lines == ['hello']
        if name == 'large': assert len(job.result['n']) == 3_000_000
        if i % 3 == 0: await leased(ctx, m)

def test_not_quick(): run_case(case_not_quick)

async def case_stream(ctx):
    "Chunks that the loop reads, mixed with floods that it leaves to the supervisor: all of them, in order."
    m = ctx.manager()
    for pause, n in ((0.002, 50), (0, 20_000), (0.001, 30)):
        await leased(ctx, m)
        job = await ctx.start(m, 'streamer', n=n, pause=pause)
        assert [int(c.chunk.rstrip('.')) async for c in m.stream_job(job.id)] == list(range(n))

def test_stream(): run_case(case_stream)

def elsewhere(work):
    "What a coroutine returns that runs on a loop of its own, in a thread of its own."
    out = []
    thread = threading.Thread(target=lambda: out.append(asyncio.run(work)), daemon=True)
    thread.start()
    return thread, out

async def case_loop_hangs(ctx):
    "A loop that does not come back, with the lease: others are served all the same, soon."
    m = ctx.manager()
    await leased(ctx, m)
    async def other():
        begin = time.monotonic()
        jobs = [await m.start_job('echo', n=i) for i in range(20)]
        for job in jobs: await m.wait_for_job(job.id, 10)
        return [j.status for j in jobs], time.monotonic() - begin
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    assert lease(m) is not None
    thread, out = elsewhere(other())
    ctx.stall_limit = 6.0
    time.sleep(3.0)   # noqa: ASYNC251  # this is the hang
    await asyncio.to_thread(thread.join, 10)
    (states, seconds), = out
    assert states == ['completed'] * 20 and seconds < 2.5, seconds
    await asyncio.get_running_loop().shutdown_default_executor()

def test_loop_hangs(): run_case(case_loop_hangs)

CLOSED = '''
import asyncio, time
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
m = SimpleJobManager({'act': 'tests.faults.plugins:Act', 'echo': 'tests.faults.plugins:Echo'})
async def begin():
    for _ in range(50):
        job = await m.start_job('echo')
        await m.wait_for_job(job.id)
    return await m.start_job('act', code='time.sleep(.05)')
jobs = []
for _ in range(3):
    jobs.append(asyncio.run(begin()))   # the loop is closed while the job runs
    end = time.monotonic() + 5
    while jobs[-1].status == 'running' and time.monotonic() < end: time.sleep(.002)
print([j.status for j in jobs])
m.shutdown()
'''

def test_loop_closed():
    from tests.faults.harness import App
    with App('-c', CLOSED) as app:
        assert app.finish(30) == 0, app.err
        assert app.out.strip() == "['completed', 'completed', 'completed']" and not app.err, app.err

async def case_counted_late(ctx):
    "A worker dies of a job before the thread that sent it has counted its bytes: it is not run again."
    from cjm_fasthtml_workers.core import channels
    def slow(write):
        def slowly(fd, data):
            n = write(fd, data)
            time.sleep(.1)   # this thread is not run for a while
            return n
        return staticmethod(slowly)
    class Os:
        write, writev = slow(os.write), slow(os.writev)
        def __getattr__(self, name): return getattr(os, name)
    m, note = ctx.manager(config={'restart_policy': 'always'}), ctx.folder/'runs'
    await ctx.warm(m)
    channels.os, ctx.stall_limit = Os(), 1.0
    fatal = f'open({str(note)!r}, "a").write("x"); os._exit(7)'
    try: await ctx.ended(await ctx.do(m, fatal), 'failed', 'worker_crashed')
    finally: channels.os = os
    assert note.read_text() == 'x'

def test_counted_late(): run_case(case_counted_late)
