"Cancel: it is true exactly if the job ended as cancelled, and it touches one job only."
import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from tests.faults.harness import TERMINAL, Case, Watched, run_case, stood_still

RACES = int(os.environ.get('FAULTS_RACES', 60))   # 1000 for a campaign
POLICIES = ('never', 'on_cancellation', 'always', 'backoff')
PROMPT = {'cancel_grace_seconds': 0, 'shutdown_timeout_seconds': .3}   # from the question to SIGKILL

CATCHES = '''
import signal
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
print('deaf', flush=True)
while not got: time.sleep(.002)
'''
DEAF = '''
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf', flush=True)
time.sleep(60)
'''
IN_C = '''
import ctypes, subprocess
subprocess.Popen(['sleep', '60'])
print('deaf', flush=True)
ctypes.PyDLL(None).sleep(60)
'''

# ---- What the cases have in common

def is_gone(pid: int) -> bool: return not psutil.pid_exists(pid)

async def warm(ctx: Case, m: Any, *plugins: str) -> int:
    "The pid of a worker that is ready and has these plugins loaded, besides 'do'."
    pid = await ctx.warm(m)
    for p in plugins: await ctx.ended(await ctx.start(m, p, **({} if p == 'streamer' else {'seconds': 0})), 'completed')
    return pid

async def deaf(ctx: Case, m: Any, code: str, options: JobOptions | None = None) -> Any:
    "A job that runs `code`, when it has said that it is deaf."
    job = await ctx.do(m, code, options)
    await ctx.until(lambda: m.get_job_logs(job.id).lines or job.status in TERMINAL, 'the job to say something')
    assert job.status == 'running', job.error
    return job

async def cancelled(m: Any, job: Any) -> None:
    assert await m.cancel_job(job.id) is True
    assert (job.status, job.fault, job.result) == ('cancelled', None, None)
    assert m.get_job_result(job.id) == {'status': 'cancelled'}
    assert await m.cancel_job(job.id) is False

async def in_threads(ctx: Case, n: int, work: Callable[[int], Any]) -> list[Any]:
    "What `work(i)` gives in `n` loops of their own, while this one goes on."
    out: list[Any] = [None] * n
    def run(i: int) -> None: out[i] = asyncio.run(work(i))
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads: t.start()
    await ctx.until(lambda: not any(t.is_alive() for t in threads), 'the other loops to end', 20)
    return out

# ---- Which job

async def case_one_of_many(ctx):
    m = ctx.manager(config=PROMPT)
    pid = await warm(ctx, m, 'sleeper')
    last = await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    assert await m.cancel_job(last.id) is False and last.status == 'completed'   # nobody has looked at its result yet
    assert m.get_job_result(last.id)['status'] == 'success'
    runs = await ctx.start(m, 'sleeper')
    assert runs.status == 'running'
    queued = [await ctx.start(m, 'echo', n=i) for i in range(7)]
    for i in (1, 3): await cancelled(m, queued[i])
    assert await m.cancel_job('unknown') is False
    assert runs.status == 'running' and m.worker_process.pid == pid and not is_gone(pid)   # no process was touched
    await cancelled(m, runs)
    assert is_gone(pid)
    kept = [q for i, q in enumerate(queued) if i not in (1, 3)]
    for q in kept: await ctx.ended(q, 'completed')
    assert [q.started_at for q in kept] == sorted(q.started_at for q in kept)
    assert {q.worker_pid for q in kept} == {m.worker_process.pid} and m.restart_count == 1
    pid = m.worker_process.pid
    for q in (last, runs, *queued): assert await m.cancel_job(q.id) is False
    await ctx.check()
    m.clear_completed_jobs()
    for q in (last, runs, *queued): assert await m.cancel_job(q.id) is False
    assert m.worker_process.pid == pid

def test_one_of_many(): run_case(case_one_of_many)

async def case_large(ctx):
    m, data = ctx.manager(config=PROMPT), bytes(50 * 2**20)
    ctx.stall_limit = 1   # the app itself makes and hands over 50 MB
    await warm(ctx, m, 'sleeper')
    code = 'result = {"nonce": nonce, "size": len(data)}'
    runs = await ctx.start(m, 'sleeper')
    first, second = [await ctx.do(m, code, data=data) for _ in range(2)]
    await cancelled(m, first)
    await cancelled(m, runs)
    await ctx.ended(second, 'completed')
    assert second.result['size'] == len(data)
    await warm(ctx, m)
    on_its_way = await ctx.do(m, code, data=data)
    assert on_its_way.status == 'running'
    assert await m.cancel_job(on_its_way.id) is (on_its_way.status == 'cancelled')

