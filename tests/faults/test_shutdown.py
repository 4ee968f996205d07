"However an app ends, its worker goes with it, and nothing waits for ever."
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time

import httpx
import psutil
import pytest

from cjm_fasthtml_workers.core.errors import ManagerClosed
from tests.faults.harness import App, Watched, family, run_case, strange_lines
from tests.faults.life import LOOKS, STATES, Life

ASYNC_CANCELLED = r'^Traceback|^  |^KeyboardInterrupt|^asyncio\.|^LookupError|^During handling|^The above'

def all_states(ending, folder, states=STATES):
    stack = contextlib.ExitStack()
    return stack, [stack.enter_context(Life(s, ending, folder)) for s in states]

def judge(app, code, seconds=10):
    "It ends with this exit code, orderly, and nothing is left; what it said on stderr."
    got, left = app.finish(seconds), app.left()
    said = f'{app}\n{app.out}\n{app.err}'
    assert got == code, f'exit code {got}: {said}'
    assert not left, f'left: {left}: {said}'
    report = json.loads(app.out.rpartition('REPORT ')[2])
    assert report['jobs'] == [LOOKS[kind] for kind in STATES[app.state]], said
    assert report['threads'] == ['MainThread'], said
    return app.err

ENDINGS = {'shutdown': 0, 'aclose': 0, 'end': 0, 'atexit': 0, 'exit': 3, 'raise': 1}

@pytest.mark.parametrize('ending', ENDINGS)
def test_in_every_state(ending, tmp_path):
    stack, apps = all_states(ending, tmp_path)
    with stack:
        for app in apps:
            err = judge(app, ENDINGS[ending])
            assert ('nobody catches this' in err) == (ending == 'raise')
            strange = strange_lines(err, ASYNC_CANCELLED if ending == 'raise' else None)
            assert not strange, f'{app}: {strange}'

def test_ctrl_c_in_every_state(tmp_path):
    "The worker does not see it; the app cleans up in its own time."
    stack, apps = all_states('wait', tmp_path)
    with stack:
        for app in apps: app.heard('READY')
        for app in apps: os.killpg(app.popen.pid, signal.SIGINT)
        for app in apps:
            err = judge(app, -signal.SIGINT)
            assert not (strange := strange_lines(err, ASYNC_CANCELLED)), f'{app}: {strange}'

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_nobody_handles(sig, tmp_path):
    "To the app alone, then to its whole group, as a terminal and a service manager send it."
    for kill in (os.kill, os.killpg):
        stack, apps = all_states('wait', tmp_path, ['idle', 'stuck', 'starting'])
        with stack:
            for app in apps: app.heard('READY')
            for app in apps: kill(app.pid, sig)
            for app in apps:
                assert app.finish(10) == -sig
                assert not (left := app.left()), f'{app}: {left}'
                assert not (strange := strange_lines(app.err)), f'{app}: {strange}'

def test_ctrl_c_twice(tmp_path):
    "Also while the first is being dealt with: in the loop, in an exit handler."
    stack, apps = all_states('wait', tmp_path, ['idle', 'busy', 'stubborn', 'starting', 'streaming'])
    with stack:
        for app in apps: app.heard('READY')
        for pause in (0, .02, .1):
            for app in apps:
                with contextlib.suppress(ProcessLookupError): os.killpg(app.pid, signal.SIGINT)
            time.sleep(pause)   # a person's fingers
        for app in apps:
            assert app.finish(10) is not None, f'{app}: {app.err}'
            assert not (left := app.left()), f'{app}: {left}'

@pytest.mark.parametrize('ending', ['handler', 'handler-inside'])
def test_shutdown_in_a_signal_handler(ending, tmp_path):
    "The handler may interrupt any line of ours in the main thread, also one that holds a lock."
    stack, apps = all_states(ending, tmp_path, ['idle', 'busy', 'starting'])
    with stack:
        for app in apps: app.heard('READY')
        if ending == 'handler':
            for app in apps: os.kill(app.pid, signal.SIGTERM)
        for app in apps:
            assert app.finish(8) == 5, f'{app}: {app.err[-5000:]}'
            assert not (left := app.left()), f'{app}: {left}'

def test_app_stopped_and_continued(tmp_path):
    "What happened meanwhile is looked at before anything is held to have taken too long."
    stack, apps = all_states('resume', tmp_path, ['idle', 'paused-job', 'paused-start'])
    with stack:
        for app in apps: app.heard('READY')
        for app in apps: os.kill(app.pid, signal.SIGSTOP)
        time.sleep(2.5)   # longer than all that is timed in these
        for app in apps: os.kill(app.pid, signal.SIGCONT)
        for app in apps:
            assert app.finish(10) == 0, f'{app}: {app.err}'
            assert not (left := app.left()), f'{app}: {left}'
            seen = app.heard('RESUMED')
            assert seen['worker_before'] == seen['worker_after'], f'{app}: {seen}'
            assert all(status == 'completed' for status, _ in seen['jobs']), f'{app}: {seen} {app.err}'
            assert seen['restarts'] == 0

# ---- Inside one process

