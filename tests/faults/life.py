"""An app that brings its worker into a state and then ends: `python -m tests.faults.life STATE ENDING FOLDER`.

It says READY when it is in the state, and REPORT from the last exit handler, if it gets so far.
"""
import asyncio
import atexit
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from tests.faults.harness import App, OneLine

GRACE, STOP = .2, .3   # seconds: cancel_grace_seconds, shutdown_timeout_seconds
FOREVER = 'open(begun, "w"); time.sleep(300)'
CODE = {   # what the running job does
    'busy': FOREVER,
    'stuck': 'import ctypes; open(begun, "w"); ctypes.PyDLL(None).sleep(300)',   # in C, holding the GIL
    'stubborn': 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n' + FOREVER,
    'stopped': 'import signal; open(begun, "w"); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(300)',
    'parent': 'import subprocess, sys, ctypes\n'   # has children of every kind, and is in C itself
              'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])\n'
              'subprocess.Popen("sleep 300 & sleep 300", shell=True)\n'
              'if os.fork() == 0:\n    os.fork(); time.sleep(300); os._exit(0)\n'
              'open(begun, "w"); ctypes.PyDLL(None).sleep(300)',
    'streaming': 'def stream():\n    i = 0\n    while True:\n        yield f"{i} "; i += 1; time.sleep(.001)',
}
STATES = {   # with the jobs as an orderly shutdown leaves them
    'unstarted': [], 'idle': ['idle'], 'starting': ['waiting'], 'backoff': ['crashed', 'waiting'],
    'cancelling': ['cancelled'], 'reloading': ['idle'], **{s: ['busy', 'waiting', 'waiting'] for s in CODE}}
LOOKS = {'idle': ['completed', None], 'busy': ['failed', 'interrupted'], 'waiting': ['cancelled', None],
         'cancelled': ['cancelled', None], 'crashed': ['failed', 'worker_crashed']}

# ---- Outside

class Life(App):
    "Such an app."
    def __init__(self, state: str, ending: str, folder: Path):
        self.state, self.ending = state, ending
        folder = folder/f'{state}-{ending}'
        folder.mkdir(exist_ok=True)
        super().__init__('-X', 'faulthandler', '-m', 'tests.faults.life', state, ending, str(folder))

    def heard(self, word: str, timeout: float = 30) -> dict[str, Any]:
        "What it says on its line READY, when it is in its state, or REPORT, in its last exit handler."
        return json.loads(self.until(f'{word} {{', timeout).rpartition(f'{word} ')[2].partition('\n')[0])

    def __repr__(self) -> str: return f'<app: {self.state}, {self.ending}>'

# ---- Inside

def say(word: str, **data: Any) -> None: os.write(1, f'{word} {json.dumps(data)}\n'.encode())

async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition(): await asyncio.sleep(.005)

def make_manager(state: str, begun: Path) -> SimpleJobManager:
    init = {'starting': f'open({str(begun)!r}, "w"); time.sleep(300)',
            'reloading': f'if config.get("slow"): open({str(begun)!r}, "w"); time.sleep(300)'}.get(state, '')
    if state.startswith('paused'):   # everything timed shorter than the pause, and longer than it takes
        limits: dict[str, Any] = dict(worker_start_timeout_seconds=2, job_timeout_seconds=2)
        return SimpleJobManager({'do': 'tests.faults.plugins:Do'}, worker_config=WorkerConfig(**limits),
                                configs={'do': {'init': f'open({str(begun)!r}, "w"); time.sleep(.7)'}})
    cfg = WorkerConfig(cancel_grace_seconds=GRACE, shutdown_timeout_seconds=STOP,
                       restart_policy='backoff', restart_backoff_base_seconds=300, restart_backoff_max_seconds=300)
    return SimpleJobManager({'do': 'tests.faults.plugins:Do'}, worker_config=cfg, configs={'do': {'init': init}})