def test_50_mb_queued(): run_case(case_large)

async def case_fifty(ctx, loops, plugin):
    m = ctx.manager(config={**PROMPT, 'cancel_grace_seconds': 20 if plugin == 'polite' else 0})
    await warm(ctx, m, plugin)
    jobs = [await ctx.start(m, plugin) for _ in range(50)]
    spared = await ctx.start(m, 'echo')
    await ctx.running(m, jobs[0])
    async def cancel_all(_: int = 0) -> list[bool]:
        mine = random.sample(jobs, len(jobs))
        answers = await asyncio.gather(*(m.cancel_job(j.id) for j in mine))
        return [a for _, a in sorted(zip([jobs.index(j) for j in mine], answers, strict=True))]
    answers = [await cancel_all()] if loops == 1 else await in_threads(ctx, loops, cancel_all)
    await ctx.check()
    won = [sum(a) for a in zip(*answers, strict=True)]
    assert won == [1] * 50, won
    assert {j.status for j in jobs} == {'cancelled'}
    await ctx.ended(spared, 'completed')

@pytest.mark.parametrize('plugin', ['sleeper', 'polite'])
@pytest.mark.parametrize('loops', [1, 4])
def test_fifty_at_once(loops, plugin): run_case(case_fifty, loops, plugin)

async def case_same_job_from_everywhere(ctx):
    m = ctx.manager(config=PROMPT)
    await warm(ctx, m, 'polite', 'sleeper')
    for plugin in ('polite', 'sleeper') * 3:
        job = await ctx.start(m, plugin)
        await ctx.running(m, job)
        if plugin == 'polite': await ctx.until(lambda job=job: m._book.get(job.id).cooperates, 'its question')
        async def cancel(_: int, job: Any = job) -> list[bool]:
            return await asyncio.gather(*(m.cancel_job(job.id) for _ in range(5)))
        assert sum(sum(a) for a in await in_threads(ctx, 4, cancel)) == 1
        await ctx.ended(job, 'cancelled')

def test_one_job_cancelled_from_everywhere(): run_case(case_same_job_from_everywhere)

# ---- When

async def case_race(ctx, plugin, n):
    "The job ends by itself within 5 ms of its cancel, before or after."
    m = ctx.manager(config={**PROMPT, 'max_finished_jobs': 50})
    await warm(ctx, m, plugin)
    rng, late, seconds, counts = random.Random(plugin), .0, .015, {'completed': 0, 'cancelled': 0}
    for i in range(n):
        job = await m.start_job(plugin, seconds=seconds, nonce=f'race-{i}')
        await ctx.until(lambda job=job: job.status != 'pending', 'it to run')   # it may be over when we see it
        queued = await m.start_job('echo', nonce=f'behind-{i}') if i % 10 == 0 else None
        await asyncio.sleep(max(0, seconds + late + rng.uniform(-.005, .005)))
        answer = await m.cancel_job(job.id)
        await m.wait_for_job(job.id, 10)
        assert answer is (job.status == 'cancelled'), f'{answer} for {job} {job.error}'
        assert job.status in counts, f'{job} {job.error}'
        counts[job.status] += 1
        late += .001 if job.status == 'cancelled' else -.001   # find the moment, however slow the machine is
        if queued is not None: await ctx.ended(queued, 'completed')
        if i % 50 == 49:
            await ctx.check()
            ctx.jobs.clear()
            m.clear_completed_jobs()
    assert min(counts.values()) > n * .1, f'no race: {counts}'
    return counts

@pytest.mark.limit(600)
@pytest.mark.parametrize('plugin', ['sleeper', 'polite'])
def test_race_with_the_end(plugin): run_case(case_race, plugin, RACES, timeout=30 + RACES * .4)

async def case_unread(ctx):
    "The result is in the pipe, and nobody has read it: the job had ended, and its worker stays."
    m = ctx.manager(config=PROMPT)
    ctx.stall_limit = 1
    pid = await warm(ctx, m, 'sleeper', 'polite')
    for plugin in ('sleeper', 'polite') * 5:
        job = await ctx.start(m, plugin, seconds=.01)
        assert job.status == 'running'
        with stood_still(.15):
            assert job.status == 'running'   # as far as we know
            answer = await m.cancel_job(job.id)
        assert answer is False and job.status == 'completed', job
    await ctx.check()
    assert m.worker_process.pid == pid and not m.restart_count

def test_a_result_that_nobody_has_read(): run_case(case_unread)

