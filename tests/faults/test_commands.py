"unload, reload and state: behind the running job, each with its own answer, and the state says what is really loaded."
import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest

from cjm_fasthtml_workers.core.errors import ManagerClosed
from tests.faults.harness import run_case

PROMPT = {'cancel_grace_seconds': 0, 'shutdown_timeout_seconds': .3}

async def new_worker(ctx: Any, m: Any, old: int) -> int:
    await ctx.until(lambda: (w := m.worker_process) and w.pid != old and w.state == 'ready', 'a new worker')
    return m.worker_process.pid

async def soon(*commands: Any) -> list[Any]:
    async with asyncio.timeout(5): return await asyncio.gather(*commands)

# ---- With a worker, and without

async def case_plain(ctx):
    m = ctx.manager(configs={'pid': {'model': 'a'}}, config=PROMPT)
    assert await soon(m.unload_plugin('pid'), m.get_worker_state()) == [False, None]    # nothing was started
    assert await m.reload_plugin('pid', {'model': 'b'}) is False                        # but this is kept
    assert m.worker_process is None and not m.monitor_running
    job = await ctx.start(m, 'pid')
    await ctx.ended(job, 'completed')
    assert job.result['config'] == {'model': 'b'}
    pid = m.worker_process.pid
    state = await m.get_worker_state()
    assert state == {'pid': pid, 'current_plugin': 'pid', 'current_config': {'model': 'b'}, 'loaded_plugins': ['pid']}
    assert await m.unload_plugin('pid') is True
    state = await m.get_worker_state()
    assert state == {'pid': pid, 'current_plugin': None, 'current_config': None, 'loaded_plugins': []}
    assert await m.unload_plugin('nobody') is False and await m.reload_plugin('nobody', {}) is False
    job = await ctx.start(m, 'pid')                       # loads it again, with its last configuration
    await ctx.ended(job, 'completed')
    assert job.result['config'] == {'model': 'b'} and m.worker_process.pid == pid
    assert await m.unload_plugin('pid') is True
    assert await m.reload_plugin('pid', {'model': 'c'}) is True                         # loads it, too
    state = await m.get_worker_state()
    assert state == {'pid': pid, 'current_plugin': 'pid', 'current_config': {'model': 'c'}, 'loaded_plugins': ['pid']}
    await ctx.check()
    await m.aclose()
    assert await soon(m.unload_plugin('pid'), m.get_worker_state()) == [False, None]
    try: assert await m.reload_plugin('pid', {}) is False
    except ManagerClosed: pass

def test_with_and_without_a_worker(): run_case(case_plain)

async def case_while_starting(ctx):
    m = ctx.manager(plugins={'slow': 'tests.faults.plugins:Do'}, configs={'slow': {'init': 'time.sleep(.4)'}},
                    config={**PROMPT, 'load_plugins': 'on_start'})
    job = await ctx.start(m, 'echo')
    await ctx.until(lambda: m.worker_process and m.worker_process.pid, 'a process')
    assert m.worker_process.state == 'starting'
    unloaded, state = await soon(m.unload_plugin('slow'), m.get_worker_state())
    assert unloaded is True and 'slow' not in state['loaded_plugins'] and 'echo' in state['loaded_plugins']
    await ctx.ended(job, 'completed')

def test_while_the_worker_starts(): run_case(case_while_starting)

# ---- While a job runs

async def case_behind(ctx):
    m = ctx.manager(config={**PROMPT, 'unload_timeout_seconds': 5})
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'pid'), 'completed')
    job, behind = await ctx.start(m, 'sleeper', seconds=.3), await ctx.start(m, 'pid')
    await ctx.running(m, job)
    ends = []
    async def command(name: str, coroutine: Any) -> Any:
        try: return await coroutine
        finally: ends.append((name, job.status))
    answers = await soon(command('unload', m.unload_plugin('do')), command('reload', m.reload_plugin('pid', {'x': 1})),
                         command('state', m.get_worker_state()))
    assert answers[:2] == [True, True] and answers[2]['pid'] == pid
    assert ends == [('unload', 'completed'), ('reload', 'completed'), ('state', 'completed')]
    assert 'do' not in answers[2]['loaded_plugins'] and answers[2]['current_config'] == {'x': 1}
    await ctx.ended(behind, 'completed')
    await ctx.ended(await ctx.do(m, ''), 'completed')
    assert m.worker_process.pid == pid

def test_behind_the_running_job(): run_case(case_behind)