async def reach(m: SimpleJobManager, state: str, begun: Path, jobs: list[Any]) -> None:
    async def do(code: str) -> None: jobs.append(await m.start_job('do', code=code, begun=str(begun)))
    if state == 'unstarted': return
    if state in CODE:
        for code in (CODE[state], 'pass', 'pass'): await do(code)
        if state == 'streaming': await anext(aiter(m.stream_job(jobs[0].id)))
        else: await until(begun.exists)
    elif state == 'paused-job':
        await m.start()
        for code in ('open(begun + "2", "w"); time.sleep(.7)', 'pass', 'pass'): await do(code)
        await until(Path(f'{begun}2').exists)
    elif state in ('starting', 'paused-start'):
        await do('pass')
        await until(begun.exists)
    elif state == 'cancelling':
        await do('from cjm_fasthtml_workers.core.context import cancel_requested; cancel_requested()\n' + FOREVER)
        await until(begun.exists)
        reach.cancel = asyncio.create_task(m.cancel_job(jobs[0].id))   # it listens, and does not obey
        await asyncio.sleep(.05)
    elif state == 'backoff':
        await do('os._exit(3)')
        await m.wait_for_job(jobs[0].id, 20)
        await do('pass')
    else:
        await do('pass')
        await m.wait_for_job(jobs[0].id, 20)
        if state == 'reloading':
            reach.reload = asyncio.create_task(m.reload_plugin('do', {
                'init': f'open({str(begun)!r}, "w"); time.sleep(300)'}))
            await until(begun.exists)

class Id(str):
    "The id of a job during whose acceptance the signal arrives: the book takes the hash of ids."
    armed = False

    def __hash__(self) -> int:
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGTERM)
        return super().__hash__()

async def signal_inside(m: SimpleJobManager) -> None:
    job = m.create_job('do', code='pass')
    job.id = Id(job.id)
    job.id.armed = True
    m.create_job = lambda *args, **kwargs: job
    await m.start_job('do')

async def resume(m: SimpleJobManager, jobs: list[Any]) -> None:
    "Wait until this process was stopped and goes on, then look around."
    before, last = m.worker_process.pid, time.monotonic()
    while (now := time.monotonic()) - last < 1:
        last = now
        await asyncio.sleep(.01)
    for _ in range(3): jobs.append(await m.start_job('do', code='pass'))
    for j in jobs: await m.wait_for_job(j.id, 10)
    say('RESUMED', jobs=[[j.status, j.error] for j in jobs], worker_before=before, worker_after=m.worker_process.pid,
        restarts=m.restart_count)

async def main(m: SimpleJobManager, state: str, ending: str, folder: Path, jobs: list[Any]) -> None:
    await reach(m, state, folder/'begun', jobs)
    if ending.startswith('handler'):   # what many an app does
        def stop(*_: Any) -> None:
            m.shutdown()
            sys.exit(5)
        signal.signal(signal.SIGTERM, stop)
    say('READY', worker=m.worker_process and m.worker_process.pid)
    if ending == 'resume': await resume(m, jobs)
    elif ending == 'shutdown': m.shutdown()
    elif ending == 'aclose': await m.aclose()
    elif ending == 'atexit': atexit.register(m.shutdown)   # runs before ours
    elif ending == 'exit': sys.exit(3)
    elif ending == 'raise': raise LookupError('nobody catches this')
    elif ending == 'handler-inside': await signal_inside(m)
    elif ending != 'end': await asyncio.sleep(300)

def run(state: str, ending: str, folder: Path) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    jobs: list[Any] = []
    def report() -> None:   # registered first, so it runs last
        say('REPORT', jobs=[[j.status, j.fault] for j in jobs], threads=[t.name for t in threading.enumerate()])
    atexit.register(report)
    m = make_manager(state, folder/'begun')
    if ending == 'atexit': atexit.register(m.shutdown)   # runs after ours
    asyncio.run(main(m, state, ending, folder, jobs))

if __name__ == '__main__':
    run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