async def case_at_once(ctx, n):
    "Cancelled at any moment from its start on, the worker cold or not."
    m = ctx.manager(config=PROMPT)
    await warm(ctx, m, 'sleeper')
    for i in range(n):
        job = await ctx.start(m, 'sleeper')
        await asyncio.sleep(.001 * (i % 5)) if i % 3 else None
        assert await m.cancel_job(job.id) is True and job.status == 'cancelled'

def test_right_after_the_start(): run_case(case_at_once, 30)

async def case_stream_at_once(ctx):
    "A job that streams is asked, also before it has said anything: its model is loaded, and stays."
    m = ctx.manager(config={'cancel_grace_seconds': 20})
    pid = await warm(ctx, m, 'streamer')
    for i in range(30):
        job = await ctx.start(m, 'streamer', n=None, pause=.002)
        if i % 3: await asyncio.sleep(.0005 * (i % 7))
        assert await m.cancel_job(job.id) is True and job.status == 'cancelled'
    await ctx.ended(await ctx.start(m, 'streamer', n=3), 'completed')
    assert m.worker_process.pid == pid and not m.restart_count

def test_a_stream_right_after_its_start(): run_case(case_stream_at_once)

async def case_between_attempts(ctx, how):
    m = ctx.manager(config={'restart_policy': 'always', 'restart_backoff_base_seconds': 30})
    await warm(ctx, m)
    jobs = [await ctx.do(m, 'raise ValueError', JobOptions(max_retries=3)) for _ in range(2)]
    jobs.append(await ctx.do(m, 'os._exit(3)', JobOptions(max_retries=3)))
    for job in jobs: await ctx.until(lambda job=job: job.attempt == 2, 'the second attempt')
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')   # nobody waits for those in their pause
    assert [j.status for j in jobs] == ['pending'] * 3
    if how == 'cancel':
        assert await asyncio.gather(*(m.cancel_job(j.id) for j in jobs)) == [True] * 3
        assert [await m.cancel_job(j.id) for j in jobs] == [False] * 3
    else:
        async with asyncio.timeout(10): await m.aclose()
    for job in jobs: await ctx.ended(job, 'cancelled')

@pytest.mark.parametrize('how', ['cancel', 'close'])
def test_between_two_attempts(how): run_case(case_between_attempts, how)

async def case_starting(ctx):
    slow = {'plugins': {'slow': 'tests.faults.plugins:Do'}, 'configs': {'slow': {'init': 'time.sleep(.4)'}}}
    m = ctx.manager(**slow, config={**PROMPT, 'load_plugins': 'on_start'})
    job, other = await ctx.start(m, 'slow', code=''), await ctx.start(m, 'echo')
    await ctx.until(lambda: m.worker_process and m.worker_process.pid, 'a process')
    pid = m.worker_process.pid
    await cancelled(m, job)                      # the worker is still starting: it was pending
    assert job.worker_pid is None
    await ctx.ended(other, 'completed')
    assert m.worker_process.pid == pid == other.worker_pid

    m = ctx.manager(**slow, config=PROMPT)       # now it is the job that loads the model
    pid = await warm(ctx, m)
    job, other = await ctx.start(m, 'slow', code=''), await ctx.start(m, 'slow', code='')
    await ctx.until(lambda: job.status_message.startswith('loading'), 'the model to be loading')
    await cancelled(m, job)
    assert is_gone(pid)
    await ctx.ended(other, 'completed')

def test_starting_and_loading(): run_case(case_starting)

# ---- How a job takes it

async def case_polite(ctx):
    m = ctx.manager(plugins={'model': 'tests.faults.plugins:Do'}, config={'cancel_grace_seconds': 20})
    pid = await warm(ctx, m, 'streamer', 'polite')
    await ctx.ended(await ctx.start(m, 'model', code='import builtins; builtins.weights = os.urandom(8)'), 'completed')
    before = await m.get_worker_state()
    for plugin, params in (('streamer', {'n': None, 'pause': .002}), ('streamer', {'n': None}), ('polite', {})):
        job = await ctx.start(m, plugin, **params)
        chunks = []
        async def read(job: Any = job, chunks: list = chunks) -> None:
            async for c in m.stream_job(job.id): chunks.append(c.chunk)
        reader = asyncio.create_task(read())
        await ctx.running(m, job)
        if plugin == 'streamer': await ctx.until(lambda chunks=chunks: chunks, 'a chunk')
        else: await ctx.until(lambda job=job: m._book.get(job.id).cooperates, 'its question')
        behind = await ctx.start(m, 'model', code='result = {"nonce": nonce, "weights": len(weights)}')
        await cancelled(m, job)
        async with asyncio.timeout(5): await reader
        again = [c async for c in m.stream_job(job.id)]   # what came before the end stays
        assert bool(again) == (plugin == 'streamer')
        await ctx.ended(behind, 'completed')
        assert behind.worker_pid == pid and behind.result['weights'] == 8
    after = await m.get_worker_state()
    assert after['pid'] == before['pid'] == pid and sorted(after['loaded_plugins']) == sorted(before['loaded_plugins'])
    assert not m.restart_count

