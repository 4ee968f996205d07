"""Runs one case in a process of its own, and checks after it what must hold after every case.

    async def case_one_job(ctx):
        m = ctx.manager()
        job = await ctx.start(m, 'echo', a=1)
        await ctx.ended(job, 'completed')

    def test_one_job(): run_case(case_one_job)

The numbers I1 to I8 in the messages:
I1 each accepted job ends in time; I2 an end never changes, and is told once; I3 a result belongs to its own job (by
their `nonce`, which `ctx.start` gives); I4 the next three plain jobs complete; I5 the event loop never stalled; I6 no
more children, threads, descriptors than before; I7 every waiter and stream woke up; I8 nothing on stderr but our log.

On Linux that process is a fork of one that has only imported what all cases need, which takes most of the time of a
start. FAULTS_EXEC=1, or an `env` of its own, starts each from nothing.
"""
import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import inspect
import itertools
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from cjm_fasthtml_workers.core.errors import JobNotFound
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

HOME = Path(__file__).resolve().parents[2]
CASE_TOKEN = 'FAULT_CASE_TOKEN'   # in the environment of all processes of one case, also those that lost their parents
END_SECONDS = float(os.environ.get('FAULTS_END_SECONDS', 10))   # I1, I7
STALL_SECONDS = float(os.environ.get('FAULTS_STALL_SECONDS', .25))   # I5; the goal is 0.025 on a quiet machine
SETTLE_SECONDS = float(os.environ.get('FAULTS_SETTLE_SECONDS', 3))   # I6
TERMINAL = ('completed', 'failed', 'cancelled')
PLUGINS = {n: f'tests.faults.plugins:{n.title()}' for n in 'echo sleeper polite streamer pid act do'.split()}

# ---- Outside: start a case, watch it, judge it

def family(token: str, leader: int | None = None) -> list[psutil.Process]:
    "All live processes that were given this token by their parents, and those in the session of this leader."
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            is_ours = os.getsid(p.pid) == leader or p.environ().get(CASE_TOKEN) == token
            if is_ours and p.status() != psutil.STATUS_ZOMBIE: found.append(p)
    return found

class App:
    "A Python process whose whole family can be seen and ended; use as a context manager."
    def __init__(self, *args: str, env: dict[str, str] | None = None, cwd: Path | str = HOME, **popen: Any):
        self.token = uuid.uuid4().hex
        env = {**os.environ, 'PYTHONPATH': str(HOME), **(env or {}), CASE_TOKEN: self.token}
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()   # a pipe would be held by who is left behind
        stdout, stderr = self._files
        popen = {'stdin': subprocess.DEVNULL, 'start_new_session': True, **popen}
        self.popen = subprocess.Popen([sys.executable, *args], env=env, cwd=cwd, stdout=stdout, stderr=stderr, **popen)
        self.pid = self.popen.pid

    def __enter__(self) -> 'App': return self

    def __exit__(self, *exc: Any) -> None:
        self.kill_family()
        self.popen.kill()
        self.popen.wait()
        for f in self._files: f.close()

    def family(self) -> list[psutil.Process]: return family(self.token, self.pid)

    def kill_family(self) -> None:
        for p in self.family():
            with contextlib.suppress(psutil.Error): p.kill()

    def said(self, what: int) -> str: return os.pread(self._files[what].fileno(), 2**26, 0).decode('utf-8', 'replace')
    @property
    def out(self) -> str: return self.said(0)   # so far
    @property
    def err(self) -> str: return self.said(1)

    def until(self, text: str, timeout: float = 10, is_line: bool = True) -> str:
        "stdout, as soon as a line of it has `text`; whole, since an unbuffered `print` writes each word by itself."
        deadline = time.monotonic() + timeout
        while True:
            code = self.popen.poll()   # before we look: what it said last counts
            out = self.out[:self.out.rfind('\n') + 1] if is_line else self.out
            if text in out: return out
            assert code is None, f'it ended with {code}: {self.out}{self.err}'
            assert time.monotonic() < deadline, f'no {text!r} in {timeout} s: {self.out}{self.err}'
            time.sleep(.005)

    def finish(self, timeout: float) -> int | None:  # None: it had to be killed
        "The exit code."
        if hasattr(os, 'pidfd_open') and self.popen.poll() is None:   # `wait` looks 20 times a second only
            fd = os.pidfd_open(self.pid)
            select.select([fd], [], [], timeout)
            os.close(fd)
            timeout = 1
        try: return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_family()
            self.popen.wait()
            return None

    def left(self, timeout: float = 2.0) -> list[str]:
        "Who of its family is still there after `timeout`, the process itself not counted."
        def look() -> list[psutil.Process]: return [p for p in self.family() if p.pid != self.pid]
        deadline = time.monotonic() + timeout
        while (found := look()) and time.monotonic() < deadline: time.sleep(.02)
        out = []
        for p in found:
            with contextlib.suppress(psutil.Error): out.append(f'{p.pid} {" ".join(p.cmdline())[:200]}')
        return out