async def case_late(ctx):
    "An answer that comes too late answers nobody else."
    m = ctx.manager(config={**PROMPT, 'unload_timeout_seconds': .1, 'reload_timeout_seconds': .1})
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'sleeper', seconds=0), 'completed')
    gate = ctx.folder/'gate'
    job = await ctx.do(m, 'while not os.path.exists(gate): time.sleep(.005)', gate=str(gate))
    await ctx.running(m, job)
    begun = time.monotonic()
    assert await m.get_worker_state() is None
    assert await m.unload_plugin('nobody') is False       # this one will fail, and say so late
    assert await m.unload_plugin('do') is False
    assert await m.reload_plugin('echo', {'late': True}) is False
    assert time.monotonic() - begun < 4 and job.status == 'running'
    m.worker_config.unload_timeout_seconds = m.worker_config.reload_timeout_seconds = 5
    gate.touch()
    state, unloaded, again = await soon(m.get_worker_state(), m.unload_plugin('sleeper'), m.unload_plugin('nobody'))
    assert state['pid'] == pid and set(state) == {'pid', 'current_plugin', 'current_config', 'loaded_plugins'}
    assert unloaded is True and again is False
    await ctx.ended(job, 'completed')

def test_a_late_answer(): run_case(case_late)

async def case_many(ctx):
    "Many at once, from several loops, among jobs: each gets its own answer."
    m = ctx.manager(config=PROMPT)
    pid = await ctx.warm(m)
    errors: list[Any] = []
    async def ask(i: int) -> None:
        for k in range(15):
            good, bad, state = await asyncio.gather(m.reload_plugin('pid', {'i': i, 'k': k}), m.unload_plugin('nobody'),
                                                    m.get_worker_state())
            if (good, bad, state['pid']) != (True, False, pid) or not isinstance(state['loaded_plugins'], list):
                errors.append((good, bad, state))
    def run(i: int) -> None:
        try: asyncio.run(ask(i))
        except BaseException as e: errors.append(e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for t in threads: t.start()
    jobs = [await ctx.start(m, 'pid' if i % 2 else 'echo') for i in range(40)]
    await ctx.until(lambda: not any(t.is_alive() for t in threads), 'the other loops', 25)
    assert not errors, errors[:3]
    for job in jobs: await ctx.ended(job, 'completed')
    assert m.worker_process.pid == pid

def test_many_at_once(): run_case(case_many)

# ---- What goes wrong

async def case_reload_fails(ctx):
    "It unloads A and then cannot load B: nothing is loaded, and B was not accepted."
    m = ctx.manager(plugins={'model': 'tests.faults.plugins:Do'}, configs={'model': {'init': '', 'name': 'a'}},
                    config={**PROMPT, 'restart_policy': 'always'})
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'model', code=''), 'completed')
    for bad in ('raise ValueError("bad")', 'raise SystemExit(3)', 'raise KeyboardInterrupt', 'raise MemoryError'):
        assert await m.reload_plugin('model', {'init': bad, 'name': 'b'}) is False
        state = await m.get_worker_state()
        assert 'model' not in state['loaded_plugins'] and state['current_plugin'] != 'model', bad
        assert state['current_config'] is None or 'name' not in state['current_config']
        if 'Value' in bad: continue                       # twice in a row
        await ctx.ended(await ctx.start(m, 'model', code=''), 'completed')
        state = await m.get_worker_state()
        assert state['current_config'] == {'init': '', 'name': 'a'} and state['pid'] == pid
    assert await m.reload_plugin('model', {'init': 'raise ValueError'}) is False
    os.kill(pid, signal.SIGKILL)
    await new_worker(ctx, m, pid)
    await ctx.ended(await ctx.start(m, 'model', code=''), 'completed')
    assert (await m.get_worker_state())['current_config'] == {'init': '', 'name': 'a'}
    with pytest.raises(TypeError): await m.reload_plugin('model', {'lock': threading.Lock()})
    assert (await m.get_worker_state())['current_config'] == {'init': '', 'name': 'a'}

def test_a_reload_that_fails(): run_case(case_reload_fails)

class Grumpy:
    "Will not go quietly."
    def __init__(self, config: dict[str, Any]): self.config = config
    def execute(self, nonce: Any = None) -> dict[str, Any]: return {'nonce': nonce, 'config': self.config}
    def unload(self) -> None: exec(self.config.get('unload', ''), {'os': os, 'time': time})

GRUMPY = {'plugins': {'grumpy': 'tests.faults.test_commands:Grumpy'}}

async def case_unload_fails(ctx):
    m = ctx.manager(**GRUMPY, configs={'grumpy': {'unload': 'raise SystemExit'}}, config=PROMPT)
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'grumpy'), 'completed')
    await m.unload_plugin('grumpy')
    state = await m.get_worker_state()
    job = await ctx.start(m, 'grumpy')                    # whatever it said: the next job runs, with its configuration
    await ctx.ended(job, 'completed')
    assert job.result['config'] == {'unload': 'raise SystemExit'} and state['pid'] == pid == m.worker_process.pid

def test_an_unload_that_fails(): run_case(case_unload_fails)