def test_those_that_listen_keep_worker_and_model(): run_case(case_polite)

async def case_listens_too_late(ctx):
    "It is asked, has its grace, and is made to."
    m = ctx.manager(config={'cancel_grace_seconds': .3, 'shutdown_timeout_seconds': .3})
    for code in ('def stream():\n  yield "one"\n  time.sleep(60)',
                 'from cjm_fasthtml_workers.core.context import cancel_requested\ncancel_requested()\ntime.sleep(60)',
                 'def stream():\n  try:\n    while True: yield "x"\n  finally: time.sleep(60)',
                 'def stream():\n  while True:\n    try: yield "x"\n    except GeneratorExit: pass'):
        await warm(ctx, m)
        job = await ctx.do(m, code)
        if 'yield' in code: await ctx.until(lambda job=job: m._book.get(job.id).chunks.end, 'a chunk')
        else: await ctx.until(lambda job=job: m._book.get(job.id).cooperates, 'the question')
        start = time.monotonic()
        await cancelled(m, job)
        assert time.monotonic() - start < 6

def test_those_that_listen_and_do_not_obey(): run_case(case_listens_too_late)

async def case_result_in_the_grace(ctx):
    "A job that was asked too late, and ends as it would have ended."
    m = ctx.manager(config={'cancel_grace_seconds': 20})
    pid = await warm(ctx, m)
    ask = 'from cjm_fasthtml_workers.core.context import cancel_requested\ncancel_requested()\n'
    for code in ('time.sleep(.1)', 'time.sleep(.1)\nraise ValueError'):
        job = await deaf(ctx, m, f'{ask}print("deaf", flush=True)\n{code}', JobOptions(max_retries=3))
        answer = await m.cancel_job(job.id)
        assert answer is (job.status == 'cancelled') and job.attempt == 1, job
    assert m.worker_process.pid == pid

def test_an_end_in_the_grace(): run_case(case_result_in_the_grace)

async def case_deaf(ctx):
    m = ctx.manager(config=PROMPT)
    for code in (CATCHES, CATCHES + 'raise ValueError("late")', CATCHES + 'time.sleep(60)', DEAF, IN_C):
        pid = await warm(ctx, m)
        job = await deaf(ctx, m, code, JobOptions(max_retries=2))
        behind = [await ctx.start(m, 'echo', n=i) for i in range(2)]
        await cancelled(m, job)
        assert job.attempt == 1
        for b in behind:
            await ctx.ended(b, 'completed')
            assert b.worker_pid != pid
        await ctx.until(lambda pid=pid: is_gone(pid), 'the old worker to be gone', 5)
        await ctx.check()
    pid = await warm(ctx, m, 'sleeper')
    job = await ctx.start(m, 'sleeper')
    os.kill(pid, signal.SIGSTOP)
    await cancelled(m, job)
    assert is_gone(pid)

def test_those_that_do_not_listen(): run_case(case_deaf)

async def case_command_pending(ctx):
    m = ctx.manager(config=PROMPT)
    for plugin, obeys in (('sleeper', False), ('polite', True)):
        m.worker_config.cancel_grace_seconds = 20 if obeys else 0
        pid = await warm(ctx, m, plugin)
        job = await ctx.start(m, plugin)
        await ctx.running(m, job)
        commands = [asyncio.create_task(c) for c in
                    (m.unload_plugin(plugin), m.reload_plugin('do', {'a': 1}), m.get_worker_state())]
        await asyncio.sleep(.02)
        assert not any(c.done() for c in commands)   # they wait behind the job
        await cancelled(m, job)
        async with asyncio.timeout(5): unloaded, reloaded, state = await asyncio.gather(*commands)
        assert (unloaded, reloaded) == (obeys, obeys) and (state is not None) == obeys
        if obeys: assert (state['pid'], state['current_config']) == (pid, {'a': 1})
        if obeys: assert plugin not in state['loaded_plugins']

def test_while_commands_are_pending(): run_case(case_command_pending)

# ---- Who goes on

