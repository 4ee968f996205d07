"""Several workers, spares, retries, replacement and backpressure.

FAULTS_POOL_JOBS is the size of the campaign; FAULTS_SEED repeats one (it is printed).
"""
import asyncio
import collections
import contextlib
import functools
import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.worker import base_worker_process
from cjm_fasthtml_workers.managers import base
from tests.faults import plugins
from tests.faults.harness import END_SECONDS, TERMINAL, App, Case, Watched, run_case

JOBS = int(os.environ.get('FAULTS_POOL_JOBS', 150))
SEED = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
PROMPT = {'cancel_grace_seconds': 0, 'shutdown_timeout_seconds': 1}
FAST = {'restart_backoff_base_seconds': .05, **PROMPT}   # also the pause before another attempt

# ---- What the cases have in common

def workers(m: Any) -> list[dict[str, Any]]: return m.get_stats()['workers']
def pids(m: Any) -> list[int]: return [w['pid'] for w in workers(m) if w['state'] == 'ready']
def kill(pid: int) -> None: os.kill(pid, signal.SIGKILL)

async def pool(ctx: Case, n: int, plugins: dict[str, str] | None = None, cls: type = Watched, **config: Any) -> Any:
    "A manager with `n` workers, all of them ready."
    m = ctx.manager(plugins, cls=cls, config={'max_workers': n, **PROMPT, **config})
    await m.start()
    assert len(set(pids(m))) == n
    return m

async def begun(ctx: Case, m: Any, code: str, options: JobOptions | None = None, **params: Any) -> Any:
    "A job whose code is running: nobody can take it back."
    file = ctx.folder/f'begun-{uuid.uuid4().hex}'
    job = await ctx.act(m, f'open({str(file)!r}, "w").close()\n{code}', options, **params)
    await ctx.until(file.exists, 'it to begin')
    return job

async def gated(ctx: Case, m: Any, gate: Path) -> Any:
    "A running job that goes on when `gate` is there; its result has the pid."
    code = 'while not os.path.exists(gate): time.sleep(.005)\nresult["pid"] = os.getpid()'
    return await begun(ctx, m, code, gate=str(gate))

async def run(ctx: Case, m: Any, plugin: str = 'act', status: str = 'completed', **params: Any) -> Any:
    "A job that has ended; by default it gives its pid."
    if plugin in ('act', 'do'): params.setdefault('code', 'result["pid"] = os.getpid()')
    return await ctx.ended(await ctx.start(m, plugin, **params), status)

def spares(m: Any) -> list[psutil.Process]:
    "Workers that are no workers yet."
    known = {w['pid'] for w in workers(m)}
    found = []
    for p in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if p.pid not in known and 'child_main' in ' '.join(p.cmdline()): found.append(p)
    return found

def spares_sooner(seconds: float = .3) -> None:
    "Start spares so long after a worker is ready; it is a second otherwise."
    assert hasattr(base, '_STANDBY_DELAY_SECONDS')
    base._STANDBY_DELAY_SECONDS = seconds

def preload(ctx: Case) -> str:
    "The name of a module that notes what it sees when it is imported, and by whom."
    (ctx.folder/'fault_preload.py').write_text(
        f'import os\nWHO = os.environ.get("FAULT_WHO")\n'
        f'open({str(ctx.folder)!r} + f"/imported-{{os.getpid()}}", "w").close()\n')
    sys.path.insert(0, str(ctx.folder))   # a worker gets it from here
    return 'fault_preload'

# ---- Who gets a job, and which

async def case_choice(ctx):
    m = await pool(ctx, 3)
    a, b, c = [(await run(ctx, m, p, **kw)).worker_pid for p, kw in
               (('pid', {}), ('echo', {}), ('sleeper', {'seconds': 0}))]
    assert len({a, b, c}) == 3   # who has never worked comes first
    for p, kw, who in (('sleeper', {'seconds': 0}, c), ('pid', {}, a), ('echo', {}, b), ('pid', {}, a)):
        assert (await run(ctx, m, p, **kw)).worker_pid == who, p   # who has it loaded, however recently used
    assert (await run(ctx, m, 'act')).worker_pid == c   # nobody has it: used least recently
    assert (await run(ctx, m, 'streamer')).worker_pid == b
    job = await ctx.start(m, 'pid')
    busy = await gated(ctx, m, ctx.folder/'gate')   # 'act' is at `c`
    assert (await ctx.ended(job, 'completed')).worker_pid == a and busy.worker_pid == c
    assert (await run(ctx, m, 'act')).worker_pid in (a, b)   # who has it loaded is busy: it does not wait for that one
    (ctx.folder/'gate').touch()
    await ctx.ended(busy, 'completed')
    loaded = {w['pid']: set(w['loaded']) for w in workers(m)}
    assert {'pid'} <= loaded[a] and {'echo', 'streamer'} <= loaded[b] and {'sleeper', 'act'} <= loaded[c]
    done = {w['pid']: w['jobs_done'] for w in workers(m)}
    assert sum(done.values()) == 12 and min(done.values()) >= 3

