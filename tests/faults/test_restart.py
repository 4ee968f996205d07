"Restart: which policy does what after which end; budgets, pauses, quarantine."
import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.errors import ManagerClosed, WorkerStartError
from tests.faults.harness import Case, run_case

POLICIES = ('never', 'on_cancellation', 'always', 'backoff')
ENDS = ('cancel', 'sigkill', 'start_up', 'timeout')
CRASH = 'os._exit(7)'
PROMPT = {'cancel_grace_seconds': 0, 'shutdown_timeout_seconds': .3}
BASE, MOST = .15, .24   # seconds: the first pause and the longest; bounds are generous: not ten times as late

class Breakable:
    "A worker that cannot be started while its file is there, and counts its starts in another."
    def __init__(self, path: str): self.flag, self.count = f'{path}/broken', f'{path}/starts'
    def init(self, what: str = 'os._exit(3)') -> str:
        return (f'open({self.count!r}, "a").write("%s\\n" % time.monotonic())\n'
                f'if os.path.exists({self.flag!r}): {what}')
    def breaks(self) -> None: open(self.flag, 'w').close()
    def repair(self) -> None: os.unlink(self.flag)
    def starts(self) -> list[float]:
        return [float(x) for x in open(self.count).read().split()] if os.path.exists(self.count) else []

def breakable_manager(ctx: Case, path: str, config: dict[str, Any], what: str = 'os._exit(3)') -> tuple[Any, Breakable]:
    b = Breakable(path)
    m = ctx.manager(plugins={'model': 'tests.faults.plugins:Do'}, configs={'model': {'init': b.init(what)}}, only=True,
                    config={'load_plugins': 'on_start', **PROMPT, **config})
    return m, b

async def model(ctx: Case, m: Any, code: str = '', options: JobOptions | None = None, **params: Any) -> Any:
    return await ctx.start(m, 'model', options, code=code, **params)

async def ready(ctx: Case, m: Any, timeout: float = 10) -> int:
    await ctx.until(lambda: m.worker_process is not None and m.worker_process.state == 'ready', 'a worker', timeout)
    return m.worker_process.pid

async def no_worker(ctx: Case, m: Any) -> None:
    await ctx.until(lambda: m.worker_process is None, 'the worker to be gone')

# ---- 16 cells

async def case_cell(ctx, policy, how, path):
    "One end, with a job waiting behind: what becomes of it, and does a worker come back unasked?"
    m, b = breakable_manager(ctx, path, {'restart_policy': policy, 'restart_backoff_base_seconds': BASE})
    if how == 'start_up':
        b.breaks()
        first, behind = await model(ctx, m), await ctx.start(m, 'echo')
        await ctx.until(b.starts, 'the first start')
        if policy == 'never': await ctx.ended(first, 'failed', 'start_failed')
        else: b.repair()
    else:
        await ctx.ended(await model(ctx, m), 'completed')
        pid = m.worker_process.pid
        begun = Path(path).with_suffix('.begun')
        first = await model(ctx, m, f'open({str(begun)!r}, "w").close(); time.sleep(60)',
                            JobOptions(timeout_seconds=.15) if how == 'timeout' else None)
        behind = await ctx.start(m, 'echo')
        if how == 'sigkill':   # once the job runs: one that was not begun would be taken back
            await ctx.until(begun.exists, 'the job to begin')
            os.kill(pid, signal.SIGKILL)
        if how == 'cancel': assert await m.cancel_job(first.id)
        await m.wait_for_job(first.id, 5)
        seen = first.status, first.fault
        assert seen == {'cancel': ('cancelled', None), 'sigkill': ('failed', 'worker_crashed'),
                        'timeout': ('failed', 'timed_out')}[how]
        if how == 'sigkill': assert first.exit_code == -9 and 'SIGKILL' in first.error
    later = await ctx.start(m, 'echo') if not (policy == 'never' and how == 'start_up') else None   # after the end
    if policy == 'never':
        await ctx.ended(behind, 'failed', 'start_failed' if how == 'start_up' else 'worker_crashed')
        assert behind.error and '\n' not in behind.error
        if later is None:
            assert len(b.starts()) == 1
            b.repair()
            later = await ctx.start(m, 'echo')
        await ctx.ended(later, 'completed')
    else:
        for job in (behind, later): await ctx.ended(job, 'completed')
        if how == 'start_up': await ctx.ended(first, 'completed')
    await ctx.check()
    # and with nothing to do
    pid = await ready(ctx, m)
    if how == 'sigkill': os.kill(pid, signal.SIGKILL)
    elif how != 'start_up':
        job = await model(ctx, m, 'time.sleep(60)', JobOptions(timeout_seconds=.15) if how == 'timeout' else None)
        if how == 'cancel': assert await m.cancel_job(job.id)
        await ctx.ended(job)
    else:
        b.breaks()
        os.kill(pid, signal.SIGKILL)
    await ctx.until(lambda: m.worker_process is None or m.worker_process.pid != pid, 'the end of the worker')
    comes_back = policy in ('always', 'backoff') or (policy == 'on_cancellation' and how == 'cancel')
    if comes_back and how != 'start_up': await ctx.until(lambda: m.worker_process, 'a new worker')
    if how == 'start_up': b.repair()
    if comes_back: assert await ready(ctx, m) != pid
    elif policy == 'never' or how in ('sigkill', 'start_up'):
        await asyncio.sleep(.15)
        assert m.worker_process is None
    if policy != 'never' or how == 'start_up': assert m.restart_count <= 6