async def case_dies(ctx):
    m = ctx.manager(**GRUMPY, configs={'grumpy': {'unload': 'os._exit(5)'}},
                    config={**PROMPT, 'restart_policy': 'always', 'restart_backoff_base_seconds': 0})
    pid = await ctx.warm(m)
    await ctx.ended(await ctx.start(m, 'grumpy'), 'completed')
    begun = time.monotonic()
    answers = await soon(m.unload_plugin('grumpy'), m.get_worker_state(), m.reload_plugin('do', {'a': 1}))
    assert answers == [False, None, False] and time.monotonic() - begun < 4
    pid = await new_worker(ctx, m, pid)
    job, behind = await ctx.start(m, 'sleeper'), await ctx.start(m, 'echo')
    await ctx.running(m, job)
    commands = asyncio.gather(m.unload_plugin('echo'), m.get_worker_state())
    await asyncio.sleep(.02)
    os.kill(pid, signal.SIGKILL)
    assert await soon(commands) == [[False, None]]
    await ctx.ended(job, 'failed', 'worker_crashed')
    await ctx.ended(behind, 'completed')
    pid = m.worker_process.pid
    os.kill(pid, signal.SIGSTOP)                          # no answer at all
    m.worker_config.unload_timeout_seconds = .1
    assert await m.get_worker_state() is None
    m.worker_config.unload_timeout_seconds = 5
    os.kill(pid, signal.SIGCONT)
    assert (await m.get_worker_state())['pid'] == pid

def test_the_worker_dies_of_it(): run_case(case_dies)

async def case_crash_after_reload(ctx):
    "The new worker has the last accepted configuration, also if the app's loop was busy when it was accepted."
    m = ctx.manager(config={**PROMPT, 'restart_policy': 'always'})
    ctx.stall_limit = 10                                  # the app blocks its own loop
    pid = await ctx.warm(m)
    for i in range(3):
        assert await m.reload_plugin('pid', {'n': i}) is True
        os.kill(pid, signal.SIGKILL)
        pid = await new_worker(ctx, m, pid)
        job = await ctx.start(m, 'pid')
        await ctx.ended(job, 'completed')
        assert job.result['config'] == {'n': i}
    task = asyncio.create_task(m.reload_plugin('pid', {'n': 'busy'}))
    await asyncio.sleep(0)
    time.sleep(.2)                                        # accepted by the worker; nobody here has seen it
    os.kill(pid, signal.SIGKILL)
    time.sleep(.4)                                        # there is a new worker already
    accepted = await task
    await new_worker(ctx, m, pid)
    job = await ctx.start(m, 'pid')
    await ctx.ended(job, 'completed')
    assert job.result['config'] == ({'n': 'busy'} if accepted else {'n': 2}), accepted

def test_a_crash_after_a_reload(): run_case(case_crash_after_reload)

async def case_snapshot(ctx):
    m = ctx.manager(config={**PROMPT, 'restart_policy': 'always'})
    config = {'model': ['small']}
    assert await m.reload_plugin('echo', config) is False                # without a worker
    config['model'].append('changed')
    pid = await ctx.warm(m)
    assert await m.reload_plugin('pid', config) is True
    config['model'], config['lock'] = 'changed again', threading.Lock()
    os.kill(pid, signal.SIGKILL)
    await new_worker(ctx, m, pid)
    job = await ctx.start(m, 'pid')
    await ctx.ended(job, 'completed')
    assert job.result['config'] == {'model': ['small', 'changed']}
    await ctx.ended(await ctx.start(m, 'echo'), 'completed')
    assert (await m.get_worker_state())['current_config'] == {'model': ['small']}

def test_the_configuration_is_a_snapshot(): run_case(case_snapshot)

async def case_one_of_three(ctx):
    "One plugin of three cannot be loaded: only its jobs fail, and no restart is counted."
    m = ctx.manager(plugins={'bad': 'tests.faults.plugins:Do', 'missing': 'tests.faults.nowhere:Nobody'},
                    configs={'bad': {'init': 'raise ValueError("bad")'}},
                    config={**PROMPT, 'load_plugins': 'on_start'}, only=True)
    await m.start()
    names = 'bad', 'echo', 'missing', 'echo', 'bad'
    jobs = [await ctx.start(m, n, **({'code': ''} if n == 'bad' else {})) for n in names]
    for job in jobs:
        if job.plugin_id == 'echo': await ctx.ended(job, 'completed')
        else: await ctx.ended(job, 'failed', 'start_failed')
    assert (await m.get_worker_state())['loaded_plugins'] == ['echo'] and m.restart_count == 0
    assert await m.reload_plugin('bad', {'init': ''}) is True           # it can be mended
    await ctx.ended(await ctx.start(m, 'bad', code=''), 'completed')

def test_one_plugin_of_three(): run_case(case_one_of_three)