async def case_order(ctx):
    m, gate = await pool(ctx, 2), ctx.folder/'gate'
    stream, started = m.events(), []
    busy = [await gated(ctx, m, gate) for _ in range(2)]
    assert m.get_stats()['running'] == 2
    wanted = []
    for i, priority in enumerate((0, 5, -3, 5, 0, 9, -3, 0)):
        job = await ctx.start(m, 'echo', JobOptions(priority=priority), n=i)
        wanted.append((-priority, i, job))
    assert m.get_stats()['backlog'] == 8 and m.get_stats()['running'] == 2
    assert await m.cancel_job(wanted.pop(4)[2].id)
    gate.touch()
    for *_, job in wanted: await ctx.ended(job, 'completed')
    for job in busy: await ctx.ended(job, 'completed')
    while len(started) < 9:
        event = await anext(stream)
        if event.type == 'jobs:started': started.append(event.data['job_id'])
    await stream.aclose()
    assert started[2:] == [job.id for *_, job in sorted(wanted, key=lambda w: w[:2])]
    assert m.get_stats()['backlog'] == 0 and m.get_stats()['running'] == 0

@pytest.mark.parametrize('case', [case_choice, case_order])
def test_who_gets_what(case): run_case(case)

async def case_as_needed(ctx):
    m = ctx.manager(config={'max_workers': 3, **PROMPT})
    for _ in range(3): await run(ctx, m)
    assert len(workers(m)) == 1   # one at a time needs one
    jobs = [await gated(ctx, m, ctx.folder/'gate') for _ in range(3)]
    late = await ctx.start(m, 'echo')
    assert len({j.worker_pid for j in jobs}) == len(workers(m)) == 3 and late.status == 'pending'
    (ctx.folder/'gate').touch()
    for job in (*jobs, late): await ctx.ended(job, 'completed')

def test_as_many_as_are_needed(): run_case(case_as_needed)

# ---- What happens to one leaves the others alone

async def case_alone(ctx, what):
    m, gate = await pool(ctx, 3), ctx.folder/'gate'
    others = [await gated(ctx, m, gate) for _ in range(2)]
    before = {w['pid']: (w['generation'], w['restarts']) for w in workers(m)}
    victim = await begun(ctx, m, 'time.sleep(60)')
    pid = victim.worker_pid
    queued = [await ctx.start(m, 'echo', n=i) for i in range(3)]
    if what == 'crash':
        kill(pid)
        await ctx.ended(victim, 'failed', 'worker_crashed')
    elif what == 'cancel': assert await m.cancel_job(victim.id)
    else:
        timed = await ctx.act(m, 'time.sleep(60)', JobOptions(timeout_seconds=.05, priority=1))
        assert await m.cancel_job(victim.id)
        await ctx.ended(timed, 'failed', 'timed_out')
    for job in queued: await ctx.ended(job, 'completed')
    new = {w['pid']: (w['generation'], w['restarts']) for w in workers(m)}
    kept = {j.worker_pid for j in others}
    assert {p: new[p] for p in kept} == {p: before[p] for p in kept} == dict.fromkeys(kept, (1, 0))
    assert [j.status for j in others] == ['running'] * 2 and pid not in new
    (generation, restarts), = (v for p, v in new.items() if p not in kept)
    assert generation == restarts + 1 == (3 if what == 'timeout' else 2)
    gate.touch()
    for job in others: assert (await ctx.ended(job, 'completed')).result['pid'] == job.worker_pid

@pytest.mark.parametrize('what', ['crash', 'cancel', 'timeout'])
def test_the_others_do_not_notice(what): run_case(case_alone, what)

async def case_budgets(ctx):
    m = await pool(ctx, 2, max_restart_attempts=2, restart_policy='always')
    first, second = pids(m)
    async def replaced(pid): await ctx.until(lambda: pid not in pids(m) and len(pids(m)) == 2, 'a new worker')
    for pid in (first, second):   # two failures, but one each
        kill(pid)
        await replaced(pid)
    assert [w['restarts'] for w in workers(m)] == [1, 1] and m.restart_count == 2
    third, fourth = [w['pid'] for w in workers(m)]
    kill(third)
    await ctx.until(lambda: len(workers(m)) == 1, 'the first place to give up')
    assert pids(m) == [fourth]
    job = await run(ctx, m)
    assert job.worker_pid == fourth and m.restart_count == 2   # it is enough for this
    jobs = [await gated(ctx, m, ctx.folder/'gate') for _ in range(2)]   # not for this: the place is tried afresh
    assert jobs[0].worker_pid == fourth and jobs[1].worker_pid not in (first, second, third, fourth)
    (ctx.folder/'gate').touch()

def test_restart_budgets_are_each_worker_s_own(): run_case(case_budgets)

class FromFactory(Watched):
    flag = code = ''
    def get_worker_entry_point(self):
        factory = functools.partial(plugins.Factory, self.plugins, self.flag, 'factory', self.code)
        return functools.partial(base_worker_process, plugin_manager_factory=factory, supports_streaming=True)

async def case_out_of_step(ctx, policy):
    "The workers fail to start, each at its own pace: that must come to an end, too."
    flag, deaths = ctx.folder/'flag', []
    flag.touch()
    FromFactory.flag = str(flag)
    FromFactory.code = 'time.sleep(float(os.environ["FAULT_PAUSE"])); raise ValueError("never")'
    env = [{'FAULT_PAUSE': str(p)} for p in (.03, .05, .13, .18)]
    m = ctx.manager(cls=FromFactory, only=True,
                    config={'max_workers': 4, 'worker_env': env, 'restart_policy': policy, **FAST})
    ctx.unusable.add(m)
    stream = m.events()
    async def count():
        async for event in stream:
            if event.type == 'jobs:worker_stopped': deaths.append(event)
    counting = asyncio.create_task(count())
    jobs = [await ctx.start(m, 'echo') for _ in range(4)]
    for job in jobs: await ctx.ended(job, 'failed', 'start_failed')
    flag.unlink()   # repaired
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    ctx.unusable.clear()
    await stream.aclose()
    await counting
    assert len(deaths) <= 12, f'{len(deaths)} starts failed; 4 places have 3 each'

