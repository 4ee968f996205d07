"""Workers that are forked from a server: what holds for those that are spawned holds for them, and the server may fail.

Several small promises share one process. FAULTS_FORKS=10 makes the campaigns ten times as long, FAULTS_SEED=1234
repeats one (it is printed).
"""
import asyncio
import contextlib
import importlib.util
import json
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
from cjm_fasthtml_workers.core.errors import WorkerStartError
from tests.faults.harness import App, Case, run_case, snapshot, strange_lines
from tests.faults.life import LOOKS, STATES
from tests.faults.test_resources import few_descriptors

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='processes are looked at in /proc')
FORKS = float(os.environ.get('FAULTS_FORKS', 1))
SEED = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
PROMPT = {'cancel_grace_seconds': 0, 'shutdown_timeout_seconds': 1}
WHO = 'result["pid"], result["parent"] = os.getpid(), os.getppid()'
LOUD = 'import subprocess, sys, logging\n'   # a line by every way there is
LOUD += ('print("by print"); print("by stderr", file=sys.stderr); os.write(1, b"by descriptor\\n")\n'
         'subprocess.run(["echo", "by echo"]); logging.getLogger("x").warning("by logging")')
HEIRS = ('import subprocess\nsubprocess.Popen(["sleep", "300"])\n'   # children of every kind
         'if os.fork() == 0:\n    os.fork(); time.sleep(300); os._exit(0)\n')

# ---- What the cases have in common

def forked(ctx: Case, plugins: dict[str, Any] | None = None, **config: Any) -> Any:
    "A manager whose workers are forked."
    configs = config.pop('configs', {})
    return ctx.manager(plugins, configs=configs, config={'start_method': 'forkserver', **PROMPT, **config})

def module(ctx: Case, name: str, code: str) -> str:
    "The name of a module to preload, which notes each import of it in the file `NAME-imports`."
    note = f'import os, sys, time\nopen({str(ctx.folder/name)!r} + "-imports", "a").write(f"{{os.getpid()}}\\n")\n'
    (ctx.folder/f'{name}.py').write_text(f'{note}flag = {str(ctx.folder/name)!r} + "-flag"\n{code}')
    if str(ctx.folder) not in sys.path: sys.path.insert(0, str(ctx.folder))
    return name

def imports(ctx: Case, name: str) -> list[int]:
    file = ctx.folder/f'{name}-imports'
    return [int(p) for p in file.read_text().split()] if file.exists() else []

def servers() -> list[psutil.Process]:
    "Of all managers: our children that workers are forked from."
    found = []
    for p in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if 'fork_server_main' in ' '.join(p.cmdline()) and p.status() != psutil.STATUS_ZOMBIE: found.append(p)
    return found

def server() -> psutil.Process: return servers()[0]

def is_gone(pid: int) -> bool:
    try: return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return True

def group(pid: int) -> list[int]:
    "The live processes of a process group."
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(p.pid) == pid and p.status() != psutil.STATUS_ZOMBIE: found.append(p.pid)
    return found

async def begun(ctx: Case, m: Any, code: str = 'time.sleep(300)', options: JobOptions | None = None,
                heirs: str = '') -> Any:
    "A job whose code is running, and whose `heirs` are there."
    file = ctx.folder/f'begun-{time.monotonic_ns()}'
    job = await ctx.act(m, f'{heirs}\nopen({str(file)!r}, "w").close()\n{code}', options)
    await ctx.until(file.exists, f'{job} to begin')
    return job

async def done(ctx: Case, m: Any, code: str = WHO, **params: Any) -> Any:
    "The result of a job that succeeds."
    return (await ctx.ended(await ctx.act(m, code, **params), 'completed')).result

async def within(seconds: float, what: Any) -> Any:
    async with asyncio.timeout(seconds): return await what

async def stopped(ctx: Case, p: psutil.Process) -> None:
    p.suspend()
    await ctx.until(lambda: p.status() == psutil.STATUS_STOPPED, 'it to stop')

# ---- Work

async def case_work(ctx):
    name = module(ctx, 'work_preload', 'import threading\nprint("loud at import", flush=True)\nN = [0]')
    m = forked(ctx, preload_modules=[name])
    first = await done(ctx, m, f'import {name}\n{WHO}')
    assert first['parent'] == server().pid and imports(ctx, name) == [server().pid]
    stream = await ctx.start(m, 'streamer', n=300)
    texts = [c.chunk async for c in m.stream_job(stream.id)]
    assert len(texts) == 300 and texts[299].startswith('299.')
    loud, quiet = await ctx.act(m, LOUD), await ctx.act(m, 'pass')
    for job in (loud, quiet): await ctx.ended(job, 'completed')
    lines = m.get_job_logs(loud.id).lines
    wanted = ['by print', 'by stderr', 'by descriptor', 'by echo', 'WARNING x: by logging']
    assert list(lines) == wanted and not m.get_job_logs(quiet.id).lines, lines
    assert (await done(ctx, m))['pid'] == first['pid']
    handlers = ('import signal; signal.set_wakeup_fd(-1); signal.signal(signal.SIGINT, signal.SIG_DFL)\n'
                'for s in (signal.SIGTERM, signal.SIGCHLD): signal.signal(s, signal.SIG_IGN)')
    await done(ctx, m, handlers)   # one worker's handlers are not the next one's
    job = await begun(ctx, m)
    assert await within(5, m.cancel_job(job.id))
    look = ('import signal, subprocess\nresult["code"] = subprocess.run(["sh", "-c", "exit 3"]).returncode\n'
            'result["signals"] = [signal.getsignal(s) == signal.SIG_DFL for s in (signal.SIGTERM, signal.SIGCHLD)]\n')
    second = await done(ctx, m, look + WHO)
    assert second['signals'] == [True, True] and second['code'] == 3 and second['pid'] != first['pid']
    other = forked(ctx, preload_modules=[name])   # another manager: another server
    assert (await done(ctx, other))['parent'] != second['parent']
    assert len(servers()) == 2 and sorted(imports(ctx, name)) == sorted(s.pid for s in servers())
    await other.aclose()
    assert len(servers()) == 1 and (await done(ctx, m))['pid'] == second['pid']