class Nursery:
    "A process that has imported what all cases need, and forks one for each case."
    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.popen = subprocess.Popen(
            [sys.executable, '-X', 'faulthandler', '-m', 'tests.faults.harness', str(theirs.fileno())], cwd=HOME,
            env={**os.environ, 'PYTHONPATH': str(HOME)}, stdin=subprocess.DEVNULL, start_new_session=True,
            pass_fds=[theirs.fileno()])
        theirs.close()
        self.answers = self.socket.makefile('r')

    def close(self) -> None:
        self.answers.close()
        self.socket.close()
        self.popen.wait(10)

class Fork(App):
    "A case in a fork of the nursery."
    nursery: Nursery | None = None   # while the tests run

    def __init__(self, *args: str):
        assert self.nursery
        self.token = uuid.uuid4().hex
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        message = json.dumps([self.token, *args]).encode()
        socket.send_fds(self.nursery.socket, [message], [f.fileno() for f in self._files])
        self.pid = int(self.nursery.answers.readline())
        self.code: int | None = None

    def __exit__(self, *exc: Any) -> None:
        self.finish(0)
        self.kill_family()
        for f in self._files: f.close()

    def finish(self, timeout: float) -> int | None:
        if self.code is not None: return self.code
        assert self.nursery
        in_time = bool(select.select([self.nursery.socket], [], [], timeout)[0])
        if not in_time: self.kill_family()
        self.code = int(self.nursery.answers.readline())
        return self.code if in_time else None

def serve(fd: int) -> list[str]:
    "In the nursery: fork for each request. In the fork: what it is to run."
    import httpx  # noqa: F401
    import pytest  # noqa: F401
    gc.collect()
    gc.freeze()   # no fork is to look through all this again
    with socket.socket(fileno=fd) as requests:
        while True:
            message, fds, *_ = socket.recv_fds(requests, 2**16, 2)
            if not message: sys.exit()
            if (pid := os.fork()) == 0: break
            for f in fds: os.close(f)
            with contextlib.suppress(BrokenPipeError):
                requests.sendall(b'%d\n' % pid)
                requests.sendall(b'%d\n' % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.setsid()
    for f, number in zip(fds, (1, 2), strict=True):
        os.dup2(f, number)
        os.close(f)
    os.environ[CASE_TOKEN], *args = json.loads(message)
    return args

def strange_lines(stderr: str, allow: str | None = None) -> list[str]:
    "I8: what is on stderr and no log line of ours, and exceptions that only the supervisor's safety net caught."
    ok = re.compile(allow) if allow else None
    return [line for line in stderr.splitlines() if line.strip() and not (ok and ok.search(line))
            and (not line.startswith('LOG cjm_fasthtml_workers') or 'an action of the supervisor failed' in line)]

def start_case(*what: str, env: dict[str, str] | None) -> App:
    return App('-X', 'faulthandler', '-m', 'tests.faults.harness', *what, env=env)

def run_case(
    case: Callable[..., Any] | str,  # The function, or "tests.faults.test_x:case_name"
    *args: Any,  # For the case, after `ctx`; JSON
    timeout: float = 40,
    allow: str | None = None,  # Regular expression: further lines that may be on stderr
    env: dict[str, str] | None = None
) -> dict[str, Any]:  # What the case returned, 'stall_ms' added
    "Run a case in a process of its own; `AssertionError` with all that it said if anything does not hold."
    name = case if isinstance(case, str) else f'tests.faults.{case.__module__.rpartition(".")[2]}:{case.__name__}'
    what = name, str(timeout), json.dumps(args)
    with Fork(*what) if Fork.nursery and not env else start_case(*what, env=env) as app:
        code = app.finish(timeout + 10)
        left, out, err = [] if code else app.left(), app.out, app.err
    strange = strange_lines(err, allow)
    said = f'\n---- stdout\n{out[-8000:]}\n---- stderr\n{err[-16000:]}'
    assert code is not None, f'{name} {args}: killed after {timeout} s{said}'
    assert code == 0, f'{name} {args}: exit code {code}{said}'
    assert not left, f'{name} {args}: I6, left behind after the end: {left}{said}'
    assert not strange, f'{name} {args}: I8, on stderr: {strange[:5]}{said}'
    return json.loads(out.rpartition('RESULT ')[2])

# ---- Inside

class OneLine(logging.Formatter):
    "Every line of a record begins so that it can be told from what is no log."
    def format(self, record: logging.LogRecord) -> str:
        start = f'LOG {record.name} {record.levelname}: '
        return '\n'.join(start + line for line in super().format(record).splitlines())

def descriptors() -> dict[str, str]:
    out, folder = {}, '/proc/self/fd' if os.path.isdir('/proc/self/fd') else '/dev/fd'
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError): out[fd] = os.readlink(f'{folder}/{fd}') if folder.startswith('/proc') else ''
    return out