@pytest.mark.parametrize('how', ENDS)
@pytest.mark.parametrize('policy', POLICIES)
def test_cells(policy, how, tmp_path): run_case(case_cell, policy, how, str(tmp_path))

# ---- Budgets

async def case_each_start_fails(ctx, path, policy, what):
    "Stops after the maximum; the next job tries afresh."
    attempts, rounds = (2, 1) if 'sleep' in what else (3, 2)
    m, b = breakable_manager(ctx, path, {
        'worker_start_timeout_seconds': 1 if 'sleep' in what else 20, 'max_restart_attempts': attempts,
        'restart_policy': policy, 'restart_backoff_base_seconds': BASE, 'restart_backoff_max_seconds': MOST}, what)
    b.breaks()
    for round_ in range(1, rounds + 1):
        jobs = [await model(ctx, m), await ctx.start(m, 'echo')]
        for job in jobs:
            await ctx.ended(job, 'failed', 'start_failed')
            assert job.error and '\n' not in job.error
        assert len(b.starts()) == attempts * round_
        if policy == 'backoff':
            a, c, d = b.starts()[-3:]
            assert BASE * .9 < c - a < BASE * 10 and MOST * .9 < d - c < MOST * 10, (c - a, d - c)   # doubled; capped
    await no_worker(ctx, m)
    if rounds > 1:
        with pytest.raises(WorkerStartError): await asyncio.wait_for(m.start(), 10)
    b.repair()
    await ctx.until(lambda: m.worker_process is None or m.worker_process.state == 'ready', 'rest')
    for job in (await model(ctx, m), await ctx.start(m, 'echo')): await ctx.ended(job, 'completed')

@pytest.mark.parametrize(('policy', 'what'), [('backoff', 'os._exit(3)'), ('always', 'os.kill(os.getpid(), 9)'),
                                              ('on_cancellation', 'time.sleep(60)')])
def test_each_start_fails(policy, what, tmp_path): run_case(case_each_start_fails, str(tmp_path), policy, what)

async def crash_with_one_behind(ctx: Case, m: Any) -> tuple[Any, Any]:
    "A job that crashes, but not before the other one waits."
    gate = ctx.folder/f'gate-{time.monotonic_ns()}'
    job = await ctx.do(m, f'while not os.path.exists({str(gate)!r}): time.sleep(.005)\n{CRASH}')
    behind = await ctx.start(m, 'echo')
    gate.touch()
    return job, behind

async def case_each_job_kills(ctx, policy):
    pauses = {'restart_backoff_base_seconds': BASE, 'restart_backoff_max_seconds': MOST}
    m = ctx.manager(config={'restart_policy': policy, **pauses})
    await ctx.warm(m)
    jobs = [await ctx.do(m, CRASH) for _ in range(3)] + [await ctx.start(m, 'echo') for _ in range(2)]
    for job in jobs: await ctx.ended(job, 'failed', 'worker_crashed')
    starts = [j.exit_code for j in jobs]
    assert starts[:3] == [7, 7, 7]
    assert [j.worker_pid is not None for j in jobs] == [True] * 3 + [False] * 2   # the last two were given up
    assert all('exit code 7' in j.error for j in jobs)
    if policy == 'backoff':
        ends = [time_of(j.completed_at) for j in jobs[:3]]
        assert ends[1] - ends[0] > BASE * .9 and ends[2] - ends[1] > MOST * .9
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')