SHORT = {'cancel_grace_seconds': .2, 'shutdown_timeout_seconds': .3}

async def case_before_the_first_start(ctx, way):
    m = ctx.manager()
    events = [e async for e in closed(m, way)]
    assert events == []
    with pytest.raises(ManagerClosed): await m.start_job('echo')
    with pytest.raises(ManagerClosed): await m.start()
    assert not await m.cancel_job('nobody')
    assert await m.get_worker_state() is None
    assert not await m.unload_plugin('echo') and not await m.reload_plugin('echo', {})

async def closed(m, way):
    "What is told from now on, the manager being closed."
    stream = m.events()
    if way == 'aclose': await m.aclose()
    else: m.shutdown()
    async for e in stream: yield e

@pytest.mark.parametrize('way', ['shutdown', 'aclose'])
def test_before_the_first_start(way): run_case(case_before_the_first_start, way)

async def case_many_at_once(ctx, state):
    "From the loop, from threads, from threads with loops of their own; and then once more."
    m = ctx.manager(config=SHORT)
    if state != 'starting': await ctx.warm(m)
    jobs = [await ctx.start(m, 'sleeper' if state != 'idle' else 'echo') for _ in range(3)]
    if state == 'busy': await ctx.running(m, jobs[0])
    if state == 'idle': await ctx.ended(jobs[2])
    async with asyncio.timeout(10):
        await asyncio.gather(m.aclose(), m.aclose(), *(asyncio.to_thread(m.shutdown) for _ in range(3)),
                             *(asyncio.to_thread(asyncio.run, m.aclose()) for _ in range(2)))
        assert not m.monitor_running and m.worker_process is None   # each returned when all was over
        m.shutdown()
        await m.aclose()
    await asyncio.get_running_loop().shutdown_default_executor()   # its threads are not ours
    wanted = {'busy': ['interrupted', None, None]}.get(state, [None] * 3)
    assert [j.fault for j in jobs] == wanted, jobs

@pytest.mark.parametrize('state', ['idle', 'busy', 'starting'])
def test_many_at_once(state): run_case(case_many_at_once, state)

async def case_each_is_over_when_it_returns(ctx):
    m = ctx.manager(config=SHORT)
    job = await ctx.start(m, 'sleeper')
    await ctx.running(m, job)
    pid = job.worker_pid
    async def close(way):
        await (m.aclose() if way else asyncio.to_thread(m.shutdown))
        assert not psutil.pid_exists(pid) and job.status == 'failed'
    async with asyncio.timeout(10): await asyncio.gather(*map(close, [0, 1, 0, 1]))
    await asyncio.get_running_loop().shutdown_default_executor()

def test_each_call_returns_when_it_is_over(): run_case(case_each_is_over_when_it_returns)

async def case_cancelled_half_way(ctx):
    "Who waits for the end may give up; the end comes all the same."
    m = ctx.manager(config=SHORT)
    job = await ctx.start(m, 'sleeper')
    await ctx.running(m, job)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(.05): await m.aclose()
    await ctx.until(lambda: not m.monitor_running)
    assert job.fault == 'interrupted'

def test_aclose_that_was_cancelled(): run_case(case_cancelled_half_way)

class Closing(Watched):
    "Is shut down from where we call the app's code."
    where = ''
    def _close_here(self, where):
        if where == self.where: self.shutdown()
    def _on_job_completed(self, job_id): self._close_here('completed')
    def _on_job_finished(self, job_id): self._close_here('finished')
    def extract_job_result(self, job, data):
        if job.plugin_id == 'pid': self._close_here('extract')
        return data
    def create_job(self, plugin_id, **params):
        if plugin_id == 'pid': self._close_here('create')
        return super().create_job(plugin_id, **params)
    def get_worker_entry_point(self):
        self._close_here('entry')
        return super().get_worker_entry_point()

class Resources:
    "A resource manager that shuts its owner down."
    def __init__(self): self.m, self.on = None, ''
    def __getattr__(self, name):
        if name.startswith('__'): raise AttributeError(name)
        return lambda *args, **kwargs: self.m.shutdown() if name == self.on else None

class Broadcasts:
    "A broadcaster that closes its owner."
    def __init__(self, way): self.m, self.way = None, way
    async def broadcast(self, event_type, data):
        if not event_type.endswith('completed'): return
        if self.way == 'aclose': await self.m.aclose()
        else: await asyncio.to_thread(self.m.shutdown)

async def case_from_our_callbacks(ctx, wheres):
    for where in wheres:
        try: await close_from(ctx, where)
        except BaseException as e: raise AssertionError(f'closed from {where}') from e
        await ctx.check()
    await asyncio.get_running_loop().shutdown_default_executor()