@pytest.mark.parametrize('policy', ['on_cancellation', 'always', 'backoff', 'never'])
def test_several_that_cannot_start_give_up(policy): run_case(case_out_of_step, policy)

# ---- Commands

async def case_commands(ctx):
    m, gate = await pool(ctx, 2), ctx.folder/'gate'
    async def everywhere(plugin):   # a job for each worker, at the same time
        jobs = [await ctx.start(m, plugin) for _ in range(2)]
        for j in jobs: await ctx.ended(j, 'completed')
        return jobs
    for _ in range(50):
        if all('pid' in w['loaded'] for w in workers(m)): break
        await everywhere('pid')
    assert await m.reload_plugin('pid', {'n': 1}) is True
    assert all('pid' in w['loaded'] for w in workers(m))
    seen = {}
    while len(seen) < 2: seen |= {j.result['pid']: j.result['config'] for j in await everywhere('pid')}
    assert list(seen.values()) == [{'n': 1}] * 2
    busy = await gated(ctx, m, gate)
    task = asyncio.create_task(m.unload_plugin('pid'))   # behind the running job
    await asyncio.sleep(.05)
    assert not task.done()
    gate.touch()
    assert await task is True
    await ctx.ended(busy, 'completed')
    assert not any('pid' in w['loaded'] for w in workers(m))
    busy = await gated(ctx, m, ctx.folder/'never')
    task = asyncio.create_task(m.reload_plugin('pid', {'n': 2}))
    await asyncio.sleep(.02)
    kill(busy.worker_pid)
    async with asyncio.timeout(END_SECONDS): assert await task is False   # one of them did not do it
    await ctx.ended(busy, 'failed', 'worker_crashed')

async def case_reload_and_restart(ctx):
    "A worker that starts while a reload waits behind the job of another one has the new configuration afterwards, too."
    m, gate = await pool(ctx, 2, restart_policy='always'), ctx.folder/'gate'
    busy = await gated(ctx, m, gate)
    other, = set(pids(m)) - {busy.worker_pid}
    task = asyncio.create_task(m.reload_plugin('pid', {'n': 1}))
    await ctx.until(lambda: any('pid' in w['loaded'] for w in workers(m)), 'the idle one to have it')
    kill(other)
    await ctx.until(lambda: len(set(pids(m)) - {other}) == 2, 'a new worker')
    second = await gated(ctx, m, ctx.folder/'gate2')   # on the new one, so that
    gate.touch()
    await ctx.ended(busy, 'completed')
    accepted = await task
    (ctx.folder/'gate2').touch()
    await ctx.ended(second, 'completed')
    seen = {}
    for _ in range(50):
        jobs = [await ctx.start(m, 'pid'), await ctx.start(m, 'pid')]
        seen |= {(await ctx.ended(j, 'completed')).result['pid']: j.result['config'] for j in jobs}
        if len(seen) == 2: break
    assert accepted and list(seen.values()) == [{'n': 1}] * len(seen), (accepted, seen)

@pytest.mark.parametrize('case', [case_commands, case_reload_and_restart])
def test_commands_go_to_all(case): run_case(case)

# ---- The environment

async def case_env(ctx):
    name = preload(ctx)
    code = f'import {name}; result |= {{"pid": os.getpid(), "who": {name}.WHO, "now": os.environ.get("FAULT_WHO")}}'
    config = {'preload_modules': [name], **PROMPT}
    own = ctx.manager(config={'max_workers': 2, 'worker_env': [{'FAULT_WHO': 'a'}, {'FAULT_WHO': 'b'}], **config})
    common = ctx.manager(config={'max_workers': 2, 'worker_env': {'FAULT_WHO': 'c'}, **config})
    def place(m, job): return next((w['worker'] for w in workers(m) if w['pid'] == job.worker_pid), None)
    for m, wanted in ((own, 'ab'), (common, 'cc')):
        await m.start()
        seen = {}
        for i in range(2):   # the second time in new workers
            gate = ctx.folder/f'{wanted}{i}'
            wait = f'\nwhile not os.path.exists({str(gate)!r}): time.sleep(.002)'
            jobs = [await ctx.act(m, code + wait) for _ in range(2)]
            await ctx.until(lambda: all(j.status == 'running' for j in jobs), 'both to run')   # noqa: B023
            gate.touch()
            for job in jobs:
                await ctx.ended(job, 'completed')
                assert job.result['who'] == job.result['now']
                seen[job.worker_pid] = wanted[place(m, job)], job.result['who']
            for job in jobs: kill(job.worker_pid)
            await ctx.until(lambda: not pids(m), 'their end')   # noqa: B023
        assert len(seen) == 4 and all(a == b for a, b in seen.values()), seen
    assert 'FAULT_WHO' not in os.environ

def test_the_environment_is_there_before_anything_is_imported(): run_case(case_env)

# ---- All at once