def kernel_wait() -> float:
    "Seconds that our threads were ready to run and got no processor: one of them may have held the GIL."
    total = 0
    with contextlib.suppress(OSError):
        for task in os.listdir('/proc/self/task'):
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int(Path(f'/proc/self/task/{task}/schedstat').read_text().split()[1])
    return total / 1e9

def shared_memory() -> set[str]:
    "What lies in /dev/shm, without what some process has mapped that is not of this case: others use it too."
    found = {}   # inode -> name: a semaphore is mapped before it gets its name
    for entry in os.scandir('/dev/shm') if os.path.isdir('/dev/shm') else ():
        with contextlib.suppress(OSError): found[str(entry.stat().st_ino)] = entry.name
    for p in psutil.process_iter() if found else ():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(p.pid) == os.getsid(0) or p.environ().get(CASE_TOKEN) == os.environ.get(CASE_TOKEN): continue
            for line in Path(f'/proc/{p.pid}/maps').read_text().splitlines():
                if ' /dev/shm/' in line: found.pop(line.split()[4], None)
    return set(found.values())

def snapshot() -> dict[str, set[str]]:
    kids = set()
    for p in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            is_zombie = (status := p.status()) == psutil.STATUS_ZOMBIE   # has no command line any more
            kids.add(f'{p.pid} {status} {"" if is_zombie else " ".join(p.cmdline())[:200]}')
    return {'children': kids, 'threads': {f'{t.name} {t.ident}' for t in threading.enumerate()},
            'descriptors': {f'{fd} {to}' for fd, to in descriptors().items()},
            'shm': shared_memory()}

class Watched(SimpleJobManager):
    "Tells its case of every job."
    ctx: 'Case'

    async def start_job(self, /, plugin_id: str, **kwargs: Any) -> Any:
        job = await super().start_job(plugin_id, **kwargs)
        self.ctx.track(self, job, kwargs.get('nonce'))
        return job