async def case_places(ctx):
    "The environment of each worker, and chance: no two workers draw the same numbers."
    code = ('import random, sys\nresult |= {"who": os.environ.get("FAULT_WHO"), "common": os.environ.get("PATH")}\n'
            'numpy = sys.modules.get("numpy")\n'
            'result["drawn"] = [random.random(), *([numpy.random.random()] if numpy else [])]\n'
            f'{WHO}\nopen(f"{{place}}/{{os.getpid()}}", "w").close()\n'
            'while len(os.listdir(place)) < 2: time.sleep(.01)')   # so that one worker does not do both
    names = ['random', *(['numpy.random'] if importlib.util.find_spec('numpy') else [])]
    m = forked(ctx, max_workers=2, worker_env=[{'FAULT_WHO': 'a'}, {'FAULT_WHO': 'b'}], preload_modules=names)
    await m.start()
    places = {w['pid']: 'ab'[w['worker']] for w in m.get_stats()['workers']}
    seen = []
    for n in range(3):   # each time in two new workers
        (place := ctx.folder/f'{n}').mkdir()
        jobs = [await ctx.act(m, f'place = {str(place)!r}\n{code}') for _ in range(2)]
        for job in jobs: seen.append((await ctx.ended(job, 'completed')).result)
        places |= {w['pid']: 'ab'[w['worker']] for w in m.get_stats()['workers']}
        for job in jobs: os.kill(job.worker_pid, signal.SIGKILL)
        await ctx.until(lambda: not m.get_stats()['workers'], 'their end')
    assert len({r['pid'] for r in seen}) == 6 and {r['parent'] for r in seen} == {server().pid}
    assert [r['who'] for r in seen] == [places[r['pid']] for r in seen]
    assert {r['common'] for r in seen} == {os.environ.get('PATH')}
    for i in range(len(names)): assert len({r['drawn'][i] for r in seen}) == 6, f'{names[i]} repeats itself: {seen}'
    assert 'FAULT_WHO' not in os.environ
    common = forked(ctx, worker_env={'FAULT_WHO': 'c', 'FAULT_LARGE': 'x' * 60_000, 'FAULT_TOO': 'y' * 120_000})
    assert await done(ctx, common, 'result |= {"who": os.environ["FAULT_WHO"], "n": len(os.environ["FAULT_TOO"])}') \
        | {'nonce': 0} == {'nonce': 0, 'who': 'c', 'n': 120_000}
    large = forked(ctx, worker_env={f'FAULT_{i}': 'x' * 100_000 for i in range(5)})   # more than one packet holds
    assert (await done(ctx, large, 'result["n"] = len(os.environ["FAULT_4"])'))['n'] == 100_000

async def case_elsewhere(ctx):
    "The app changes its directory, umask and environment after the server was started: workers start all the same."
    old, umask = os.getcwd(), os.umask(0o22)
    m = forked(ctx)
    try:
        pid = (await done(ctx, m))['pid']
        os.chdir(ctx.folder)
        os.umask(0o77)
        os.environ['FAULT_NEW'] = 'x'
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            await ctx.until(lambda: m.worker_process is None, 'its end')
            assert (new := (await done(ctx, m))['pid']) != pid
            pid = new
        server().kill()
        await ctx.until(lambda: is_gone(pid), 'its end')
        await within(10, done(ctx, m))
    finally:
        os.chdir(old)
        os.umask(umask)
        os.environ.pop('FAULT_NEW', None)

def test_work(): print(run_case(case_work))
def test_environment_and_chance(): print(run_case(case_places))
def test_an_app_that_moves(): print(run_case(case_elsewhere))

# ---- Ends of workers