KINDS = {
    'echo': {}, 'pid': {}, 'streamer': {'n': 20}, 'sleeper': {'seconds': .01}, 'polite': {'seconds': .01},
    'act': {'code': 'result["pid"] = os.getpid(); time.sleep(.003)'}, 'do': {'code': 'raise ValueError("mine")'}}

async def case_campaign(ctx, seed, n, config):
    rnd = random.Random(seed)
    config = {**FAST, 'cancel_grace_seconds': .3, 'max_restart_attempts': 10**6, 'max_finished_jobs': None, **config}
    m = await pool(ctx, 3, **config)
    jobs, answers, kills, cancels = [], {}, 0, []
    async def cancel(job):
        await asyncio.sleep(rnd.random() * .03)
        said = await m.cancel_job(job.id)
        answers[job.id] = answers.get(job.id, False) or said   # two may ask
    for _ in range(n):
        kind = rnd.choice(list(KINDS))
        options = JobOptions(priority=rnd.randrange(3), max_retries=rnd.choice((0, 0, 1)))
        jobs.append((kind, options, await ctx.start(m, kind, options, **KINDS[kind])))
        if rnd.random() < .1: cancels += [asyncio.create_task(cancel(jobs[-1][-1])) for _ in range(rnd.choice((1, 2)))]
        if rnd.random() < .08 and (ready := pids(m)):
            with contextlib.suppress(ProcessLookupError): kill(rnd.choice(ready))
            kills += 1
        while m.get_stats()['backlog'] > 10: await asyncio.sleep(.002)
    for *_, job in jobs: await ctx.ended(job)
    await asyncio.gather(*cancels)   # who was told of the end hears the answer a little later
    for kind, options, job in jobs:
        assert (job.status == 'cancelled') == answers.get(job.id, False), f'{job}, and cancel said {answers}'
        assert job.attempt <= 1 + options.max_retries
        if job.status == 'completed': assert kind != 'do' and job.result.get('n', 20) == 20
        elif job.status == 'failed':
            assert job.fault in ('worker_crashed', 'quarantined') or (job.fault == 'plugin_error' and kind == 'do'), job
            assert job.fault != 'quarantined' or job.attempt == 2
            assert job.fault == 'plugin_error' or job.exit_code == -9
    crashed = sum(1 + (j.fault == 'quarantined') for *_, j in jobs if j.fault in ('worker_crashed', 'quarantined'))
    assert crashed <= kills, f'{crashed} attempts crashed, but {kills} workers were killed'
    assert m.get_stats()['backlog'] == 0 and m.get_stats()['running'] == 0
    return {'jobs': dict(collections.Counter(j.status for *_, j in jobs)), 'kills': kills}

@pytest.mark.parametrize('config', [{}, {'max_jobs_per_worker': 7, 'standby_workers': 1, 'restart_policy': 'always'}],
                         ids=['plain', 'everything'])
def test_campaign(config):
    print('seed', SEED)
    print(run_case(case_campaign, SEED, JOBS, config, timeout=60 + JOBS / 10))

# ---- Replacement

async def case_recycle_by_jobs(ctx):
    m = ctx.manager(config={'max_workers': 2, 'max_jobs_per_worker': 3, **PROMPT})
    jobs = [await ctx.act(m, 'result["pid"] = os.getpid()') for _ in range(20)]   # with others waiting
    for job in jobs: await ctx.ended(job, 'completed')
    for _ in range(7): jobs.append(await run(ctx, m))   # with nobody waiting
    count = collections.Counter(j.result['pid'] for j in jobs)
    assert max(count.values()) == 3, f'jobs of each worker: {list(count.values())}'
    assert len(count) <= 11 and all(j.attempt == 1 for j in jobs)

async def case_replaced_meanwhile(ctx, policy):
    "Jobs that are accepted at every moment of a replacement."
    m = ctx.manager(config={'max_jobs_per_worker': 1, 'restart_policy': policy, 'max_restart_attempts': 1, **PROMPT})
    await m.start()
    rnd, jobs = random.Random(SEED), []
    for _ in range(10):
        jobs.append(await ctx.act(m, 'result["pid"] = os.getpid()'))
        end = time.perf_counter() + rnd.random() * .004
        await m.wait_for_job(jobs[-1].id)
        while time.perf_counter() < end: await asyncio.sleep(0)
        if rnd.random() < .3: await m.cancel_job((await ctx.start(m, 'echo')).id)
    for job in jobs: await ctx.ended(job, 'completed')
    assert len({j.worker_pid for j in jobs}) == len(jobs)
    assert all(j.result['pid'] == j.worker_pid for j in jobs)

async def case_never_during(ctx):
    config = {'max_jobs_per_worker': 2, 'shutdown_timeout_seconds': .3, 'cancel_grace_seconds': 0}
    m = ctx.manager({'slow': 'tests.faults.test_pool:SlowUnload'}, config=config)
    pid = (await run(ctx, m)).worker_pid
    job = await ctx.start(m, 'slow', seconds=.4, text='long')   # longer than any patience of a replacement
    late = [await ctx.start(m, 'slow', seconds=0, text=f'{i}') for i in range(4)]
    command = asyncio.create_task(m.get_worker_state())
    await ctx.ended(job, 'completed')
    assert job.worker_pid == pid and job.result['text'] == 'long'
    state = await command
    assert state is None or state['pid']
    for j in late: assert (await ctx.ended(j, 'completed')).worker_pid != pid
    assert len({j.worker_pid for j in late}) == 2 and m.restart_count <= 3