async def case_policy(ctx, policy):
    m = ctx.manager(config={**PROMPT, 'restart_policy': policy, 'restart_backoff_base_seconds': 30})
    for i in range(8):
        pid = await warm(ctx, m, 'sleeper')
        job = await ctx.start(m, 'sleeper')
        assert job.status == 'running'
        behind = await ctx.start(m, 'echo') if i == 0 else None
        await cancelled(m, job)
        assert is_gone(pid)
        if i % 2: await asyncio.sleep(.002)
        after = await ctx.start(m, 'echo')       # accepted after the end: it is not one of those that waited
        await ctx.ended(after, 'completed', timeout=8)
        if behind is not None and policy == 'never':
            await ctx.ended(behind, 'failed', 'worker_crashed')
            assert 'cancel' in behind.error
        elif behind is not None: await ctx.ended(behind, 'completed', timeout=8)
    await ctx.check()
    pid = await warm(ctx, m, 'sleeper')
    job = await ctx.start(m, 'sleeper')
    await cancelled(m, job)
    if policy != 'never':                        # restarts at once, with what was loaded, and without being asked
        await ctx.until(lambda: m.worker_process and m.worker_process.state == 'ready', 'the restart', 8)
        assert m.worker_process.pid != pid
        assert 'sleeper' in (await m.get_worker_state())['loaded_plugins']
    else:
        await ctx.until(lambda: m.worker_process is None, 'the end of the worker')
        assert await m.get_worker_state() is None and not await m.unload_plugin('echo')

@pytest.mark.parametrize('policy', POLICIES)
def test_policies(policy): run_case(case_policy, policy)

async def case_caller_goes_away(ctx):
    "Who asked for the cancel does not wait for it, or its whole loop is gone when the answer comes."
    m = ctx.manager(config=PROMPT)
    await warm(ctx, m)
    for where in ('task', 'loop'):
        job = await deaf(ctx, m, DEAF)
        async def impatient(_: int = 0, job: Any = job) -> str:
            try: await asyncio.wait_for(m.cancel_job(job.id), .05)
            except TimeoutError: return 'went away'
            return 'waited'
        said = await impatient() if where == 'task' else (await in_threads(ctx, 1, impatient))[0]
        assert said == 'went away'
        await ctx.ended(job, 'cancelled')
        await ctx.check()

def test_the_caller_goes_away(): run_case(case_caller_goes_away)

class SlowExtract(Watched):
    "Does what an app should not do; the manager's thread is busy meanwhile."
    extracting = threading.Event()
    def extract_job_result(self, job: Any, data: Any) -> Any:
        if data.get('slow'):
            self.extracting.set()
            time.sleep(.4)
        return data

async def case_moves_to_another_worker(ctx):
    "The attempt that is to be cancelled fails, and its retry runs on another worker."
    m = ctx.manager(cls=SlowExtract, config={'max_workers': 2, 'cancel_grace_seconds': 0})
    await m.start()
    once = 'time.sleep(.2)\nif not os.path.exists(flag):\n  open(flag, "w").close()\n  raise ValueError\ntime.sleep(60)'
    flag = f'/tmp/flag-{os.getpid()}'
    try:
        job = await ctx.do(m, once, JobOptions(max_retries=1), flag=flag)
        await ctx.running(m, job)
        other = await ctx.do(m, 'time.sleep(.1)\nresult = {"nonce": nonce, "slow": True}')
        await ctx.until(m.extracting.is_set, 'the other to end')
        await asyncio.sleep(.2)                  # the job has raised, and nobody has read it
        async with asyncio.timeout(10): assert await m.cancel_job(job.id) is (job.status == 'cancelled')
    finally:
        if os.path.exists(flag): os.unlink(flag)
    await ctx.ended(job)
    await ctx.ended(other, 'completed')

def test_the_retry_runs_elsewhere(): run_case(case_moves_to_another_worker)

# ---- The model of the first job

async def case_first_job(ctx):
    "Its worker has loaded the plugin for this job, and no job has ended there that could have told so."
    m = ctx.manager(config={'cancel_grace_seconds': 0})
    job = await ctx.start(m, 'sleeper', seconds=60)
    await ctx.until(lambda: any(w['loaded'] == ['sleeper'] for w in m.get_stats()['workers']), 'the model')
    pid = job.worker_pid
    assert await m.cancel_job(job.id) is True
    def is_back(): return [w['loaded'] for w in m.get_stats()['workers'] if w['pid'] != pid] == [['sleeper']]
    await ctx.until(is_back, 'the model comes back before work is asked for')

def test_the_first_job_is_cancelled_and_its_model_comes_back(): run_case(case_first_job)