class Case:
    "What a case works with."
    def __init__(self) -> None:
        self.managers: list[Any] = []
        self.jobs: list[tuple[Any, Any, Any]] = []     # manager, job, nonce
        self.ends: dict[str, tuple[Any, ...]] = {}     # job id -> how it looked when it was first seen ended
        self.streams: dict[Any, Any] = {}              # manager -> its events
        self.told: dict[tuple[Any, str], list[str]] = {}   # manager and job -> names of events, each once in a row
        self.tasks: list[tuple[str, asyncio.Task]] = []
        self.unusable: set[Any] = set()                # managers that are not asked for three more jobs
        self.worst_stall = 0.0
        self.stall_limit = STALL_SECONDS
        self.loop: asyncio.AbstractEventLoop | None = None
        self.folder = Path(tempfile.mkdtemp(prefix='fault-'))   # for the files of the case, removed at its end
        self.before = snapshot()
        self._nonces = itertools.count(1)

    # making

    def manager(self,
        plugins: dict[str, Any] | None = None,  # Added to the usual ones; see PLUGINS
        config: dict[str, Any] | None = None,  # For `WorkerConfig`
        cls: type = Watched,  # A subclass of `Watched`
        only: bool = False,  # Without the usual plugins, except 'echo'
        **kwargs: Any
    ) -> Any:
        "A manager; plugins are loaded when they are used."
        usual = {'echo': PLUGINS['echo']} if only else PLUGINS
        config = {'load_plugins': 'on_first_use', **(config or {})}
        m = cls({**usual, **(plugins or {})}, worker_config=WorkerConfig(**config), **kwargs)
        m.ctx = self
        self.managers.append(m)
        self.streams[m] = m.events()
        return m

    def track(self, m: Any, job: Any, nonce: Any) -> None:
        self.jobs.append((m, job, nonce))
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is not self.loop or len(self.jobs) > 200: return
            self.tasks.append((f'wait_for_job {job.id}', self.loop.create_task(self._wait(m, job))))
            self.tasks.append((f'stream_job {job.id}', self.loop.create_task(self._read(m, job))))

    async def _wait(self, m: Any, job: Any) -> None:
        with contextlib.suppress(JobNotFound): await m.wait_for_job(job.id)

    async def _read(self, m: Any, job: Any) -> None:
        with contextlib.suppress(JobNotFound):
            async for _ in m.stream_job(job.id): pass

    async def start(self, m: Any, plugin: str, options: JobOptions | None = None, **params: Any) -> Any:
        "A job with a nonce."
        return await m.start_job(plugin, job_options=options, nonce=f'nonce-{next(self._nonces)}', **params)

    async def do(self, m: Any, code: str, options: JobOptions | None = None, **params: Any) -> Any:
        "A job that runs this Python text in the worker."
        return await self.start(m, 'do', options, code=code, **params)

    async def act(self, m: Any, code: str, options: JobOptions | None = None, **params: Any) -> Any:
        "Likewise, and not as a stream."
        return await self.start(m, 'act', options, code=code, **params)

    # waiting

    async def ended(self, job: Any, status: str | None = None, fault: str | None = None,
                    timeout: float = END_SECONDS) -> Any:
        "The job, when it has ended, and as it should."
        m = next(m for m, j, _ in self.jobs if j is job)
        with contextlib.suppress(JobNotFound): await m.wait_for_job(job.id, timeout)   # it ended, and was cleared
        good = status in (None, job.status) and job.status in TERMINAL and fault in (None, job.fault)
        assert good, f'{job} ended with {job.error!r}\n{job.traceback}'
        return job

    async def until(self, condition: Callable[[], Any], what: str = 'the condition',
                    timeout: float = END_SECONDS) -> Any:
        "What `condition` gives, as soon as it is true."
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline: raise AssertionError(f'{what} did not come true in {timeout} s')
            await asyncio.sleep(.003)
        return value

    async def running(self, m: Any, job: Any) -> int:
        "The pid of its worker, when the job runs (its plugin is loaded and was called, as far as one can see)."
        await self.until(lambda: job.status != 'pending', f'{job} to run')
        assert job.status == 'running', f'{job} {job.error}'
        await self.until(lambda: not job.status_message.startswith('loading'), f'{job} to be loaded')
        return job.worker_pid

    async def warm(self, m: Any, *plugins: str) -> int:
        "The pid of a worker that is ready, with 'do' and these plugins loaded."
        await self.ended(await self.do(m, 'pass'), 'completed')
        for p in plugins: await self.ended(await self.start(m, p), 'completed')
        return m.worker_process.pid

    # the eight

    def look(self) -> None:
        "I2: note ends, and that none has changed."
        for _, job, _ in self.jobs:
            if job.status not in TERMINAL: continue
            now = job.status, job.fault, job.error, job.completed_at, id(job.result)
            then = self.ends.setdefault(job.id, now)
            assert then == now, f'I2: {job.id} had ended as {then}, and became {now}'

    async def _tick(self) -> None:
        seen, last, waited = 0, time.perf_counter(), kernel_wait()
        while True:
            await asyncio.sleep(.005)
            now, now_waited = time.perf_counter(), kernel_wait()
            self.worst_stall = max(self.worst_stall, now - last - .005 - max(0.0, now_waited - waited))
            seen += 1
            if seen % 4 == 0: self._look_at_open()
            last, waited = time.perf_counter(), now_waited

    def _look_at_open(self) -> None:
        for m, events in self.streams.items():   # one that is never read ends
            for event in events.take_all(): self._hear(m, event)
        for _, job, _ in self.jobs[-500:]:
            if job.id not in self.ends and job.status in TERMINAL:
                self.ends[job.id] = job.status, job.fault, job.error, job.completed_at, id(job.result)

    async def check(self) -> None:
        "I1, I2, I3, I7, and I4 of managers that are open; may be called in the middle of a case."
        deadline = time.monotonic() + END_SECONDS
        for _, job, _ in self.jobs:
            while job.status not in TERMINAL and time.monotonic() < deadline: await asyncio.sleep(.005)
            assert job.status in TERMINAL, f'I1: {job} has not ended'
        tasks = [t for _, t in self.tasks]
        if tasks: await asyncio.wait(tasks, timeout=max(.5, deadline - time.monotonic()))
        asleep = [name for name, t in self.tasks if not t.done()]
        assert not asleep, f'I7: still waiting: {asleep}'
        for t in tasks: t.result()
        self.tasks.clear()
        self.look()
        for _, job, nonce in self.jobs:
            if job.status != 'completed' or nonce is None: continue
            got = job.result.get('nonce') if isinstance(job.result, dict) else None
            assert got == nonce, f'I3: {job} has {job.result!r:.200}'
        for m in self.managers:
            if not m._is_closed and m not in self.unusable: await self.three_more(m)

    async def three_more(self, m: Any) -> None:
        "I4"
        jobs = [await self.start(m, 'echo', n=i) for i in range(3)]
        for i, job in enumerate(jobs):
            with contextlib.suppress(JobNotFound): await m.wait_for_job(job.id, END_SECONDS)
            assert job.status == 'completed', f'I4: {job} ended with {job.error!r}\n{job.traceback}'
            assert job.result['n'] == i, f'I4: {job} has {job.result!r:.200}'

    async def finish(self) -> None:
        "All eight; closes the managers."
        await self.check()
        for m in self.managers:
            async with asyncio.timeout(30): await m.aclose()
        await self.check()
        for m, events in self.streams.items(): await self._check_events(m, events)
        self.look()
        await self._nothing_left()

    def _hear(self, m: Any, event: Any) -> None:
        name, names = event.type.partition(':')[2], self.told.setdefault((m, event.data['job_id']), [])
        if not names or names[-1] != name or name in TERMINAL: names.append(name)

    async def _check_events(self, m: Any, events: Any) -> None:
        async with asyncio.timeout(END_SECONDS):
            async for event in events: self._hear(m, event)
        for owner, job, _ in self.jobs:
            if owner is not m: continue
            names = self.told.get((m, job.id), [])
            ends = [n for n in names if n in TERMINAL]
            assert ends == [job.status], f'I2: {job} was told to end as {ends}'
            assert names[0] == 'queued' and names[-1] == ends[0], f'{job}: events {names[:5]}...{names[-3:]}'

    async def _nothing_left(self) -> None:
        begin = time.monotonic()
        while more := {k: v - self.before[k] for k, v in snapshot().items() if v - self.before[k]}:
            patience = SETTLE_SECONDS * (5 if more.keys() == {'shm'} else 1)   # others leave some there, for a while
            assert time.monotonic() < begin + patience, f'I6: more than before: {more}'
            gc.collect()
            await asyncio.sleep(.02)

    def _own_descriptors(self) -> set[str]:
        "Of the loop itself."
        ours = {f'{f.fileno()}' for f in (self.loop._selector, self.loop._ssock, self.loop._csock)}
        return {f'{fd} {to}' for fd, to in descriptors().items() if fd in ours}

    async def run(self, case: Callable[..., Any], args: list[Any]) -> Any:
        self.loop = asyncio.get_running_loop()
        self.before['descriptors'] |= self._own_descriptors()
        ticker = self.loop.create_task(self._tick())
        await asyncio.sleep(.01)
        result = await case(self, *args)
        await self.finish()
        ticker.cancel()
        with contextlib.suppress(asyncio.CancelledError): await ticker
        assert self.worst_stall < self.stall_limit, f'I5: the loop stalled for {self.worst_stall * 1e3:.0f} ms'
        return result