async def case_cancel(ctx):
    "A new worker, quickly, with the model loaded before it is asked for; what the old one started is gone."
    loads = ctx.folder/'loads'
    init = f'open({str(loads)!r}, "a").write(f"{{os.getpid()}} ")'
    m = forked(ctx, {'model': 'tests.faults.plugins:Act'}, configs={'model': {'init': init}}, max_restart_attempts=1)
    await ctx.ended(await ctx.start(m, 'model', code='pass'), 'completed')
    parent = server().pid
    for code in ('time.sleep(300)', 'import ctypes; ctypes.PyDLL(None).sleep(300)',
                 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass'):
        job, late = await begun(ctx, m, code, heirs=HEIRS), await ctx.start(m, 'model', code=WHO)
        old, begin = job.worker_pid, time.monotonic()
        assert await within(5, m.cancel_job(job.id)) and job.status == 'cancelled' and is_gone(old)
        await ctx.ended(late, 'completed')
        assert time.monotonic() - begin < 4
        await ctx.until(lambda old=old: not group(old), 'all that it started to be gone', 2)
        assert late.result['parent'] == parent and late.worker_pid != old
        assert loads.read_text().split()[-1] == str(late.worker_pid), 'the model was not loaded again'
    begin = time.monotonic()
    for options in (JobOptions(timeout_seconds=.1), None):   # a timeout; and a stream that listens
        if options: await ctx.ended(await begun(ctx, m, options=options), 'failed', 'timed_out')
        else:
            m.worker_config.cancel_grace_seconds = 5
            job = await ctx.start(m, 'streamer', n=None)
            await anext(aiter(m.stream_job(job.id)))
            assert await within(5, m.cancel_job(job.id))
            assert (await done(ctx, m))['pid'] == job.worker_pid
        assert (await done(ctx, m))['parent'] == parent
    assert time.monotonic() - begin < 5
    assert len(loads.read_text().split()) == 5

CRASHES = {'os._exit(7)': 7, 'os._exit(0)': 0, 'os.kill(os.getpid(), 9)': -9, 'os.kill(os.getpid(), 11)': -11,
           'os.kill(os.getpid(), 15)': -15, 'os.abort()': -6, 'os.kill(os.getpid(), 34)': -34}

async def case_crash(ctx):
    "What is said of a death does not depend on how the worker was started."
    said = {}
    for how in ('spawn', 'forkserver'):
        m = forked(ctx, start_method=how, max_restart_attempts=100)
        codes = list(CRASHES) if how == 'forkserver' else list(CRASHES)[::3]
        for code in codes:
            job = await begun(ctx, m, f'print("last words", flush=True)\n{code}', heirs=HEIRS)
            await ctx.ended(job, 'failed', 'worker_crashed')
            said[how, code] = job.error, job.traceback.partition('\n')[0], job.exit_code
            assert job.exit_code == CRASHES[code]
            await ctx.until(lambda job=job: not group(job.worker_pid), 'all that it started to be gone', 2)
    for (how, code), text in said.items():
        if how == 'spawn': assert text == said['forkserver', code]
    assert 'exit code 7' in said['forkserver', 'os._exit(7)'][0]
    assert 'SIGSEGV' in said['forkserver', 'os.kill(os.getpid(), 11)'][0]
    job = await ctx.act(m, 'os._exit(7)', JobOptions(max_retries=5))
    await ctx.ended(job, 'failed', 'quarantined')
    pid = (await done(ctx, m))['pid']
    os.kill(pid, signal.SIGKILL)   # while idle
    await ctx.until(lambda: m.worker_process is None, 'its end')
    assert m.get_stats()['workers'] == [] and (await done(ctx, m))['pid'] != pid
    kill_me = 'import threading, signal\nthreading.Timer(.2, os.kill, (os.getpid(), signal.SIGKILL)).start()\n'
    job = await ctx.do(m, kill_me + 'def stream():\n    while True:\n        yield "x"; time.sleep(.001)')
    await ctx.ended(job, 'failed', 'worker_crashed')   # what it had sent can be read
    assert [c async for c in m.stream_job(job.id)] and job.exit_code == -9

async def case_policies(ctx):
    m = forked(ctx, restart_policy='never')
    await done(ctx, m)
    job, behind = await begun(ctx, m, 'time.sleep(.2); os._exit(7)'), await ctx.start(m, 'echo')
    for j in (job, behind): await ctx.ended(j, 'failed', 'worker_crashed')
    assert 'exit code 7' in behind.error and m.worker_process is None and m.restart_count == 0
    await done(ctx, m)
    await m.aclose()
    m = forked(ctx, restart_policy='backoff', restart_backoff_base_seconds=.3, max_restart_attempts=2)
    await done(ctx, m)
    job, behind = await begun(ctx, m, 'os._exit(7)'), await ctx.act(m, 'result["t"] = time.monotonic(); os._exit(7)')
    begin = time.monotonic()
    for j in (job, behind): await ctx.ended(j, 'failed', 'worker_crashed')
    assert .25 < time.monotonic() - begin < 5
    await done(ctx, m)
    await m.aclose()
    m = forked(ctx, restart_policy='always', standby_workers=1, restart_backoff_base_seconds=.05)
    pids = {(await done(ctx, m))['pid']}
    assert await m.reload_plugin('pid', {'model': 'b'})
    async def spare(*old: int) -> int:
        def look() -> set[int]: return {p.pid for p in server().children()} - {m.worker_process.pid, *old}
        return (await ctx.until(look, 'a spare', 5)).pop()
    os.kill(first := await spare(), signal.SIGKILL)   # one that nobody has promoted is replaced
    await spare(first)
    for how in ('cancel', 'crash'):
        new, job = await spare(first), await begun(ctx, m)
        if how == 'cancel': assert await within(5, m.cancel_job(job.id))
        else: os.kill(job.worker_pid, signal.SIGKILL)
        await ctx.ended(job)
        job = await ctx.ended(await ctx.start(m, 'pid'), 'completed')
        assert job.result['config'] == {'model': 'b'} and job.result['pid'] == new not in pids
        pids.add(new)

def test_cancel_and_timeout(): print(run_case(case_cancel))
def test_crashes_are_told_as_with_spawn(): print(run_case(case_crash))
def test_restarts_and_spares(): print(run_case(case_policies))

# ---- The server dies

async def case_server_killed(ctx):
    "It takes its workers with it; jobs end, what workers started ends, and the next start has a new server."
    m = forked(ctx, restart_policy='never')   # idle; nobody's crash
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        await done(ctx, m)
        old = server()
        old.send_signal(sig)
        await ctx.until(lambda: m.worker_process is None, 'its worker to be gone')
        assert (await done(ctx, m))['parent'] not in (old.pid, os.getpid())
    await m.aclose()
    m = forked(ctx)
    for _ in range(5):   # without a worker; the next start may come before anybody has noticed
        os.kill((await done(ctx, m))['pid'], signal.SIGKILL)
        await ctx.until(lambda: m.worker_process is None, 'its end')
        server().kill()
        await done(ctx, m)
    assert len(servers()) == 1
    m = forked(ctx, max_workers=2)   # busy, two of them, with children
    jobs = [await begun(ctx, m, heirs=HEIRS) for _ in range(2)]
    behind = await ctx.act(m, WHO)
    psutil.Process(jobs[0].worker_pid).parent().kill()
    for job in jobs:
        await ctx.ended(job, 'failed', 'worker_crashed')
        assert 'fork' in job.error, job.error
        await ctx.until(lambda job=job: not group(job.worker_pid), 'all that it started to be gone', 2)
    await ctx.ended(behind, 'completed')
    job = await begun(ctx, m, heirs=HEIRS)
    m._supervisor.call(time.sleep, .3)   # whoever looks after it is late, and sees everything at once
    psutil.Process(job.worker_pid).parent().kill()
    await ctx.ended(job, 'failed', 'worker_crashed')
    assert 'fork' in job.error, job.error
    await ctx.until(lambda: not group(job.worker_pid), 'all that it started to be gone', 2)
    job = await begun(ctx, m, 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)')
    m.worker_config.shutdown_timeout_seconds = 300   # during a cancel: only the death can end it
    cancel = asyncio.create_task(m.cancel_job(job.id))
    await ctx.until(lambda: job.status == 'cancelled')
    psutil.Process(job.worker_pid).parent().kill()
    assert await within(5, cancel)
    for _ in range(3): await done(ctx, m)
    m.worker_config.shutdown_timeout_seconds = 1

async def case_server_killed_early(ctx):
    "While modules are imported, a model is loaded, a spare waits: a start that fails, and the next one succeeds."
    for where in ('import', 'load'):
        file, gate = ctx.folder/f'{where}-begun', ctx.folder/f'{where}-gate'
        wait = f'open({str(file)!r}, "a").write("x")\nwhile not os.path.exists({str(gate)!r}): time.sleep(.01)\n'
        names = [module(ctx, 'gated_preload', wait)] if where == 'import' else []
        configs = {'act': {'init': wait}} if where == 'load' else {}
        m = forked(ctx, preload_modules=names, configs=configs, load_plugins='on_start', restart_policy='always')
        job = await ctx.act(m, WHO)
        await ctx.until(lambda file=file: file.exists() and file.read_text() == 'x', 'the start')
        old = server()
        old.kill()
        await ctx.until(lambda file=file: file.read_text() == 'xx', 'the second start')
        assert job.status == 'pending'
        gate.touch()
        await ctx.ended(job, 'completed')
        assert job.result['parent'] != old.pid and m.restart_count == 1
        await m.aclose()
    m = forked(ctx, standby_workers=1, restart_policy='always')
    job = await begun(ctx, m)
    await ctx.until(lambda: len(server().children()) == 2, 'a spare', 5)
    old = server()
    old.kill()
    await ctx.ended(job, 'failed', 'worker_crashed')
    assert (await done(ctx, m))['parent'] != old.pid
    await ctx.until(lambda: len(server().children()) == 2, 'a spare', 5)
    old, pid = server(), m.worker_process.pid
    await stopped(ctx, old)      # killed with requests that it had not read
    os.kill(pid, signal.SIGKILL)
    await ctx.until(lambda: is_gone(pid) and m.worker_process.state != 'ready', 'its end')
    job = await ctx.act(m, WHO)
    await asyncio.sleep(.1)
    old.kill()
    await ctx.ended(job, 'completed')
    assert job.result['parent'] != old.pid and len(servers()) == 1

async def case_word_is_late(ctx):
    "The server is stopped between a fork and the word of it: nobody works whom nobody knows."
    name = module(ctx, 'late_word', 'import signal\n_fork = os.fork\ndef fork():\n    pid = _fork()\n'
                  '    if pid and os.path.exists(flag): os.kill(os.getpid(), signal.SIGSTOP)\n'
                  '    return pid\nos.fork = fork')
    flag = ctx.folder/f'{name}-flag'
    for how in ('kill', 'cancel', 'aclose'):
        m = forked(ctx, preload_modules=[name], shutdown_timeout_seconds=.2, restart_policy='never')
        file = ctx.folder/how
        os.kill((await done(ctx, m))['pid'], signal.SIGKILL)
        await ctx.until(lambda m=m: m.worker_process is None, 'its end')
        flag.touch()
        job, s = await ctx.act(m, f'{HEIRS}open({str(file)!r}, "w")\ntime.sleep(300)'), server()
        child, = await ctx.until(s.children, 'the fork')
        with contextlib.suppress(AssertionError): await ctx.until(file.exists, timeout=.3)
        assert job.status == 'pending' or job.worker_pid == child.pid, f'{job} runs, who knows where'
        flag.unlink()
        def all_gone(child=child) -> bool: return not group(child.pid)
        if how == 'kill':
            s.kill()
            await ctx.until(all_gone, f'all of it to be gone after {how}', 2)
            await ctx.until(file.exists, 'another start; what became of the server is not the fault of the first')
        if how == 'cancel': assert await within(5, m.cancel_job(job.id))
        await within(5, m.aclose())
        await ctx.until(all_gone, f'all of it to be gone after {how}', 2)

def test_word_is_late(): print(run_case(case_word_is_late))
def test_server_killed(): print(run_case(case_server_killed))
def test_server_killed_during_a_start(): print(run_case(case_server_killed_early))

# ---- The server hangs

async def case_server_stopped(ctx):
    "Nothing that a worker does needs it; what does, has a limit."
    m = forked(ctx, worker_start_timeout_seconds=1, restart_policy='always')
    pid, gate = (await done(ctx, m))['pid'], ctx.folder/'gate'
    job = await begun(ctx, m, f'while not os.path.exists({str(gate)!r}): time.sleep(.005)')
    old = server()
    await stopped(ctx, old)
    gate.touch()
    await ctx.ended(job, 'completed')
    assert (await done(ctx, m))['pid'] == pid
    job = await begun(ctx, m, heirs=HEIRS)
    assert await within(5, m.cancel_job(job.id)) and job.status == 'cancelled'
    await ctx.until(lambda: not group(pid), 'all that it started to be gone', 3)
    job = await ctx.act(m, WHO)   # a start that nobody answers: there will be another server
    await ctx.ended(job, 'completed')
    assert job.result['parent'] != old.pid and is_gone(old.pid) and len(servers()) == 1
    m = forked(ctx, restart_policy='always')
    job = await begun(ctx, m, heirs=HEIRS)
    old, pid = psutil.Process(job.worker_pid).parent(), job.worker_pid
    await stopped(ctx, old)
    os.kill(pid, signal.SIGKILL)
    await ctx.ended(job, 'failed', 'worker_crashed', 5)
    await ctx.until(lambda: not group(pid), 'all that it started to be gone', 3)
    job = await ctx.act(m, WHO)   # it goes on in time: no false death
    old.resume()
    await ctx.ended(job, 'completed')
    assert job.result['parent'] == old.pid
    await stopped(ctx, old)
    await begun(ctx, m)
    await within(8, m.aclose())
    assert is_gone(old.pid)

async def case_close_during_import(ctx):
    "Modules that take for ever are no reason to wait: not for a cancel of a job, nor for the end."
    name = module(ctx, 'slow_preload', 'time.sleep(300)')
    for way in ('aclose', 'shutdown', 'start'):
        m = forked(ctx, preload_modules=[name], standby_workers=1)
        jobs, n = [await ctx.start(m, 'echo') for _ in range(2)], len(imports(ctx, name))
        await ctx.until(lambda n=n: len(imports(ctx, name)) > n, 'the import')
        assert await within(5, m.cancel_job(jobs[1].id))
        ticket = asyncio.create_task(m.start()) if way == 'start' else None
        await asyncio.sleep(0)
        await within(5, asyncio.to_thread(m.shutdown) if way == 'shutdown' else m.aclose())
        assert [j.status for j in jobs] == ['cancelled'] * 2 and not servers()
        if ticket:
            with pytest.raises(WorkerStartError): await within(5, ticket)
    await asyncio.get_running_loop().shutdown_default_executor()

def test_server_stopped(): print(run_case(case_server_stopped))
def test_close_during_import(): print(run_case(case_close_during_import))

# ---- Modules that misbehave

BAD = {   # what a preloaded module does until it is repaired -> what the error says, and the traceback
    'raise': ('print("loud"); raise ValueError("no model here")', 'ValueError: no model here', 'no model here'),
    'missing': ('import no_such_module_at_all', 'no_such_module_at_all', 'no_such_module_at_all'),
    'sysexit': ('sys.exit(5)', 'SystemExit: 5', 'sys.exit'),
    'exit': ('print("last words", flush=True); os._exit(7)', 'exit code 7', 'last words'),
    'segv': ('os.kill(os.getpid(), 11)', 'SIGSEGV', ''),
    'hang': ('time.sleep(300)', 'not ready after 1 s', ''),
    'atfork': ('os.register_at_fork(after_in_child=lambda: os._exit(9))', 'exit code 9', ''),
    'recursion': ('from tests.faults.test_forkserver import start_here\nstart_here(__file__)',
                  'a worker cannot start workers', ''),
}

def start_here(file: str) -> None:
    "What a module does that is also the app's script, and has no guard."
    from cjm_fasthtml_workers.core.config import WorkerConfig
    from cjm_fasthtml_workers.managers.simple import SimpleJobManager
    imports = Path(file.removesuffix('.py') + '-imports')
    if len(imports.read_text().split()) > 20: os._exit(33)   # or it would go on for ever
    config = WorkerConfig(start_method='forkserver', preload_modules=[Path(file).stem])
    asyncio.run(SimpleJobManager({'a': Path}, worker_config=config).start())

async def case_bad_modules(ctx, kinds):
    for kind in kinds:
        code, error, text = BAD[kind]
        name = module(ctx, f'bad_{kind}', 'if not os.path.exists(flag):\n    ' + code.replace('\n', '\n    '))
        m = forked(ctx, preload_modules=[name], max_restart_attempts=1 if kind == 'hang' else 2,
                   worker_start_timeout_seconds=1 if kind == 'hang' else 20)
        ctx.unusable.add(m)
        jobs = [await ctx.start(m, 'echo') for _ in range(2)]
        for job in jobs:
            await ctx.ended(job, 'failed', 'start_failed', 5)
            assert error in job.error and '\n' not in job.error, f'{kind}: {job.error!r}, {job.traceback!r}'
            assert text in (job.traceback or ''), f'{kind}: {job.traceback!r}'
        if kind != 'hang':
            with pytest.raises(WorkerStartError, match=error): await within(5, m.start())
        assert len(imports(ctx, name)) <= 8, f'{kind}: imported again and again'
        (ctx.folder/f'{name}-flag').touch()
        ctx.unusable.discard(m)
        assert (await within(10, done(ctx, m)))['parent'] == server().pid, f'{kind}: no recovery'
        await m.aclose()

async def case_odd_modules(ctx):
    "Threads, children, handlers, prints without end: workers start, and nothing is left of it."
    name = module(ctx, 'odd_thread', 'import threading\nlock = threading.Lock()\ndef hold():\n    while True:\n'
                  '        with lock: time.sleep(.001)\nthreading.Thread(target=hold, daemon=True).start()')
    m = forked(ctx, preload_modules=[name])
    for _ in range(3): assert await done(ctx, m, 'import threading; result["n"] = len(threading.enumerate())')
    job = await begun(ctx, m, f'import {name}\n{name}.lock.acquire()\ntime.sleep(300)')   # may hang, as the docs say
    assert await within(5, m.cancel_job(job.id))
    await m.aclose()
    name = module(ctx, 'odd_children', f'import subprocess\nsubprocess.run(["true"])\n{HEIRS}'
                  'import signal; signal.set_wakeup_fd(-1)\n'
                  'for s in (signal.SIGTERM, signal.SIGCHLD): signal.signal(s, signal.SIG_IGN)')
    m = forked(ctx, preload_modules=[name])
    for _ in range(2):
        await ctx.ended(await ctx.act(m, 'os._exit(7)'), 'failed', 'worker_crashed')
        assert (await done(ctx, m, WHO))['parent'] == server().pid
    old = server().pid
    assert len(group(old)) == 4
    await m.aclose()
    await ctx.until(lambda: not group(old), 'the children of the module to be gone', 2)
    name = module(ctx, 'odd_output', 'for i in range(5000): print("x" * 50)\nprint("end", flush=True)\n'
                  'import threading\ndef go():\n    while True: os.write(2, b"more\\n" * 100); time.sleep(.01)\n'
                  'threading.Thread(target=go, daemon=True).start()')
    m = forked(ctx, preload_modules=[name])
    job = await ctx.act(m, 'print("mine", flush=True)')
    await ctx.ended(job, 'completed')
    assert list(m.get_job_logs(job.id).lines) == ['mine']   # what the server prints is nobody's
    await m.aclose()

async def case_fork_fails(ctx):
    "The system has no more processes: an error for this start, and nobody else notices."
    name = module(ctx, 'no_forks', '_fork = os.fork\ndef fork():\n'
                  '    if os.path.exists(flag): raise BlockingIOError(11, "Resource temporarily unavailable")\n'
                  '    return _fork()\nos.fork = fork')
    m = forked(ctx, preload_modules=[name], max_workers=2, restart_policy='never')
    job, flag, parent = await begun(ctx, m), ctx.folder/f'{name}-flag', server().pid
    flag.touch()
    with pytest.raises(WorkerStartError, match='temporarily unavailable'): await within(5, m.start())
    assert job.status == 'running' and not is_gone(job.worker_pid) and server().pid == parent
    flag.unlink()
    assert (await done(ctx, m))['parent'] == parent and job.status == 'running'
    assert await within(5, m.cancel_job(job.id))

async def case_few_descriptors(ctx):
    "Whatever the call that is the first to fail: an error that says it; with descriptors again, all is well."
    ctx.stall_limit, seen = 60, set()
    for free in [*range(0, 27, 3), 60]:
        m = forked(ctx, max_restart_attempts=1)
        with few_descriptors(free):
            try:
                job = await ctx.act(m, WHO)
                await ctx.ended(job, timeout=5)
                error = job.error
            except OSError as e: error = str(e)
        assert error is None or 'Too many open files' in error, f'{free} free: {error}'
        seen.add(error is None)
        try: await within(5, done(ctx, m))
        except BaseException as e: raise AssertionError(f'after {free} free descriptors ({error!r}): {e!r}') from e
        await within(5, m.aclose())
    assert seen == {True, False}

@pytest.mark.parametrize('kinds', [['raise', 'missing', 'sysexit', 'exit'], ['segv', 'hang', 'atfork', 'recursion']])
def test_bad_modules(kinds): print(run_case(case_bad_modules, kinds))
def test_odd_modules(): print(run_case(case_odd_modules))
def test_fork_fails(): print(run_case(case_fork_fails))
def test_few_descriptors(): print(run_case(case_few_descriptors))

# ---- Nothing grows

def counts(p: psutil.Process) -> dict[str, int]:
    kids = p.children(recursive=True)
    return {'children': len(kids), 'zombies': sum(k.status() == psutil.STATUS_ZOMBIE for k in kids),
            'server threads': p.num_threads(), 'server descriptors': p.num_fds(),
            **{k: len(v) for k, v in snapshot().items()}}

async def case_many(ctx, times):
    m = forked(ctx, max_restart_attempts=10**6, restart_policy='always', max_finished_jobs=50)
    async def ends(cancels: int, crashes: int) -> None:
        for _ in range(cancels):
            job = await ctx.act(m, 'time.sleep(300)')
            await ctx.until(lambda job=job: job.status == 'running')
            assert await m.cancel_job(job.id)
        for i in range(crashes):
            job = await ctx.act(m, ('os._exit(7)', 'os.kill(os.getpid(), 9)')[i % 2])
            await ctx.ended(job, 'failed', 'worker_crashed')
        await done(ctx, m)
    await ends(2, 2)
    s, parent = server(), server().pid
    before, begin = counts(s), time.monotonic()
    await ends(int(50 * times), int(100 * times))
    seconds = time.monotonic() - begin
    def more() -> dict[str, Any]: return {k: (before[k], n) for k, n in counts(s).items() if n > before[k]}
    for _ in range(100):
        if not more(): break
        await asyncio.sleep(.03)
    assert not more(), f'before and after: {more()}'
    assert server().pid == parent and len(s.children()) == 1
    return {'ms for each': round(seconds / (150 * times) * 1e3, 1)}

@pytest.mark.limit(60 * max(1, FORKS))
def test_cancels_and_crashes_leave_nothing(): print(run_case(case_many, FORKS, timeout=40 * max(1, FORKS)))

# ---- All at once

async def case_campaign(ctx, seed, rounds):
    "Whatever happens to workers and servers, and when: each job ends, as it may, and all goes on."
    rnd = random.Random(seed)
    m = forked(ctx, max_workers=2, standby_workers=1, restart_policy='always', max_restart_attempts=10**6,
               worker_start_timeout_seconds=2, preload_modules=['random'], max_finished_jobs=None)
    codes = ('pass', 'time.sleep(.01)', 'time.sleep(60)', 'os._exit(7)', f'{HEIRS}os.kill(os.getpid(), 9)', '1 / 0')
    jobs, happened, cancels = [], [], []
    def victim(kind: str) -> psutil.Process | None:
        found = [p for s in servers() for p in ([s] if kind == 'server' else s.children())]
        return rnd.choice(found) if found else None
    for _ in range(rounds):
        jobs += [await ctx.act(m, rnd.choice(codes)) for _ in range(rnd.randrange(4))]
        if rnd.random() < .5:
            what, kind = rnd.choice(('kill', 'terminate', 'suspend')), rnd.choice(('server', 'worker', 'worker'))
            with contextlib.suppress(psutil.Error):
                if p := victim(kind): happened.append((what, kind, p.pid, getattr(p, what)()))
        for job in jobs:
            if job.status == 'running' and rnd.random() < .3: cancels.append(asyncio.create_task(m.cancel_job(job.id)))
        await asyncio.sleep(rnd.random() * .03)
        if rnd.random() < .1:
            for what, _, pid, _ in happened:
                with contextlib.suppress(ProcessLookupError):
                    if what == 'suspend': os.kill(pid, signal.SIGCONT)
    for what, _, pid, _ in happened:
        with contextlib.suppress(ProcessLookupError):
            if what == 'suspend': os.kill(pid, signal.SIGCONT)
    while open_jobs := [j for j in jobs if j.status in ('pending', 'running')]:
        for job in open_jobs: cancels.append(asyncio.create_task(m.cancel_job(job.id)))
        await asyncio.sleep(.05)
    async with asyncio.timeout(10): await asyncio.gather(*cancels)
    for job in jobs: assert job.fault in (None, 'worker_crashed', 'plugin_error'), f'{job} {job.error} {happened}'
    for _ in range(3): await within(10, done(ctx, m))
    return {'jobs': len(jobs), 'happened': len(happened), 'crashed': sum(j.fault == 'worker_crashed' for j in jobs)}

@pytest.mark.limit(60 * max(1, FORKS))
def test_campaign():
    print('FAULTS_SEED', SEED)
    print(run_case(case_campaign, SEED, int(60 * FORKS), timeout=50 * max(1, FORKS)))

# ---- The app ends

BOOT = '''
import functools, sys
from pathlib import Path
from tests.faults import life
folder, modules = Path(sys.argv[3]), sys.argv[4:]
sys.path.insert(0, str(folder))
life.WorkerConfig = functools.partial(life.WorkerConfig, start_method='forkserver', preload_modules=modules)
life.run(sys.argv[1], sys.argv[2], folder)
'''

class Forking(App):
    "An app in one of the states of `life`; 'importing': its server still imports modules."
    def __init__(self, state: str, ending: str, folder: Path):
        self.state, self.ending = 'starting' if state == 'importing' else state, ending
        folder = folder/f'{state}-{ending}'
        folder.mkdir()
        (folder/'slow_preload.py').write_text(f'import time\nopen({str(folder/"begun")!r}, "w")\ntime.sleep(300)')
        modules = ['slow_preload'] if state == 'importing' else []
        super().__init__('-X', 'faulthandler', '-c', BOOT, self.state, ending, str(folder), *modules)

    def __repr__(self) -> str: return f'<app: {self.state}, {self.ending}>'

@contextlib.contextmanager
def apps(states: list[str], endings: list[str], folder: Path) -> Any:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Forking(s, e, folder)) for s in states for e in endings]