class SlowUnload:
    def __init__(self, config): pass
    def execute(self, seconds, text, nonce=None):
        time.sleep(seconds)
        return {'nonce': nonce, 'text': text}
    def unload(self): time.sleep(.1)

async def case_recycle_by_rss(ctx):
    m = await pool(ctx, 1, max_worker_rss_mb=120)
    pid, = pids(m)
    assert 1 < workers(m)[0]['rss_mb'] < 60
    for _ in range(3): assert (await run(ctx, m)).worker_pid == pid
    passing = 'x = b"x" * (200 << 20); time.sleep(.1); result["pid"] = os.getpid(); del x'
    assert (await run(ctx, m, code=passing)).result['pid'] == pid
    assert (await run(ctx, m)).worker_pid == pid   # it is what it holds between jobs that counts
    keeping = 'import builtins; builtins.kept = b"x" * (200 << 20); time.sleep(.1); result["pid"] = os.getpid()'
    large = await ctx.act(m, keeping)
    late = [await ctx.act(m, 'result["pid"] = os.getpid()') for _ in range(3)]
    assert (await ctx.ended(large, 'completed')).result['pid'] == pid
    for job in late: await ctx.ended(job, 'completed')
    assert [j.worker_pid == pid for j in late] == [False] * 3, 'a worker that has grown went on'
    assert m.restart_count == 1

@pytest.mark.parametrize(('case', 'args'), [
    (case_recycle_by_jobs, ()), (case_replaced_meanwhile, ('on_cancellation',)), (case_replaced_meanwhile, ('never',)),
    (case_never_during, ()), (case_recycle_by_rss, ())])
def test_workers_are_replaced_between_jobs(case, args): run_case(case, *args)

async def case_closed_meanwhile(ctx, seed):
    "A shutdown at any moment of replacements, promotions and pauses."
    rnd = random.Random(seed)
    for i in range(10):
        config = {'standby_workers': i % 2, 'restart_policy': 'always', 'restart_backoff_base_seconds': .01, **PROMPT}
        m = ctx.manager(config={'max_workers': 2, 'max_jobs_per_worker': 1, **config})
        await m.start()
        jobs = [await ctx.act(m, code, JobOptions(max_retries=2)) for code in ('pass', '1 / 0', 'os._exit(3)', 'pass')]
        await asyncio.sleep(rnd.random() * .1)
        async with asyncio.timeout(END_SECONDS): await m.aclose()
        for job in jobs:
            assert job.fault in (None, 'interrupted', 'plugin_error', 'worker_crashed', 'quarantined'), job
            assert job.fault != 'worker_crashed' or job.exit_code == 3, f'{job}: {job.error}'

def test_closed_meanwhile(): run_case(case_closed_meanwhile, SEED)

class Slow(Watched):
    "Takes its time over results: meanwhile the supervisor sees nothing."
    def extract_job_result(self, job, result_data):
        time.sleep(result_data.get('slow', 0))
        return result_data

async def case_dead_between(ctx):
    "A worker dies after its result and before the next job could reach it: that job is innocent."
    m = await pool(ctx, 1, cls=Slow)
    code = 'import threading; threading.Timer(.05, os._exit, (7,)).start(); result["slow"] = .2'
    first = await ctx.act(m, code)
    second = await ctx.start(m, 'echo')
    await ctx.ended(first, 'completed')
    await ctx.ended(second, 'completed')

async def case_dead_idle(ctx):
    "A worker dies before it has read the job that it was given."
    m = await pool(ctx, 1)
    for _ in range(2):
        await run(ctx, m, 'echo')
        pid, = pids(m)
        os.kill(pid, signal.SIGSTOP)
        await ctx.until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 'it to stop')   # noqa: B023
        jobs = [await ctx.start(m, 'echo', n=i) for i in range(3)]
        assert jobs[0].worker_pid == pid
        kill(pid)
        for job in jobs: await ctx.ended(job, 'completed')
        assert [j.attempt for j in jobs] == [1] * 3
        assert [j.started_at for j in jobs] == sorted(j.started_at for j in jobs)   # it kept its place

@pytest.mark.parametrize('case', [case_dead_between, case_dead_idle])
def test_a_job_is_not_given_to_the_dead(case): run_case(case)

# ---- Spares

async def case_standby(ctx):
    spares_sooner()
    name = preload(ctx)
    config = {'standby_workers': 1, 'preload_modules': [name], 'worker_env': {'FAULT_WHO': 'me'}}
    m = ctx.manager(config={**config, **PROMPT})
    m._plugin_configs['act'] = {'init': f'open({str(ctx.folder)!r} + f"/loaded-{{os.getpid()}}", "w")'}
    async def spare():
        p = (await ctx.until(lambda: spares(m), 'a spare'))[0]
        await ctx.until((ctx.folder/f'imported-{p.pid}').exists, 'the spare to have imported its modules')
        assert len(spares(m)) == 1
        return p
    await run(ctx, m)
    assert not spares(m)   # not at a busy moment
    first = await spare()
    assert not (ctx.folder/f'loaded-{first.pid}').exists()
    job = await ctx.act(m, 'time.sleep(60)')
    await ctx.running(m, job)
    assert await m.cancel_job(job.id)
    job = await run(ctx, m, code=f'import {name}; result |= {{"pid": os.getpid(), "who": {name}.WHO}}')
    assert job.result['pid'] == first.pid == job.worker_pid and job.result['who'] == 'me'   # promoted by a cancel
    assert (ctx.folder/f'loaded-{first.pid}').exists()
    assert not spares(m)
    second = await spare()
    crash = await ctx.act(m, 'os.abort()')
    late = await ctx.act(m, 'result["pid"] = os.getpid()')
    await ctx.ended(crash, 'failed', 'worker_crashed')
    assert (await ctx.ended(late, 'completed')).result['pid'] == second.pid   # by a crash
    third = await spare()
    count = m.restart_count
    job = await gated(ctx, m, ctx.folder/'gate')
    third.kill()
    await ctx.until(lambda: not third.is_running(), 'the spare to be dead')
    (ctx.folder/'gate').touch()
    await ctx.ended(job, 'completed')
    assert m.restart_count == count == 2 and job.worker_pid == second.pid
    kill(second.pid)
    await ctx.until(lambda: not workers(m), 'the worker to be gone')
    assert (await run(ctx, m)).worker_pid not in (second.pid, third.pid)
    await spare()   # and there it is at the end