async def close_from(ctx, where):
    kwargs = {}
    if where.endswith(('_worker', '_state')): kwargs['resource_manager'] = Resources()
    if where.startswith('broadcast'): kwargs['event_broadcaster'] = Broadcasts(where.split()[1])
    m = ctx.manager(cls=Closing, config=SHORT, **kwargs)
    for part in kwargs.values(): part.m, part.on = m, where
    m.where = where
    jobs = []
    try:
        for _ in range(3): jobs.append(await ctx.start(m, 'pid'))
    except ManagerClosed: assert where in ('create', 'entry')   # the supervisor may be quicker than three starts
    for job in jobs: await ctx.ended(job)
    if where == 'unregister_worker': os.kill(jobs[0].worker_pid, signal.SIGKILL)
    await ctx.until(lambda: m._is_closed and not m.monitor_running, 'the end')
    with pytest.raises(ManagerClosed): await m.start_job('echo')

CALLBACKS = ['completed', 'finished', 'extract', 'create', 'entry', 'register_worker', 'update_worker_state',
             'unregister_worker', 'broadcast aclose', 'broadcast shutdown']

@pytest.mark.parametrize('wheres', [CALLBACKS[:5], CALLBACKS[5:]])
def test_from_our_callbacks(wheres): run_case(case_from_our_callbacks, wheres)

def case_other_loop(ctx):
    "The loop on which all was done is closed before anybody thinks of the end."
    m = ctx.manager(config=SHORT)
    async def work():
        jobs = [await ctx.start(m, 'sleeper') for _ in range(2)]
        await ctx.running(m, jobs[0])
        return jobs
    jobs = asyncio.run(work())
    asyncio.run(m.aclose())
    assert [j.status for j in jobs] == ['failed', 'cancelled']

def test_in_another_loop(): run_case(case_other_loop)

async def case_fork(ctx):
    "A fork of the app that ends, or shuts down, takes nothing of ours with it."
    m = ctx.manager()
    pid = await ctx.warm(m)
    for end in (m.shutdown, lambda: os._exit(0), lambda: sys.exit(0)):
        if (child := os.fork()) == 0:
            try: end()
            finally: os._exit(0)
        os.waitpid(child, 0)
    assert await ctx.warm(m) == pid

def test_forks_of_the_app(): run_case(case_fork)

# ---- uvicorn --reload

RELOADED = '''
import asyncio, json
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

VERSION = 0
manager = SimpleJobManager({'pid': 'tests.faults.plugins:Pid', 'sleeper': 'tests.faults.plugins:Sleeper'},
                           worker_config=WorkerConfig(cancel_grace_seconds=.1))
async def job(request):
    j = await manager.start_job('pid')
    await manager.wait_for_job(j.id, 20)
    return JSONResponse(j.result['pid'])
async def version(request): return JSONResponse(VERSION)
async def sleep(request):
    j = await manager.start_job('sleeper')
    return JSONResponse({'status': j.status})
async def events(request):
    async def stream():
        yield 'data: hello\\n\\n'
        async for e in manager.events(): yield f'data: {json.dumps(e.data)}\\n\\n'
    return StreamingResponse(stream(), media_type='text/event-stream')
routes = [Route('/version', version), Route('/job', job), Route('/sleep', sleep), Route('/events', events)]
app = Starlette(routes=routes, lifespan=manager.lifespan)
'''
RELOADS = int(os.environ.get('FAULTS_RELOADS', 2))

def eventually(ask, seconds=20):
    "What `ask` gives, as soon as it gives something and the server answers."
    end = time.monotonic() + seconds
    while True:
        try:
            if (found := ask()): return found
        except httpx.TransportError: pass
        assert time.monotonic() < end, 'in vain'
        time.sleep(.05)

@pytest.mark.limit(60 + 10 * RELOADS)
@pytest.mark.parametrize('stream', [False, True])
def test_uvicorn_reload(stream, tmp_path):
    "Each time the old worker goes with the old server. An open stream is waited for as long as uvicorn was told."
    served = tmp_path/'served.py'
    served.write_text(RELOADED)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{(port := s.getsockname()[1])}'
    command = ['-m', 'uvicorn', 'served:app', '--app-dir', str(tmp_path), '--port', str(port), '--reload',
               '--reload-dir', str(tmp_path), '--reload-delay', '.05', '--timeout-graceful-shutdown', '1']
    with App(*command) as app, contextlib.ExitStack() as readers:
        workers, sizes = [], []
        for version in range(RELOADS + 1):
            if version:
                new = tmp_path/'new'
                new.write_text(RELOADED.replace('VERSION = 0', f'VERSION = {version}'))
                new.rename(served)
            def ask(version=version): return httpx.get(f'{url}/version').json() == version
            eventually(ask)
            workers.append(httpx.get(f'{url}/job', timeout=20).json())
            assert not [pid for pid in workers[:-1] if psutil.pid_exists(pid)], f'{workers}: {app.err}'
            sizes.append(len(family(app.token)))
            if stream:
                reader = readers.enter_context(httpx.stream('GET', f'{url}/events', timeout=20))
                assert next(reader.iter_lines()) == 'data: hello'
            assert httpx.get(f'{url}/sleep', timeout=20).json()['status'] == 'running'
        assert len(set(sizes)) == 1, f'as many processes after each reload: {sizes}'
        os.kill(app.pid, signal.SIGTERM)
        assert app.finish(15) is not None, app.err
        assert not app.left()
        assert 'Traceback' not in app.err or stream, app.err   # uvicorn says so of each stream that it ends