def judge(app: Forking, code: int) -> None:
    "It ends with this exit code, orderly and soon, and nothing is left."
    got, left = app.finish(8), app.left()
    said = f'{app}\n{app.out}\n{app.err}'
    assert got == code, f'exit code {got}: {said}'
    assert not left, f'left: {left}: {said}'
    report = json.loads(app.out.rpartition('REPORT ')[2])
    assert report == {'jobs': [LOOKS[kind] for kind in STATES[app.state]], 'threads': ['MainThread']}, said

def test_the_app_ends(tmp_path):
    "With shutdown, with aclose, and without either: an exit code of its own is kept."
    with apps(['idle', 'starting', 'importing', 'parent'], ['shutdown', 'aclose', 'exit'], tmp_path) as all_apps:
        for app in all_apps:
            judge(app, 3 if app.ending == 'exit' else 0)
            assert not (strange := strange_lines(app.err)), f'{app}: {strange}'

def test_the_app_is_killed(tmp_path):
    with apps(['idle', 'starting', 'importing', 'parent', 'stopped'], ['wait'], tmp_path) as all_apps:
        for app in all_apps: app.until('READY {', 20)
        for app in all_apps:
            os.kill(app.pid, signal.SIGKILL)
            assert not (left := app.left(2)), f'{app}: {left}'