async def case_standby_is_replaced(ctx):
    "A spare that died is replaced, too: the next cancel should not be the one that pays."
    m = await pool(ctx, 1, standby_workers=1)
    (await ctx.until(lambda: spares(m), 'a spare'))[0].kill()
    await ctx.until(lambda: not spares(m), 'its end')
    await ctx.until(lambda: spares(m), 'another spare')

async def case_standby_dead_too(ctx, policy):
    "A worker and its spare are killed at the same moment: the spare's death is no failure of the place."
    spares_sooner()
    m = await pool(ctx, 1, standby_workers=1, restart_policy=policy, max_restart_attempts=2)
    for _ in range(3):
        spare = (await ctx.until(lambda: spares(m), 'a spare'))[0].pid
        busy = await begun(ctx, m, 'time.sleep(60)')
        pid = busy.worker_pid
        late = await ctx.start(m, 'echo')
        spare_first = random.random() < .3
        for p in (spare, pid) if spare_first else (pid, spare): kill(p)
        await ctx.ended(busy, 'failed', 'worker_crashed')
        await ctx.ended(late, 'completed')   # and the place starts afresh, with a spare to come

async def case_standby_places(ctx):
    "Each place has an environment of its own, and each its spare, also later on."
    spares_sooner()
    m = await pool(ctx, 2, standby_workers=2, worker_env=[{'FAULT_WHO': 'a'}, {'FAULT_WHO': 'b'}])
    def who(): return sorted(p.environ().get('FAULT_WHO', '') for p in spares(m))
    await ctx.until(lambda: who() == ['a', 'b'], 'two spares')
    for _ in range(2):   # the same place loses its worker twice
        known = {p.pid for p in spares(m)}
        jobs = [await gated(ctx, m, ctx.folder/'gate') for _ in range(2)]
        victim = next(j for j in jobs if j.worker_pid == workers(m)[0]['pid'])
        assert await m.cancel_job(victim.id)
        await ctx.until(lambda: len(pids(m)) == 2, 'a new worker')
        assert workers(m)[0]['pid'] in known
        (ctx.folder/'gate').touch()
        for job in jobs: await ctx.ended(job)
        (ctx.folder/'gate').unlink()
        await ctx.until(lambda: len(spares(m)) == 2 and '' not in who(), 'two spares again')
        assert who() == ['a', 'b'], f'the spares are for {who()}'

@pytest.mark.parametrize(('case', 'args'), [
    (case_standby, ()), (case_standby_is_replaced, ()), (case_standby_dead_too, ('on_cancellation',)),
    (case_standby_dead_too, ('always',)), (case_standby_places, ())])
def test_standby(case, args): run_case(case, *args)

STANDBY_APP = '''
import asyncio, os, psutil
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from tests.faults.test_pool import spares_sooner
async def main():
    spares_sooner()
    config = WorkerConfig(max_workers=2, standby_workers=2)
    m = SimpleJobManager({'do': 'tests.faults.plugins:Do'}, worker_config=config)
    await m.start()
    await m.start_job('do', code='import ctypes; ctypes.PyDLL(None).sleep(300)')
    def workers(): return [p for p in psutil.Process().children() if 'child_main' in ' '.join(p.cmdline())]
    while len(workers()) < 4: await asyncio.sleep(.02)
    os.write(1, b'READY\\n')
    await asyncio.sleep(300)
asyncio.run(main())
'''

def test_spares_are_gone_with_the_app():
    with App('-c', STANDBY_APP) as app:
        app.until('READY')
        os.kill(app.pid, signal.SIGKILL)
        app.popen.wait()
        assert not app.left(2)
        assert not app.err

# ---- Retries

COUNTED = """
with open(count, 'a') as f: f.write('x')
n = os.path.getsize(count)
result['n'] = n
if n <= bad:
    time.sleep(pause)
"""

