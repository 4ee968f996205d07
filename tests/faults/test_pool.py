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
from pathlib import Path
from typing import Any

import psutil
import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.worker import base_worker_process
from tests.faults import plugins
from tests.faults.harness import END_SECONDS, TERMINAL, App, Case, Watched, run_case

JOBS = int(os.environ.get('FAULTS_POOL_JOBS', 250))
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

async def gated(ctx: Case, m: Any, gate: Path, options: JobOptions | None = None) -> Any:
    "A running job that goes on when `gate` is there; its result has the pid."
    job = await ctx.act(m, 'while not os.path.exists(gate): time.sleep(.005)\nresult["pid"] = os.getpid()',
                        options, gate=str(gate))
    await ctx.running(m, job)
    return job

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

def preload(ctx: Case, code: str = '') -> str:
    "The name of a module that notes what it sees when it is imported, and by whom."
    (ctx.folder/'fault_preload.py').write_text(
        f'import os\nWHO = os.environ.get("FAULT_WHO")\nopen({str(ctx.folder)!r} + f"/imported-{{os.getpid()}}", "w")\n{code}')
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
    victim = await ctx.act(m, 'time.sleep(60)')
    pid = await ctx.running(m, victim)
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
    flag = ctx.folder/'flag'
    flag.touch()
    FromFactory.flag = str(flag)
    FromFactory.code = 'import random; time.sleep(random.random() * .1); raise ValueError("never")'
    m = ctx.manager(cls=FromFactory, only=True, config={'max_workers': 3, 'restart_policy': policy, **FAST})
    ctx.unusable.add(m)
    jobs = [await ctx.start(m, 'echo') for _ in range(3)]
    for job in jobs: await ctx.ended(job, 'failed', 'start_failed')
    flag.unlink()   # repaired
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    ctx.unusable.clear()

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
        for _ in range(2):   # the second time in new workers
            jobs = [await ctx.act(m, code + '; time.sleep(.05)') for _ in range(2)]
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
    m = await pool(ctx, 3, max_restart_attempts=10**6, max_finished_jobs=None, **FAST | {'cancel_grace_seconds': .3} | config)
    jobs, answers, kills, cancels = [], {}, 0, []
    async def cancel(job):
        await asyncio.sleep(rnd.random() * .03)
        answers[job.id] = answers.get(job.id, False) | await m.cancel_job(job.id)
    for i in range(n):
        kind = rnd.choice(list(KINDS))
        options = JobOptions(priority=rnd.randrange(3), max_retries=rnd.choice((0, 0, 1)))
        jobs.append((kind, options, await ctx.start(m, kind, options, **KINDS[kind])))
        if rnd.random() < .1: cancels += [asyncio.create_task(cancel(jobs[-1][-1])) for _ in range(rnd.choice((1, 2)))]
        if rnd.random() < .08 and (ready := pids(m)):
            with contextlib.suppress(ProcessLookupError): kill(rnd.choice(ready))
            kills += 1
        while m.get_stats()['backlog'] > 10: await asyncio.sleep(.002)
    for kind, options, job in jobs:
        await ctx.ended(job)
        assert (job.status == 'cancelled') == answers.get(job.id, False), f'{job}, and cancel said {answers}'
        assert job.attempt <= 1 + options.max_retries
        if job.status == 'completed': assert kind != 'do' and job.result.get('n', 20) == 20
        elif job.status == 'failed':
            assert job.fault in ('worker_crashed', 'quarantined') or (job.fault == 'plugin_error' and kind == 'do'), job
            assert job.fault != 'quarantined' or job.attempt == 2
            assert job.fault == 'plugin_error' or job.exit_code == -9
    await asyncio.gather(*cancels)
    crashed = sum(1 + (j.fault == 'quarantined') for *_, j in jobs if j.fault in ('worker_crashed', 'quarantined'))
    assert crashed <= kills, f'{crashed} attempts crashed, but {kills} workers were killed'
    assert m.get_stats()['backlog'] == 0 and m.get_stats()['running'] == 0
    return {'jobs': dict(collections.Counter(j.status for *_, j in jobs)), 'kills': kills}

@pytest.mark.parametrize('config', [{}, {'max_jobs_per_worker': 7, 'standby_workers': 1, 'restart_policy': 'always'}],
                         ids=['plain', 'everything'])
def test_campaign(config):
    print('seed', SEED)
    print(run_case(case_campaign, SEED, JOBS, config, timeout=60 + JOBS / 10))
