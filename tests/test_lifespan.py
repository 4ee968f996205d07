"""Real apps under a real uvicorn: told to stop, the server ends in good order and takes the worker with it."""
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parent.parent

FASTHTML = '''
from fasthtml.common import fast_app
app, rt = fast_app(lifespan=manager.lifespan)

@rt('/job/{kind}')
async def get(kind: str): return JSONResponse(await job(kind))
'''

STARLETTE = '''
from starlette.applications import Starlette
from starlette.routing import Route

async def start(request): return JSONResponse(await job(request.path_params['kind']))
app = Starlette(routes=[Route('/job/{kind}', start)], lifespan=manager.lifespan)
'''

NESTED = '''
import contextlib
from starlette.applications import Starlette
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    async with manager.lifespan(app): yield
    print('STOPPED', manager.monitor_running, flush=True)

async def start(request): return JSONResponse(await job(request.path_params['kind']))
app = Starlette(routes=[Route('/job/{kind}', start)], lifespan=lifespan)
'''

COMMON = '''
from starlette.responses import JSONResponse
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

class Said(SimpleJobManager):

    async def aclose(self):
        await super().aclose()
        print('CLOSED', [(j.plugin_id, j.status, j.fault) for j in self.get_all_jobs()], flush=True)

class Broadcaster:
    async def broadcast(self, event_type, data): print('EVENT', event_type, flush=True)

manager = Said({'echo': 'tests.faults.plugins:Echo', 'sleeper': 'tests.faults.plugins:Sleeper'},
               worker_config=WorkerConfig(cancel_grace_seconds=.2, shutdown_timeout_seconds=1),
               event_broadcaster=Broadcaster())

async def job(kind):
    j = await manager.start_job(kind)
    if kind == 'echo': await manager.wait_for_job(j.id, 20)
    return {'status': j.status, 'pid': j.worker_pid}
'''

APPS = {'fasthtml': FASTHTML, 'starlette': STARLETTE, 'nested': NESTED}

class Server:
    "An app under uvicorn, in a process of its own."
    def __init__(self, folder, name):
        (folder/'served.py').write_text(COMMON + APPS[name])
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        self.url, self.log = f'http://127.0.0.1:{port}', folder/'log'
        env = os.environ | {'PYTHONPATH': str(ROOT)}
        command = [sys.executable, '-m', 'uvicorn', 'served:app', '--port', str(port), '--app-dir', str(folder)]
        with self.log.open('w') as log:
            self.popen = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self): return self

    def __exit__(self, *exc):
        self.popen.kill()
        self.popen.wait()

    def until(self, condition, what, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f'{what}: in vain\n{self.said()}'
            time.sleep(.02)

    def answers(self):
        try: return httpx.get(self.url).status_code < 500
        except httpx.TransportError: return False

    def said(self): return self.log.read_text()
    def job(self, kind): return httpx.get(f'{self.url}/job/{kind}', timeout=20).json()

    def stop(self, sig):
        "The exit code; all children are gone."
        family = psutil.Process(self.popen.pid).children(recursive=True)
        self.popen.send_signal(sig)
        code = self.popen.wait(15)
        self.until(lambda: not any(p.is_running() for p in family), 'its children to go', 2)
        return code

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('name', APPS)
def test_server_is_told_to_stop(name, sig, tmp_path):
    with Server(tmp_path, name) as server:
        server.until(server.answers, 'the server to answer')
        done = server.job('echo')
        assert done['status'] == 'completed' and psutil.pid_exists(done['pid'])
        if name != 'nested': assert [server.job('sleeper')['status'] for _ in range(2)] == ['running', 'pending']
        code = server.stop(sig)
        said = server.said()
        assert code in (0, -sig), said   # uvicorn ends by the signal that it got, from 0.29 on
        assert 'Traceback' not in said and 'ERROR' not in said, said
        assert 'Application shutdown complete' in said
        ends = [('echo', 'completed', None), ('sleeper', 'failed', 'interrupted'), ('sleeper', 'cancelled', None)]
        assert f'CLOSED {ends if name != "nested" else ends[:1]}' in said, said
        assert not psutil.pid_exists(done['pid'])
        if name != 'nested':   # the ends are told while the app can still tell them
            assert said.index('EVENT jobs:cancelled') < said.index('EVENT jobs:failed')

@pytest.mark.parametrize('name', APPS)
def test_server_without_a_job_starts_no_worker(name, tmp_path):
    with Server(tmp_path, name) as server:
        server.until(server.answers, 'the server to answer')
        assert psutil.Process(server.popen.pid).children() == []
        assert server.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
        assert 'Traceback' not in server.said(), server.said()