def time_of(text: str) -> float:
    from datetime import datetime
    return datetime.fromisoformat(text).timestamp()

@pytest.mark.parametrize('policy', POLICIES[1:])
def test_each_job_kills(policy): run_case(case_each_job_kills, policy)

async def case_what_counts(ctx):
    "Cancels and timeouts are no crashes; a success begins a new count; a job that merely failed does not."
    m = ctx.manager(config={'restart_policy': 'on_cancellation', 'max_restart_attempts': 3, 'cancel_grace_seconds': 0})
    async def crash() -> None: await ctx.ended(await ctx.do(m, CRASH), 'failed', 'worker_crashed')
    async def stop(how: str) -> None:
        job = await ctx.do(m, 'time.sleep(60)', JobOptions(timeout_seconds=.05 if how == 'timeout' else None))
        if how == 'cancel':
            await ctx.running(m, job)
            assert await m.cancel_job(job.id)
        await ctx.ended(job, *(('cancelled',) if how == 'cancel' else ('failed', 'timed_out')))
    async def last_crash(is_last: bool) -> None:
        job, behind = await crash_with_one_behind(ctx, m)
        await ctx.ended(job, 'failed', 'worker_crashed')
        await ctx.ended(behind, *(('failed', 'worker_crashed') if is_last else ('completed',)))
    await ctx.warm(m)
    for _ in range(3): await stop('cancel')
    for _ in range(3): await stop('timeout')
    await last_crash(False)                           # three cancels, three timeouts, a crash; then a success
    for _ in range(3):
        await crash()
        await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    await crash()
    await crash()
    await stop('cancel')                              # leaves the count as it is
    await ctx.ended(await ctx.do(m, 'raise ValueError'), 'failed', 'plugin_error')
    await last_crash(True)
    await crash()                                     # a new count

def test_what_counts(): run_case(case_what_counts)

async def case_extremes(ctx):
    m = ctx.manager(config={'restart_policy': 'always', 'max_restart_attempts': 0})
    await ctx.warm(m)
    job, behind = await crash_with_one_behind(ctx, m)
    for j in (job, behind): await ctx.ended(j, 'failed', 'worker_crashed')
    patient = {'restart_policy': 'backoff', 'max_restart_attempts': 2000}
    m = ctx.manager(config={**patient, 'restart_backoff_base_seconds': 0})
    await ctx.warm(m)
    for _ in range(8): await ctx.ended(await ctx.do(m, CRASH), 'failed', 'worker_crashed')
    m = ctx.manager(config={**patient, 'restart_backoff_base_seconds': 1e300, 'restart_backoff_max_seconds': .01})
    await ctx.warm(m)
    for _ in range(4): await ctx.ended(await ctx.do(m, CRASH), 'failed', 'worker_crashed')

def test_no_attempts_and_no_pause(): run_case(case_extremes)

async def case_never_and_retries(ctx):
    "Without a worker there is no second attempt; one that needs no new worker is made."
    m = ctx.manager(config={'restart_policy': 'never', 'restart_backoff_base_seconds': .05})
    pid = await ctx.warm(m)
    job = await ctx.do(m, 'raise ValueError', JobOptions(max_retries=1))
    await ctx.ended(job, 'failed', 'plugin_error')
    assert job.attempt == 2 and m.worker_process.pid == pid
    job = await ctx.do(m, CRASH, JobOptions(max_retries=1))
    await ctx.ended(job, 'failed', 'worker_crashed')
    await asyncio.sleep(.2)
    assert m.worker_process is None and m.restart_count == 0

def test_never_and_retries(): run_case(case_never_and_retries)

# ---- Quarantine

async def case_quarantine(ctx, how):
    m = ctx.manager(config={'restart_policy': 'always', 'restart_backoff_base_seconds': .05})   # also between attempts
    await ctx.warm(m)
    job = await ctx.do(m, {'segv': 'os.kill(os.getpid(), 11)', 'kill': 'os.kill(os.getpid(), 9)'}[how],
                       JobOptions(max_retries=10))
    others = [await ctx.start(m, 'echo', n=i) for i in range(3)]
    await ctx.ended(job, 'failed', 'quarantined')
    assert job.attempt == 2 and job.exit_code == {'segv': -11, 'kill': -9}[how] and '\n' not in job.error
    for o in others: await ctx.ended(o, 'completed')
    await ctx.check()
    job = await ctx.do(m, CRASH)                      # without retries it is a crash
    await ctx.ended(job, 'failed', 'worker_crashed')
    assert job.attempt == 1
    pid = await ctx.warm(m)
    job = await ctx.do(m, 'raise ValueError("again")', JobOptions(max_retries=2))
    await ctx.ended(job, 'failed', 'plugin_error')    # it kills nobody: all its attempts
    assert job.attempt == 3 and m.worker_process.pid == pid
    job = await ctx.do(m, 'time.sleep(60)', JobOptions(max_retries=2, timeout_seconds=.05))
    m.worker_config.cancel_grace_seconds = 0
    await ctx.ended(job, 'failed', 'timed_out')
    assert job.attempt == 1