def test_the_app_is_killed_at_any_moment(tmp_path):
    "Also between a fork and the word of it."
    print('FAULTS_SEED', SEED)
    rnd = random.Random(SEED)
    for turn in range(int(2 * FORKS)):
        (folder := tmp_path/f'{turn}').mkdir()
        with apps(['idle', 'starting', 'importing', 'parent'], ['wait'], folder) as all_apps:
            start, moments = time.monotonic(), sorted(rnd.uniform(.1, .9) for _ in all_apps)
            rnd.shuffle(all_apps)
            for app, moment in zip(all_apps, moments):
                time.sleep(max(0, start + moment - time.monotonic()))
                os.kill(app.pid, signal.SIGKILL)
            for app, moment in zip(all_apps, moments):
                assert not (left := app.left(2)), f'{app} killed after {moment:.3f} s, seed {SEED}: {left}'

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group(sig, tmp_path):
    with apps(['idle', 'parent', 'importing'], ['wait'], tmp_path) as all_apps:
        for app in all_apps: app.until('READY {', 20)
        for app in all_apps: os.killpg(app.pid, sig)
        for app in all_apps:
            if sig == signal.SIGINT: judge(app, -sig)
            else: assert app.finish(5) == -sig and not (left := app.left(2)), f'{app}: {left}'