async def case_retries(ctx):
    m = await pool(ctx, 1, max_restart_attempts=100, **FAST)   # several that die may come one after the other
    names = iter(range(100))
    async def counted(end, bad, retries, pause=0, options=None):
        file = ctx.folder/f'count-{next(names)}'
        options = options or JobOptions(max_retries=retries)
        job = await ctx.act(m, COUNTED + f'    {end}', options, count=str(file), bad=bad, pause=pause)
        job.count = file
        return job
    async def ended(job, status, fault, attempts):
        await ctx.ended(job, status, fault)
        assert job.attempt == len(job.count.read_text()) == attempts, (job, job.count.read_text())
        if status == 'completed': assert job.result['n'] == attempts and job.error is job.traceback is None
    raising, dying = 'raise ValueError("mine")', 'os._exit(7)'
    jobs = [   # what it does, how often, retries; and how it ends, after how many attempts
        (raising, 0, 3, 'completed', None, 1), (raising, 2, 2, 'completed', None, 3),
        (raising, 9, 2, 'failed', 'plugin_error', 3), (raising, 9, 0, 'failed', 'plugin_error', 1),
        ('raise MemoryError', 1, 1, 'completed', None, 2), ('raise MemoryError', 9, 1, 'failed', 'out_of_memory', 2),
        (dying, 1, 1, 'completed', None, 2), (dying, 9, 0, 'failed', 'worker_crashed', 1),
        (dying, 9, 5, 'failed', 'quarantined', 2), (dying, 2, 1, 'failed', 'quarantined', 2),
        ('os._exit(7) if n % 2 else 1 / 0', 9, 5, 'failed', 'quarantined', 3),   # the second and the third
        ('result = {"f": lambda: 0}', 9, 3, 'failed', 'bad_payload', 1)]
    running = []
    for end, bad, retries, *wanted in jobs:   # all of them wait for each other, and for their pauses
        running.append((await counted(end, bad, retries), wanted))
        await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    for job, wanted in running: await ended(job, *wanted)
    for name in ('no such plugin',):
        with contextlib.suppress(ValueError): await m.start_job(name, job_options=JobOptions(max_retries=3))
    slow = await counted('pass', 9, 3, 60, JobOptions(max_retries=3, timeout_seconds=.05))
    await ended(slow, 'failed', 'timed_out', 1)
    slow = await counted('pass', 9, 3, 60)
    await ctx.running(m, slow)
    await ctx.until(slow.count.exists, 'it to begin')
    assert await m.cancel_job(slow.id)
    await ended(slow, 'cancelled', None, 1)
    assert m.get_stats()['backlog'] == 0

async def case_pauses(ctx):
    base = .15
    m = await pool(ctx, 1, restart_backoff_base_seconds=base)
    file = ctx.folder/'times'
    code = 'open(file, "a").write(f"{time.time()} "); raise ValueError("mine")'
    job = await ctx.act(m, code, JobOptions(max_retries=2), file=str(file))
    await ctx.until(lambda: job.attempt == 2, 'the first to fail')
    assert (job.status, job.error, job.fault) == ('pending', None, None)
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')   # the pause is nobody else's
    await ctx.ended(job, 'failed', 'plugin_error')
    first, second, third = map(float, file.read_text().split())
    assert second - first >= base and third - second >= 2 * base
    pid, = pids(m)
    for seconds in (0, .02):   # cancelled in the pause
        job = await ctx.act(m, code, JobOptions(max_retries=5), file=str(file))
        await ctx.until(lambda: job.attempt == 2, 'the first to fail')   # noqa: B023
        await asyncio.sleep(seconds)
        runs = len(file.read_text().split())
        assert await m.cancel_job(job.id) is True and await m.cancel_job(job.id) is False
        assert job.status == 'cancelled' and m.get_stats()['backlog'] == 0
        await asyncio.sleep(1.5 * base)
        assert len(file.read_text().split()) == runs and pids(m) == [pid] and m.restart_count == 0
    job = await ctx.act(m, code, JobOptions(max_retries=5), file=str(file))
    await ctx.until(lambda: job.attempt == 3, 'the second to fail')
    runs = len(file.read_text().split())
    await m.aclose()
    assert (job.status, job.fault, job.attempt) == ('cancelled', None, 3)
    assert len(file.read_text().split()) == runs

async def case_interrupted(ctx):
    "What the shutdown interrupts is no failed attempt: it is not tried again, and not called the plugin's error."
    m = await pool(ctx, 1)
    job = await ctx.act(m, 'time.sleep(60)', JobOptions(max_retries=3))
    await ctx.running(m, job)
    await m.aclose()
    assert (job.status, job.fault, job.attempt) == ('failed', 'interrupted', 1)

TRIES = """
with open(count, 'a') as f: f.write('x')
n = os.path.getsize(count)
def stream():
    for i in range(3): yield f'{n}.{i} '
    while not os.path.exists(gate): time.sleep(.005)
    if n < 3: exec(end)
"""

async def case_chunks(ctx, end):
    "Readers see what each attempt sends once, and the last attempt whole."
    m = await pool(ctx, 1, **FAST)
    gate = ctx.folder/'gate'
    job = await ctx.do(m, TRIES, JobOptions(max_retries=2), count=str(ctx.folder/'count'), gate=str(gate), end=end)
    first = []
    async for c in m.stream_job(job.id):
        first.append(c)
        if len(first) == 3: gate.touch()
    await ctx.ended(job, 'completed')
    assert job.attempt == 3
    last = [c async for c in m.stream_job(job.id)]
    assert [c.chunk for c in last] == ['3.0 ', '3.1 ', '3.2 '] and last[0].metadata == {'attempt': 3}
    texts = [c.chunk for c in first]
    assert texts[:3] == ['1.0 ', '1.1 ', '1.2 '] and texts[-3:] == ['3.0 ', '3.1 ', '3.2 ']
    assert len(set(texts)) == len(texts) and texts == sorted(texts), texts
    assert all(c.metadata == {'attempt': int(c.chunk[0])} for c in first if c.chunk in ('2.0 ', '3.0 '))