async def nothing(ctx: Case) -> None: pass

@contextlib.contextmanager
def stood_still(seconds: float) -> Iterator[None]:
    "The whole process does nothing for so long. Then it acts on what it knew before: no other thread was quicker."
    usual = sys.getswitchinterval()
    sys.setswitchinterval(60)
    time.sleep(.001)   # who waits for the GIL already, would not have this patience
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    try: yield
    finally: sys.setswitchinterval(usual)

@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    faulthandler.dump_traceback_later(seconds, exit=True)
    try: yield
    finally: faulthandler.cancel_dump_traceback_later()

def main(name: str, timeout: str, args: str) -> None:
    "In the case's own process."
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    module, _, function = name.partition(':')
    case, values = getattr(importlib.import_module(module), function), json.loads(args)
    with watchdog(float(timeout)), contextlib.ExitStack() as stack:
        ctx = Case()
        stack.callback(shutil.rmtree, ctx.folder, ignore_errors=True)
        if inspect.iscoroutinefunction(case): result = asyncio.run(ctx.run(case, values))
        else:   # a case that makes its loops itself, if any
            result = case(ctx, *values)
            asyncio.run(ctx.run(nothing, []))
    print('RESULT', json.dumps({**(result or {}), 'stall_ms': round(ctx.worst_stall * 1e3, 1)}))

if __name__ == '__main__':
    from tests.faults import harness  # not a second copy of everything, as `__main__`
    harness.main(*(sys.argv[1:] if len(sys.argv) > 2 else harness.serve(int(sys.argv[1]))))