# ---- Apps of every shape

SCRIPT = '''
import asyncio, os, signal, sys, threading
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

class Local:
    def __init__(self, config): pass
    def execute(self, code=None):
        if code is not None: os._exit(code)
        return {'main': __name__}

async def main(plugin):
    m = SimpleJobManager({'p': plugin}, worker_config=WorkerConfig(start_method='forkserver', max_restart_attempts=2))
    for params in ({}, {'code': 7}, {}):
        job = await m.start_job('p', **params)
        await m.wait_for_job(job.id, 10)
        print(job.status, job.fault, job.exit_code, job.error or job.result)
    await m.aclose()

def reap():
    while True:
        try: os.waitpid(-1, 0)
        except ChildProcessError: threading.Event().wait(.001)

if sys.argv[1] == 'ignores': signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if sys.argv[1] == 'reaps': threading.Thread(target=reap, daemon=True).start()
if sys.argv[1] == 'no guard': asyncio.run(main('helper:Local'))
elif sys.argv[1] == 'no guard, local' or __name__ == '__main__': asyncio.run(main(Local))
'''

def test_scripts_of_every_shape(tmp_path):
    (tmp_path/'app.py').write_text(SCRIPT)
    (tmp_path/'helper.py').write_text(SCRIPT.partition('async def main')[0])
    with contextlib.ExitStack() as stack:
        found = {s: stack.enter_context(App(str(tmp_path/'app.py'), s, cwd=tmp_path))
                 for s in ('guard', 'no guard', 'no guard, local', 'ignores', 'reaps')}
        for shape, app in found.items():
            assert app.finish(15) == 0, f'{shape}: {app.out}{app.err}'
            assert not app.left()
            lines, main = app.out.splitlines(), 'helper' if shape == 'no guard' else '__mp_main__'
            if shape == 'no guard, local':
                assert len(lines) == 3 and all(x.startswith('failed start_failed') for x in lines), app.out
                assert 'if __name__' in lines[0], app.out
                continue
            good = f"completed None None {{'main': '{main}'}}"
            bad = 'failed worker_crashed 7 the worker process died: exit code 7'
            assert lines == [good, bad, good], f'{shape}: {app.out}{app.err}'
            assert not [x for x in app.err.splitlines() if 'worker' not in x], app.err