@pytest.mark.parametrize('how', ['segv', 'kill'])
def test_quarantine(how): run_case(case_quarantine, how)

# ---- In a pause

async def case_in_a_pause(ctx, what):
    m = ctx.manager(config={'restart_policy': 'backoff', 'restart_backoff_base_seconds': 1 if what == 'start' else 60})
    await ctx.warm(m)
    job, behind = await crash_with_one_behind(ctx, m)
    await ctx.ended(job, 'failed', 'worker_crashed')
    await no_worker(ctx, m)
    begun = time.monotonic()
    later = [await ctx.start(m, 'echo') for _ in range(2)]
    assert [j.status for j in (behind, *later)] == ['pending'] * 3
    assert await m.get_worker_state() is None and await m.unload_plugin('echo') is False
    assert await m.reload_plugin('do', {'a': 1}) is False          # kept for the next worker
    assert await m.cancel_job(behind.id) is True and behind.status == 'cancelled'
    assert time.monotonic() - begun < 5
    if what == 'start':
        tickets = [asyncio.create_task(m.start()) for _ in range(2)]
        async with asyncio.timeout(8): await asyncio.gather(*tickets)
        for j in later: await ctx.ended(j, 'completed')
        assert m.restart_count == 1
        await ctx.ended(await ctx.do(m, ''), 'completed')
        assert (await m.get_worker_state())['current_config'] == {'a': 1}
    if what == 'close':
        ticket = asyncio.create_task(m.start())
        await asyncio.sleep(.02)
        async with asyncio.timeout(5): await m.aclose()
        async with asyncio.timeout(5):
            with pytest.raises((WorkerStartError, ManagerClosed)): await ticket
    if what == 'shutdown':
        begun = time.monotonic()
        m.shutdown()
        assert time.monotonic() - begun < 5
    if what != 'start':
        for j in later: await ctx.ended(j, 'cancelled')
        with pytest.raises(ManagerClosed): await m.start_job('echo')
    assert time.monotonic() - begun < 10

@pytest.mark.parametrize('what', ['start', 'close', 'shutdown'])
def test_in_a_pause(what): run_case(case_in_a_pause, what)

async def case_closed(ctx):
    for used in (False, True):
        m = ctx.manager()
        if used: await ctx.warm(m)
        await m.aclose()
        async with asyncio.timeout(5):
            with pytest.raises((ManagerClosed, WorkerStartError)): await m.start()
            with pytest.raises(ManagerClosed): await m.start_job('echo')
            assert await m.get_worker_state() is None

def test_start_of_a_closed_manager(): run_case(case_closed)

# ---- What comes back

async def case_warm(ctx, how):
    "The last accepted configuration, and what was loaded, before work is asked for."
    m = ctx.manager(config={'restart_policy': 'always', 'cancel_grace_seconds': 0})
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'pid'), 'completed')
    assert await m.reload_plugin('pid', {'model': 'b'}) is True
    assert await m.unload_plugin('echo') in (True, False)
    if how == 'crash': os.kill(pid, signal.SIGKILL)
    else:
        job = await ctx.do(m, 'time.sleep(60)')
        await ctx.running(m, job)
        assert await m.cancel_job(job.id)
    await ctx.until(lambda: (w := m.worker_process) and w.pid != pid and w.state == 'ready', 'a worker')
    state = await m.get_worker_state()
    assert sorted(state['loaded_plugins']) == ['do', 'pid'] and state['pid'] != pid
    job = await ctx.start(m, 'pid')
    await ctx.ended(job, 'completed')
    assert job.result['config'] == {'model': 'b'} and job.result['pid'] == state['pid']

@pytest.mark.parametrize('how', ['crash', 'cancel'])
def test_it_comes_back_warm(how): run_case(case_warm, how)