async def case_nobody_to_retry(ctx, policy, attempts):
    "No worker will come: a job that waits fails, whatever retries it has, and is counted once."
    m = await pool(ctx, 1, restart_policy=policy, max_restart_attempts=attempts, **FAST)
    many = JobOptions(max_retries=3)
    dies = await ctx.act(m, 'time.sleep(.1); os._exit(7)', many)
    waits = await ctx.start(m, 'echo', many)
    await ctx.ended(dies, 'failed')
    await ctx.ended(waits, 'failed', 'worker_crashed')
    assert waits.attempt == 1 and waits.started_at is None, waits
    assert m.get_stats()['backlog'] == 0, m.get_stats()

@pytest.mark.parametrize(('case', 'args'), [
    (case_retries, ()), (case_pauses, ()), (case_interrupted, ()), (case_chunks, ('raise ValueError("mine")',)),
    (case_nobody_to_retry, ('never', 3)), (case_nobody_to_retry, ('on_cancellation', 1))])
def test_retries(case, args): run_case(case, *args)

class Reports:
    "A resource manager that remembers."
    def __init__(self): self.jobs = []
    def register_worker(self, *args, **kwargs): pass
    def unregister_worker(self, *args, **kwargs): pass
    def update_worker_state(self, pid, **kwargs):
        if kwargs.get('status') == 'running': self.jobs.append(kwargs['job_id'])

async def case_reported(ctx):
    reports = Reports()
    m = ctx.manager(resource_manager=reports, config={**FAST})
    job = await ctx.do(m, '1 / 0', JobOptions(max_retries=2))
    await ctx.ended(job, 'failed', 'plugin_error')
    assert reports.jobs == [job.id] * 3

def test_each_attempt_is_reported(): run_case(case_reported)

# ---- Backpressure

STREAM_APP = """
import asyncio, sys
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
async def main(window, folder, n, code):
    m = SimpleJobManager({'do': 'tests.faults.plugins:Do'}, worker_config=WorkerConfig(result_queue_size=window))
    job = await m.start_job('do', code=code, count=folder + '/sent', n=n)
    got, log = [], open(folder + '/got', 'w', buffering=1)
    async for c in m.stream_job(job.id):
        got.append(c.chunk)
        print(len(got), file=log)
    await m.wait_for_job(job.id)
    print(job.status, got == [f'{i} ' for i in range(n)], flush=True)
    await m.aclose()
asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
"""
STREAM = """
def stream():
    with open(count, 'w', buffering=1) as f:
        for i in range(n):
            if i == 100: os.mkdir(count + '.100')
            print(i + 1, file=f)
            yield f'{i} '
            time.sleep(.002)
"""

def last_number(file: Path) -> int: return int((file.read_text().split() or ['0'])[-1])

@pytest.mark.parametrize('window', [1, 5])
def test_a_plugin_waits_for_an_app_that_does_not_read(tmp_path, window):
    with App('-c', STREAM_APP, str(window), str(tmp_path), '400', STREAM) as app:
        deadline = time.monotonic() + 20
        while not (tmp_path/'sent.100').exists():
            assert time.monotonic() < deadline and app.popen.poll() is None, app.err
            time.sleep(.005)
        os.kill(app.pid, signal.SIGSTOP)
        time.sleep(.3)   # enough for 150 more
        sent, got = last_number(tmp_path/'sent'), last_number(tmp_path/'got')
        slack = 1 + window + 5   # in the making; acknowledged just now; between the app's threads
        assert 100 <= sent <= got + window + slack, f'{sent} sent, {got} read'
        time.sleep(.1)
        assert last_number(tmp_path/'sent') == sent
        os.kill(app.pid, signal.SIGCONT)
        assert app.finish(20) == 0, app.err
        assert app.out == 'completed True\n' and not app.err
        assert last_number(tmp_path/'sent') == 400

FLOOD = """
def stream():
    for i in range(n): yield f'{i:0{size}}'   # each a new one
"""

async def case_memory(ctx, n, size, window):
    "A fast stream and a slow reader: nothing piles up, neither here nor there."
    m = await pool(ctx, 1, result_queue_size=window)
    await ctx.ended(await ctx.do(m, FLOOD, n=1000, size=size), 'completed')
    me, it = psutil.Process(), psutil.Process(pids(m)[0])
    before = [p.memory_info().rss for p in (me, it)]
    job = await ctx.do(m, FLOOD, n=n, size=size)
    async def read():
        async for _ in m.stream_job(job.id): await asyncio.sleep(.02)
    reader, most = asyncio.create_task(read()), [0, 0]
    while job.status not in TERMINAL:
        for i, p in enumerate((me, it)): most[i] = max(most[i], p.memory_info().rss - before[i])
        await asyncio.sleep(.02)
    reader.cancel()
    await ctx.ended(job, 'completed')
    most = [round(x / 2**20) for x in most]
    assert max(most) < 64, f'app and worker grew by {most} MiB for {n * size >> 20} MiB of text'
    return {'grew': most}

@pytest.mark.parametrize(('n', 'size', 'window'), [(80_000, 2000, 100), (40_000, 2000, 0), (80_000, 8, 100)])
def test_memory_is_flat(n, size, window): print(run_case(case_memory, n, size, window))
