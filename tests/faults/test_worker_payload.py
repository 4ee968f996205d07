"What a plugin does to its worker, and what will not cross between worker and app."
import ast
import asyncio
import functools
import os
import signal
import threading

import psutil
import pytest

from cjm_fasthtml_workers.core.errors import MessageTooLarge
from cjm_fasthtml_workers.core.worker import base_worker_process
from tests.faults import plugins
from tests.faults.harness import PLUGINS, Watched, run_case

FLOOD_MB = int(os.environ.get('FAULTS_FLOOD_MB', 128))   # 1024 for the whole
GOOD_OR_BAD = ('completed', None), ('failed', 'bad_payload')
QUICK = {'shutdown_timeout_seconds': .1, 'cancel_grace_seconds': .1}

def is_readable_line(text, limit=1000):
    return isinstance(text, str) and text.strip() and '\n' not in text and len(text) <= limit and text.isprintable()

# ---- Exceptions: the job fails, the worker lives

FROM = 'from tests.faults.plugins import *\n'
RAISES = {   # what the plugin does -> what the error line says
    'raise ValueError("no audio")': 'ValueError: no audio',
    'raise ValueError': 'ValueError',
    'raise ValueError("")': 'ValueError',
    'raise KeyError("k")': 'KeyError',
    'import sys; sys.exit(0)': 'SystemExit',
    'import sys; sys.exit("bye")': 'SystemExit: bye',
    'exit(3)': 'SystemExit',
    'raise KeyboardInterrupt': 'KeyboardInterrupt',
    'raise GeneratorExit': 'GeneratorExit',
    'raise StopIteration(5)': '',
    FROM + 'raise OwnBase("own")': 'OwnBase: own',
    FROM + 'raise UnpicklableError(1, 2)': 'UnpicklableError: 1 and 2',
    FROM + 'raise UnprintableError("x")': 'UnprintableError',
    FROM + 'raise NoTextError': 'NoTextError',
    'raise ValueError("x" * 10_000_000)': 'ValueError: xxx',
    'raise ValueError("line\\n" * 1_000_000)': 'ValueError: line line',
    'raise ValueError("a\\0b \\ud800 \\x1b[2J \\u2028 c")': 'ValueError: a',
    'raise ValueError(b"\\xff" * 1000)': 'ValueError',
    'raise type("N" * 100_000, (Exception,), {})("long name")': 'NNN',
    'raise ExceptionGroup("several", [ValueError(i) for i in range(3)])': 'ExceptionGroup: several',
    'raise BaseExceptionGroup("b", [KeyboardInterrupt()])': 'BaseExceptionGroup',
    'try: 1/0\nexcept ZeroDivisionError as e: raise RuntimeError("second") from e': 'RuntimeError: second',
    'e = ValueError("ring"); e.__cause__ = e; raise e': 'ValueError: ring',
    'a, b = ValueError("a"), ValueError("b"); a.__context__ = b; b.__context__ = a; raise a': 'ValueError: a',
    'def f(): f()\nf()': 'RecursionError',
    'assert False': 'AssertionError',
    'raise 5': 'TypeError',
    'def (': 'SyntaxError',
    'e = ValueError("frozen"); e.__traceback__ = None; raise e.with_traceback(None)': 'ValueError: frozen',
    'raise type("E", (Exception,), {"__module__": None})("no module")': 'no module',
}

async def case_exceptions(ctx, plugin):
    m = ctx.manager()
    pid = await ctx.warm(m, 'echo')
    for code, line in RAISES.items():
        job = await ctx.ended(await ctx.start(m, plugin, code=code), 'failed', 'plugin_error')
        assert job.error.startswith(line) or line in job.error, (code, job.error)
        assert is_readable_line(job.error), (code, job.error[:200])
        assert (job.traceback or '').encode() is not None
        assert job.traceback is None or len(job.traceback) < 100_000, (code, len(job.traceback))
        assert job.exit_code is None and job.result is None
        if 'second' in code: assert 'ZeroDivisionError' in job.traceback
    await ctx.ended(await ctx.start(m, plugin, code='raise MemoryError'), 'failed', 'out_of_memory')
    cuda = 'raise RuntimeError("CUDA error: out of memory")'
    await ctx.ended(await ctx.start(m, plugin, code=cuda), 'failed', 'out_of_memory')
    await ctx.check()
    assert m.worker_process.pid == pid and m.restart_count == 0

@pytest.mark.parametrize('plugin', ['act', 'do'])
def test_an_exception_of_any_kind_fails_its_job_only(plugin): run_case(case_exceptions, plugin)

# ---- Deaths

DEATHS = {   # code -> exit code
    'os._exit(0)': 0,
    'os._exit(7)': 7,
    'os._exit(255)': 255,
    'os.kill(os.getpid(), 9)': -9,
    'os.kill(os.getpid(), 15); time.sleep(60)': -15,
    'os.kill(os.getpid(), 11); time.sleep(60)': -11,
    'os.abort()': -6,
    'os.killpg(0, 9)': -9,
    'import ctypes; ctypes.string_at(0)': -11,
    'import ctypes; ctypes.CDLL(None).exit(4)': 4,
    'raise type("E", (Exception,), {"__str__": lambda e: os._exit(9)})': 9,
}

async def case_deaths(ctx, plugin):
    m = ctx.manager(config=QUICK)
    for code, exit_code in DEATHS.items():
        await ctx.warm(m)
        job = await ctx.start(m, plugin, code=code)
        waiting = [await ctx.start(m, 'echo', n=i) for i in range(3)]
        await ctx.ended(job, 'failed', 'worker_crashed')
        assert job.exit_code == exit_code, (code, job.exit_code)
        name = signal.Signals(-exit_code).name if exit_code < 0 else f'{exit_code}'
        assert name in job.error and is_readable_line(job.error), (code, job.error)
        for w in waiting: await ctx.ended(w, 'completed')
    await ctx.check()

@pytest.mark.parametrize('plugin', ['act', 'do'])
def test_a_death_names_its_signal_or_exit_code(plugin): run_case(case_deaths, plugin)

async def case_killed_from_outside(ctx):
    m = ctx.manager({'slow': 'tests.faults.plugins:Act'}, QUICK, configs={'slow': {'init': 'time.sleep(60)'}})
    async def kill(pid):
        os.kill(pid, signal.SIGKILL)
        await ctx.until(lambda: m.worker_process is None or m.worker_process.pid != pid, 'the death to be seen', 2)

    for _ in range(2):   # idle
        await kill(await ctx.warm(m))
        await ctx.three_more(m)

    await ctx.warm(m, 'echo')   # busy; five wait and run in order
    job = await ctx.start(m, 'sleeper', begun=str(ctx.folder/'begun'))
    waiting = [await ctx.start(m, 'echo', n=i) for i in range(5)]
    await ctx.until((ctx.folder/'begun').exists, 'the job to begin')   # one that was not begun would be taken back
    await kill(job.worker_pid)
    await ctx.ended(job, 'failed', 'worker_crashed')
    for w in waiting: await ctx.ended(w, 'completed')
    begun = [w.started_at for w in waiting]
    assert begun == sorted(begun)

    job = await ctx.start(m, 'slow', code='pass')   # loading
    await ctx.until(lambda: job.status_message.startswith('loading'), 'loading')
    await kill(job.worker_pid)
    await ctx.ended(job, 'failed')
    assert job.fault in ('start_failed', 'worker_crashed'), job.fault
    await ctx.check()

    job = await ctx.start(m, 'streamer', n=None, pause=.001)   # streaming: what was sent stays readable
    chunks = m.stream_job(job.id)
    first = [await anext(chunks) for _ in range(5)]
    await kill(job.worker_pid)
    rest = [c async for c in chunks]
    await ctx.ended(job, 'failed', 'worker_crashed')
    again = [c.chunk async for c in m.stream_job(job.id)]
    assert again == [c.chunk for c in first + rest] and [int(c.strip('.')) for c in again] == list(range(len(again)))
    await ctx.check()

    crashed = 0
    for i in range(12):   # between two jobs: the next one may be at a dying worker, and then says so
        job = await ctx.ended(await ctx.start(m, 'echo'))
        if job.worker_pid and m.worker_process: os.kill(m.worker_process.pid, signal.SIGKILL)
        if i % 3: await asyncio.sleep(.0005 * i)
        job = await ctx.ended(await ctx.start(m, 'echo'))
        assert job.status == 'completed' or job.fault == 'worker_crashed', (job, job.error)
        crashed += job.status == 'failed'
        await ctx.three_more(m)

def test_sigkill_idle_busy_loading_streaming_between(): run_case(case_killed_from_outside)

# ---- Memory

LIMIT = '''
import resource, gc
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.RLIM_INFINITY))
'''
NO_LIMIT = 'import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)'

async def case_memory_limit(ctx):
    m = ctx.manager()
    pid = await ctx.warm(m, 'echo')
    for code in (LIMIT + 'b = bytearray(2**30)', LIMIT + 'l = []\nwhile True: l.append(bytearray(2**20))',
                 'result = {"nonce": nonce, "l": ["x" * 1000 + str(i) for i in range(99_999)]}\n' + LIMIT):
        job = await ctx.ended(await ctx.act(m, code), 'failed', 'out_of_memory')
        assert is_readable_line(job.error), job.error
        await ctx.three_more(m)
        await ctx.ended(await ctx.act(m, NO_LIMIT), 'completed')
    assert m.worker_process.pid == pid
    await ctx.ended(await ctx.act(m, LIMIT + 'import builtins; builtins.kept = bytearray(60 * 2**20)'))
    await ctx.ended(await ctx.start(m, 'echo', big=b'x' * 30 * 2**20))   # not even the message fits now
    if m.worker_process: await ctx.ended(await ctx.act(m, NO_LIMIT))
    await ctx.check()

@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='no /proc')
def test_a_memory_limit_in_the_plugin_and_while_pickling(): run_case(case_memory_limit)

# ---- Stuck

STUCK = {
    'gil': 'import ctypes; ctypes.PyDLL(None).sleep(60)',
    'no_sigterm': 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)',
    'catches_all': 'import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n'
                   'while True:\n  try: time.sleep(60)\n  except BaseException: pass',
    'blocked': 'import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)',
    'stopped': 'import signal; os.kill(os.getpid(), signal.SIGSTOP)',
    'group_stopped': 'import signal; os.killpg(0, signal.SIGSTOP)',
    'busy': 'while True: pass',
    'regex': 'import re; re.match("(a*)*b", "a" * 64)',
    'lock': 'import threading; l = threading.Lock(); l.acquire(); l.acquire()',
    'silent_stream': 'def stream():\n  time.sleep(60)\n  yield ""',
    'empty_chunks': 'def stream():\n  while True: yield ""',
}

async def case_stuck(ctx, names):
    m = ctx.manager(config=QUICK)
    for name in names:
        await ctx.warm(m, 'echo')
        begun = ctx.folder/name
        job = await ctx.do(m, f'open({str(begun)!r}, "w").close()\n' + STUCK[name])
        waiting = [await ctx.start(m, 'echo', n=i) for i in range(2)]
        await ctx.until(begun.exists, f'{name} to begin')
        await asyncio.sleep(.02)
        async with asyncio.timeout(5): cancelled = await m.cancel_job(job.id)
        assert cancelled is True and job.status == 'cancelled', (name, cancelled, job)
        for w in waiting: await ctx.ended(w, 'completed')
        await ctx.check()

@pytest.mark.parametrize('names', [list(STUCK)[:4], list(STUCK)[4:8], list(STUCK)[8:]], ids=lambda n: n[0])
def test_a_stuck_plugin_can_be_cancelled(names): run_case(case_stuck, names)

async def case_stuck_at_close(ctx, name):
    m = ctx.manager(config=QUICK)
    await ctx.warm(m, 'echo')
    begun = ctx.folder/name
    job = await ctx.do(m, f'open({str(begun)!r}, "w").close()\n' + STUCK[name])
    await ctx.until(begun.exists, f'{name} to begin')
    async with asyncio.timeout(5): await m.aclose()
    assert (job.status, job.fault) == ('failed', 'interrupted'), job

@pytest.mark.parametrize('name', ['gil', 'blocked', 'group_stopped'])
def test_a_stuck_plugin_does_not_hold_the_shutdown(name): run_case(case_stuck_at_close, name)

# ---- Output

def rss_mb(): return psutil.Process().memory_info().rss / 2**20

async def case_endless_output(ctx):
    m = ctx.manager(config=QUICK)
    await ctx.warm(m, 'echo')
    before = rss_mb()
    for code in ('while True: print("and so on")', 'import sys\nwhile True: sys.stderr.write("x")',
                 'def stream():\n  while True: yield "word "', 'def stream():\n  while True: yield "w" * 100_000',
                 'def stream():\n  while True: print("p" * 5000); yield "word "'):
        job = await ctx.do(m, code)
        await ctx.running(m, job)
        await asyncio.sleep(.15)
        async with asyncio.timeout(5): assert await m.cancel_job(job.id) is True, code
        logs = m.get_job_logs(job.id)
        assert len(logs.lines) <= 1000 and max(map(len, logs.lines), default=0) <= 2010
        await ctx.three_more(m)
        await ctx.check()
    assert rss_mb() - before < 150, f'{rss_mb() - before:.0f} MB more'

def test_output_without_end(): run_case(case_endless_output)

async def case_flood(ctx, mb, line):
    import logging
    logging.getLogger().setLevel(logging.WARNING)
    m = ctx.manager()
    pid = await ctx.warm(m, 'echo')
    before = rss_mb()
    block = f'(b"x" * {line - 1} + b"\\n") * ({2**20} // {line})'
    job = await ctx.act(m, f'block = {block}\nfor _ in range({mb}): os.write(1, block)\n')
    await ctx.ended(job, 'completed', timeout=60)
    job = await ctx.act(m, f'for _ in range({mb}): os.write(2, b"x" * 2**20)')
    await ctx.ended(job, 'completed', timeout=60)
    logs = m.get_job_logs(job.id)
    assert logs.dropped > 0 and len(logs.lines) == 1000 and max(map(len, logs.lines)) <= 2010
    assert rss_mb() - before < 100, f'{rss_mb() - before:.0f} MB more'
    await ctx.three_more(m)
    assert m.worker_process.pid == pid

@pytest.mark.limit(200)
@pytest.mark.parametrize('line', [80, 2**20])
def test_a_flood_of_output(line): run_case(case_flood, FLOOD_MB // 2, line, timeout=150)

DESCRIPTORS = {
    'closes both': 'os.close(1); os.close(2)',
    'prints after closing': 'os.close(1)\nprint("lost", flush=True)',
    'to null': 'd = os.open("/dev/null", os.O_WRONLY); os.dup2(d, 1); os.dup2(d, 2); print("x")',
    'no streams': 'import sys; sys.stdout = sys.stderr = None',
    'closes streams': 'import sys; sys.stdout.close(); sys.stderr.close()',
    'strange streams': 'import sys; sys.stdout = sys.stderr = 5',
    'bytes': 'os.write(1, bytes(range(256)) * 100); os.write(2, b"\\xff\\xfe")',
    'text': 'print("\\ud800 \\0 \\x1b[2J", end="")',
    'our frames': 'os.write(1, b"cjW\\x01" * 10_000)',
    'full': 'f = open("/dev/full", "w"); os.dup2(f.fileno(), 1); os.dup2(f.fileno(), 2)\n'
            'for _ in range(9): print("x" * 99)',
    'closed pipe': 'r, w = os.pipe(); os.dup2(w, 1); os.dup2(w, 2); os.close(r); os.close(w)',
    'stdin': 'import sys\nassert sys.stdin.read() == ""\nos.close(0)',
}

async def case_descriptors(ctx):
    m = ctx.manager()
    for name, code in DESCRIPTORS.items():
        pid = await ctx.warm(m)
        job = await ctx.ended(await ctx.do(m, code))
        assert job.status == 'completed' or job.fault == 'plugin_error', (name, job, job.error)
        assert m.worker_process and m.worker_process.pid == pid, (name, job, job.error)
        await ctx.three_more(m)
        job = await ctx.ended(await ctx.do(m, 'print("still here")'))   # may fail: its stdout may be gone
        assert job.status == 'completed' or job.fault == 'plugin_error', (name, job, job.error)
        os.kill(pid, signal.SIGKILL)   # a fresh one for the next
        await ctx.until(lambda: m.worker_process is None, 'the death')   # noqa: B023
        await ctx.check()

def test_what_a_plugin_does_to_descriptors_1_and_2(): run_case(case_descriptors)

# ---- The pipes

PIPES = '''
import stat
def pipes():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if fd > 2 and stat.S_ISFIFO(os.fstat(fd).st_mode): yield fd
        except OSError: pass
def write(data):
    for fd in list(pipes()):
        os.set_blocking(fd, False)
        try: os.write(fd, data)
        except OSError: pass
        finally: os.set_blocking(fd, True)
'''
GARBAGE = [
    'write(b"garbage " * 1000)', 'write(b"\\0" * 60_000)', 'write(b"cjW\\x01" + b"\\xff" * 100)',
    'write(b"cjW\\x01" + b"\\0" * 4 + b"\\xff" * 8)',            # a frame of 2**64 bytes
    'write(b"cjW\\x01" + b"\\0\\0\\0\\x01" + b"\\0" * 8)',       # a frame of 2**24 buffers
    'for fd in list(pipes()): os.close(fd)', 'os.closerange(0, 256)',
    'for fd in list(pipes()): os.dup2(os.open("/dev/null", os.O_RDWR), fd)',
]
UNREADABLE = [   # whole frames that make no sense
    'import struct, pickle\ndef send(x): write(struct.pack("<4sIQ", b"cjW\\x01", 0, len(x)) + x)\n' + line for line in (
        'send(b"no pickle")', 'send(b"")', 'send(pickle.dumps(5))', 'send(pickle.dumps({"type": "result"}))',
        'send(pickle.dumps({"type": "result", "job_id": nonce, "status": "success"}))',
        'send(pickle.dumps({"type": []}))', 'send(pickle.dumps({"type": "ready"}))',
        'send(pickle.dumps({"type": "response", "request_id": 1, "ok": True}))',
        'send(pickle.dumps({"type": "stream_chunk", "job_id": "x", "chunk": 5}))',
        'send(b"cos\\nabort\\n.")', 'send(b"cbuiltins\\nexit\\n(I3\\ntR.")')]

async def case_garbage(ctx, codes):
    m = ctx.manager(config=QUICK)
    for code in codes:
        await ctx.warm(m)
        job = await ctx.act(m, PIPES + code + '\ntime.sleep(60)')
        await ctx.ended(job, 'failed', 'worker_crashed')
        assert is_readable_line(job.error), job.error
        await ctx.check()

@pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='no /proc')
def test_garbage_on_the_pipe_ends_the_worker(): run_case(case_garbage, GARBAGE)

async def case_unreadable(ctx, codes):
    m = ctx.manager(config=QUICK)
    blame = PIPES + 'import struct\nframe = struct.pack("<4sIQ", b"cjW\\x01", 0, 5) + b"wrong"\n' \
                    'write(frame * 3); time.sleep(.1)'
    job, *innocent = [await ctx.act(m, blame)] + [await ctx.start(m, 'echo', i=i) for i in range(3)]
    await ctx.ended(job, 'failed')
    for i in innocent: await ctx.ended(i, 'completed')
    for code in codes:
        await ctx.warm(m)
        job = await ctx.act(m, PIPES + code)
        await ctx.ended(job)
        assert job.status == 'completed' or job.fault in ('bad_payload', 'worker_crashed'), (code, job, job.error)
        await ctx.check()

@pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='no /proc')
def test_messages_that_make_no_sense(): run_case(case_unreadable, UNREADABLE)

class OwnWorker(Watched):
    "Its worker function is the app's own."
    def get_worker_entry_point(self): return plugins.own_worker

ANSWERS = [   # what becomes of `answer`; the job must end in every case, and its neighbours must not notice
    'answer["fault"] = "of_its_own"; answer["status"] = "error"', 'answer["status"] = "error"', 'del answer["status"]',
    'answer["status"] = None', 'answer["status"] = "done"', 'answer["status"] = ["x"]', 'answer["data"] = None',
    'del answer["data"]', 'answer["data"] = 5', 'answer.update(status="error", error=5)',
    'answer.update(status="error", error="x" * 10**7)', 'answer.update(status="error", fault=["x"])',
    'answer.update(status="error", error=None, fault=None, traceback=b"x")',
    'answer["loaded"] = 5', 'answer["data"] = Trap(load="if not in_worker: raise ValueError")', 'answer["more"] = 1',
    'results.put({"type": []})', 'results.put({}); results.put(None); results.put(5)',
    'results.put({"type": "result"})',
    'results.put({"type": "result", "job_id": ["x"], "status": "success"})',
    'results.put({"type": "progress", "job_id": answer["job_id"]})',
    'results.put({"type": "progress", "job_id": answer["job_id"], "fraction": "half", "message": 5})',
    'results.put({"type": "stream_chunk", "job_id": answer["job_id"]})',
    'results.put({"type": "stream_chunk", "job_id": answer["job_id"], "chunk": None})',
    'results.put({"type": "stream_chunk", "job_id": answer["job_id"], "chunk": 5, "metadata": 7})',
    'responses.put({"type": "response"})', 'responses.put({"type": "response", "request_id": ["x"]})',
    'responses.put({"type": "ready", "loaded": 5})', 'responses.put({"type": "ready"})', 'responses.put(answer)',
    'responses.put({"type": "error", "error": 5})', 'results.put(answer)',
    'responses.put(Trap(load="if not in_worker: raise ValueError"))',
]

async def case_own_worker(ctx):
    m = ctx.manager(cls=OwnWorker, only=True, config=QUICK)
    await ctx.three_more(m)
    stuck = []
    for code in ANSWERS:
        job = await m.start_job('echo', code=code)
        try: await m.wait_for_job(job.id, 10)
        except TimeoutError: stuck.append(code)
        if stuck and stuck[-1] == code: await m.cancel_job(job.id)
        elif job.status == 'failed': assert is_readable_line(job.error), (code, job.error)
        await ctx.three_more(m)
    assert not stuck, f'these never ended: {stuck}'
    await ctx.check()

def test_a_worker_function_of_ones_own_that_talks_nonsense(): run_case(case_own_worker, timeout=90)

async def case_killed_in_a_message(ctx):
    m = ctx.manager(config=QUICK)
    ends = []
    for delay in (.0, .005, .02, .06, .15):
        await ctx.warm(m)
        job = await ctx.act(m, f'''
import threading
def kill():
    while not done: time.sleep(.0005)
    time.sleep({delay}); os.kill(os.getpid(), 9)
done = []
class Last(bytes): pass
result = {{"nonce": nonce, "data": b"x" * (64 * 2**20)}}
threading.Thread(target=kill, daemon=True).start()
done.append(1)''')
        await ctx.ended(job)
        assert job.status == 'completed' or job.fault == 'worker_crashed', (job, job.error)
        if job.status == 'completed': assert len(job.result['data']) == 64 * 2**20
        ends.append(job.status)
        await ctx.until(lambda: m.worker_process is None or not m.worker_process.is_alive(), 'the death')
        await ctx.check()
    return {'ends': ends}

def test_killed_in_the_middle_of_64_mb(): assert 'failed' in run_case(case_killed_in_a_message)['ends']

async def case_half_a_frame(ctx):
    m = ctx.manager(config=QUICK)
    for end in ('os.kill(os.getpid(), 9)', 'os._exit(0)', 'time.sleep(60)'):
        await ctx.warm(m)
        header = 'b"cjW\\x01" + b"\\0" * 4 + (64 * 2**20).to_bytes(8, "little")'
        job = await ctx.act(m, f'{PIPES}write({header} + b"x" * 30_000)\n{end}')
        if 'sleep' in end:
            await ctx.running(m, job)
            await asyncio.sleep(.1)
            assert await m.cancel_job(job.id) is True
        else: await ctx.ended(job, 'failed', 'worker_crashed')
        await ctx.check()

@pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='no /proc')
def test_half_a_frame(): run_case(case_half_a_frame)

# ---- Results that do not cross

NOT_PICKLABLE = ['lambda: 1', '__import__("threading").Lock()', '(i for i in [1])', 'open("/dev/null")',
                 '__import__("sys")', 'type("Local", (), {})()', 'memoryview(b"x")', '__import__("socket").socket()']
NESTED = ['{}', '{{"nonce": nonce, "a": {}}}', '{{"nonce": nonce, "a": [1, (2, {{"b": {}}})]}}']
DEEP = 'x = []\nfor _ in range(100_000): x = [x]\nresult = {"nonce": nonce, "deep": x}'
MODULE = 'import sys, types\nmod = types.ModuleType("only_here"); sys.modules["only_here"] = mod\n' \
         'exec("class Here: pass", mod.__dict__)\nresult = {"nonce": nonce, "a": mod.Here()}'
TRAPS = {   # Trap(...) in a result -> fault
    'dump="raise ValueError(5)"': 'bad_payload',
    'dump="raise SystemExit(0)"': 'bad_payload',
    'dump="raise KeyboardInterrupt"': 'bad_payload',
    'dump="os._exit(5)"': 'worker_crashed',
    'dump="os.abort()"': 'worker_crashed',
    'load="raise ValueError(5)"': 'bad_payload',
    'load="raise SystemExit(0)"': 'bad_payload',
    'load="raise KeyboardInterrupt"': 'bad_payload',
    'load="os._exit(5)"': 'worker_crashed',    # the worker tries it first
    'load="import ctypes; ctypes.string_at(0)"': 'worker_crashed',
    'load="if not in_worker: raise ValueError(5)"': 'bad_payload',
    'load="if not in_worker: raise SystemExit(0)"': 'bad_payload',
    'load="if not in_worker: raise KeyboardInterrupt"': 'bad_payload',
    'load="if not in_worker: raise MemoryError"': None,
}

async def case_results(ctx, plugin):
    m = ctx.manager(config=QUICK)
    pid = await ctx.warm(m, 'echo')
    codes = [DEEP, MODULE] + ['result = ' + n.format(v) for v in NOT_PICKLABLE for n in NESTED[1:]]
    for code in codes:
        job = await ctx.ended(await ctx.start(m, plugin, code=code), 'failed', 'bad_payload')
        assert is_readable_line(job.error), job.error
        await ctx.three_more(m)
    for value in NOT_PICKLABLE:   # at the top: by the default adapter it becomes text
        job = await ctx.ended(await m.start_job(plugin, code=f'result = {value}'))
        assert (job.status, job.fault) in GOOD_OR_BAD, (value, job, job.error)
    await ctx.check()
    assert m.worker_process.pid == pid and m.restart_count == 0

@pytest.mark.parametrize('plugin', ['act', 'do'])
def test_results_that_cannot_be_pickled(plugin): run_case(case_results, plugin)

async def case_traps(ctx):
    m = ctx.manager(config=QUICK)
    for trap, fault in TRAPS.items():
        for nested in NESTED[1:]:
            pid = await ctx.warm(m)
            job = await ctx.ended(await ctx.act(m, FROM + 'result = ' + nested.format(f'Trap({trap})')))
            assert job.status == 'failed' and job.fault in ([fault] if fault else ['bad_payload', 'out_of_memory']), \
                (trap, job, job.error)
            assert is_readable_line(job.error), job.error
            await ctx.three_more(m)
            if fault != 'worker_crashed': assert m.worker_process.pid == pid, trap
    await ctx.check()

def test_results_with_a_trap_on_either_side(): run_case(case_traps)

ODD = ['None', '0', '{}', '[]', '""', 'b"\\xff"', 'float("nan")', '{1: 2, None: 3, (1,): 4}', '"\\ud800"', '...',
       '{"status": "error", "error": "no"}', '{"type": "result", "job_id": "x"}', 'Exception("as a value")', 'range(5)',
       'type("D", (dict,), {"__module__": "builtins"})', '10**5000', 'NotImplemented', '{"a": 10**5000}', 'ValueError']
LIAR = '''
class Liar:
    def __getattr__(self, name): {}
    def __bool__(self): raise ValueError
    def __eq__(self, other): raise ValueError
    def __len__(self): return -1
    def __str__(self): {}
    def __iter__(self): raise SystemExit
    __hash__ = None
result = Liar()
'''

async def case_odd_results(ctx):
    m = ctx.manager()
    pid = await ctx.warm(m, 'echo')
    for value in ODD:
        job = await ctx.ended(await m.start_job('act', code=f'result = {value}'))
        assert (job.status, job.fault) in GOOD_OR_BAD, (value, job, job.error)
        if job.status == 'completed': assert isinstance(job.result, dict), (value, job.result)
    for a in ('return self', 'raise ValueError', 'raise SystemExit', 'raise AttributeError'):
        for b in ('return 5', 'raise ValueError', 'raise SystemExit', 'return "text"'):
            job = await ctx.ended(await m.start_job('act', code=LIAR.format(a, b)))
            assert (job.status, job.fault) in GOOD_OR_BAD, (a, b, job, job.error)
    for chunk in ODD:   # as chunks of a stream
        code = f'def stream():\n  yield {chunk}\n  yield "end"\nresult = None'
        job = await ctx.ended(await m.start_job('do', code=code))
        assert (job.status, job.fault) in (*GOOD_OR_BAD, ('failed', 'plugin_error')), (chunk, job)
        for c in [c async for c in m.stream_job(job.id)]:
            assert type(c.chunk) is str and c.chunk.encode(), 'a chunk that no page can show'
    await ctx.check()
    assert m.worker_process.pid == pid

def test_odd_results_and_chunks(): run_case(case_odd_results)

async def case_too_large(ctx):
    m = ctx.manager(config={'max_message_bytes': 2**20})
    pid = await ctx.warm(m, 'echo')
    for code in ('b"x" * 2**21', 'b"x" * 2**26', '[str(i) for i in range(2**18)]', 'bytearray(2**20 + 1)'):
        for plugin in ('act', 'do'):
            job = await ctx.start(m, plugin, code='result = {"nonce": nonce, "a": ' + code + '}')
            await ctx.ended(job, 'failed', 'bad_payload')
            assert '1048576' in job.error, job.error
            await ctx.three_more(m)
    for size in (2**19, 2**20 - 300):   # just below
        job = await ctx.ended(await ctx.act(m, 'result = {"nonce": nonce, "a": b"x" * ' + str(size) + '}'), 'completed')
        assert len(job.result['a']) == size
    for size in (2**20, 2**20 + 1, 2**23):
        n = len(m.get_all_jobs())
        try: await m.start_job('echo', a='x' * size)
        except MessageTooLarge as e: assert isinstance(e, ValueError) and '1048576' in str(e)
        else: raise AssertionError('too large, and accepted')
        assert len(m.get_all_jobs()) == n
    job = await ctx.do(m, 'def stream():\n  yield "x" * 2**22\n  yield "end"')   # a chunk over the limit
    await ctx.ended(job)
    assert job.status == 'completed' or job.fault == 'bad_payload', (job, job.error)
    await ctx.ended(await ctx.act(m, 'print("x" * 2**22)'), 'completed')
    job = await ctx.ended(await ctx.act(m, 'raise ValueError("x" * 2**22)'), 'failed', 'plugin_error')
    assert m.worker_process.pid == pid
    await ctx.check()

def test_results_and_parameters_over_the_limit(): run_case(case_too_large)

async def case_tiny_limit(ctx):
    m = ctx.manager(config={'max_message_bytes': 200})
    await ctx.ended(await m.start_job('echo', a=1), 'completed')
    smile = '\N{GRINNING FACE}'
    for code in ('raise ValueError("x" * 1000)', 'print("y" * 1000)', 'result = {"a": "x" * 300}', 'def f(): f()\nf()',
                 f'raise ValueError("{smile}" * 100_000)', 'raise type("E" * 300_000, (Exception,), {})("name")',
                 'from cjm_fasthtml_workers.core.context import report_progress; report_progress(.5, "x" * 10**6)'):
        job = await ctx.ended(await m.start_job('act', code=code))
        assert job.fault in ('plugin_error', 'bad_payload', None), (code, job, job.error)
    assert (await m.get_worker_state())['pid'] == m.worker_process.pid and m.restart_count == 0

def test_a_tiny_limit_is_for_payloads_and_not_for_our_own_words(): run_case(case_tiny_limit)

# ---- Parameters

async def case_parameters(ctx):
    m = ctx.manager()
    await ctx.warm(m, 'echo')
    n = len(m.get_all_jobs())
    lock, gen, file = threading.Lock(), (i for i in [1]), open('/dev/null')   # noqa: SIM115
    deep = []
    for _ in range(100_000): deep = [deep]
    bad = [lambda: 1, lock, gen, file, deep, plugins.Trap('raise ValueError(5)'), plugins.Trap('raise SystemExit(0)'),
           type('Local', (), {})()]
    for value in bad:
        for nested in (value, [1, {'a': value}]):
            try: await m.start_job('echo', good=1, culprit=nested, fine='x')
            except TypeError as e: assert 'culprit' in str(e), e
            else: raise AssertionError(f'{value!r} was accepted')
    assert len(m.get_all_jobs()) == n, 'a job was left behind'
    file.close()
    del deep, bad

    for load in ('raise ValueError(5)', 'raise SystemExit(0)', 'raise KeyboardInterrupt'):   # rebuilt in the worker
        pid = await ctx.warm(m)
        job = await m.start_job('echo', a=plugins.Trap(load=f'if in_worker: {load}'))
        await ctx.ended(job, 'failed', 'bad_payload')
        assert m.worker_process.pid == pid
    for load in ('os._exit(5)', 'os.abort()', 'import ctypes; ctypes.string_at(0)'):
        await ctx.warm(m)
        job = await m.start_job('echo', a=plugins.Trap(load=f'if in_worker: {load}'))
        await ctx.ended(job, 'failed', 'worker_crashed')
    job = await m.start_job('echo', a=plugins.Trap(load='if in_worker: raise MemoryError'))
    await ctx.ended(job, 'failed')
    odd = {'type': 'stop', 'job_id': 5, 'plugin_name': 'x', 'self': 1, 'stream': True, 'params': {'a': 1}, 'data': None,
           'config': {}, 'request_id': 7, 'class': 3, 'a b': 4, '': 5, 'name': 6, 'job': 7, 'args': 8, 'kwargs': 9}
    job = await m.start_job('echo', **odd)
    await ctx.ended(job, 'completed')
    assert job.result == odd, job.result
    value = [1]
    job = await ctx.start(m, 'echo', value=value)   # a snapshot
    value.append(2)
    await ctx.ended(job, 'completed')
    assert job.result['value'] == [1]
    await ctx.check()

def test_parameters(): run_case(case_parameters)

# ---- What a plugin leaves behind

LEAVES = {
    'threads': 'import threading\nfor i in range(5): threading.Thread(target=time.sleep, args=(60,)).start()',
    'busy thread': 'import threading\ndef f():\n  while True: time.sleep(.001)\n'
                   'threading.Thread(target=f, daemon=True).start()',
    'subprocess': 'import subprocess; [subprocess.Popen(["sleep", "60"]) for _ in range(3)]',
    'inherits all': 'import subprocess; subprocess.Popen(["sleep", "60"], close_fds=False)',
    'system': 'os.system("sleep 60 & sleep 61 &")',
    'fork': 'if os.fork() == 0:\n  try: time.sleep(60)\n  finally: os._exit(0)',
    'raw fork': 'import ctypes\nif ctypes.CDLL(None).fork() == 0: os.execvp("sleep", ["sleep", "60"])',
    'stubborn fork': 'import signal\nif os.fork() == 0:\n  for s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n'
                     '  time.sleep(60)',
    'fork that returns': 'os.fork()',
    'fork that raises': 'if os.fork() == 0: raise ValueError("in the child")',
    'multiprocessing': 'import multiprocessing as mp\n'
                       'mp.get_context("fork").Process(target=time.sleep, args=(60,)).start()',
    'pool': 'from concurrent.futures import ThreadPoolExecutor\n'
            'pool = ThreadPoolExecutor(2); pool.submit(time.sleep, 60)',
    'atexit': 'import atexit; atexit.register(time.sleep, 60)',
    'signals': 'import signal\nfor s in (1, 2, 3, 10, 12, 13, 14, 15, 17): signal.signal(s, signal.SIG_IGN)',
    'alarm': 'import signal; signal.signal(14, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, .001, .001)',
    'chdir': 'import tempfile; os.chdir("/"); os.environ.clear(); os.umask(0o777)',
    'no modules': 'import sys; [sys.modules.pop(n) for n in list(sys.modules) if n.startswith("cjm")]',
    'no path': 'import sys; sys.path.clear()',
    'recursion': 'import sys; sys.setrecursionlimit(2000)',
    'own loop': 'import asyncio; asyncio.set_event_loop(asyncio.new_event_loop())',
    'logging': 'import logging; logging.disable(); logging.getLogger().handlers.clear()',
    'nice': 'os.nice(10)',
}

def is_alive(process):
    try: return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return False

async def case_leaves(ctx, names, end):
    m = ctx.manager(config=QUICK)
    for name in names:
        pid = await ctx.warm(m, 'echo')
        kids = set(psutil.Process(pid).children(recursive=True))
        job = await ctx.ended(await ctx.act(m, LEAVES[name]))
        harsh = name == 'no modules'   # it may cost the worker
        assert job.status == 'completed' or job.fault == 'plugin_error' or harsh, (name, job, job.error)
        await ctx.three_more(m)
        assert m.worker_process.pid == pid or harsh, name
        if m.worker_process.pid != pid: continue
        kids = set(psutil.Process(pid).children(recursive=True)) - kids
        if end == 'kill': os.kill(pid, signal.SIGKILL)
        elif end == 'cancel':
            job = await ctx.start(m, 'sleeper')
            await ctx.running(m, job)
            assert await m.cancel_job(job.id) is True
        else: await m.aclose()
        await ctx.until(lambda: m.worker_process is None or m.worker_process.pid != pid, 'its end', 3)   # noqa: B023
        await ctx.until(lambda: not any(map(is_alive, kids)), f'{name}: {kids} to end', 3)   # noqa: B023
        if end == 'close': m = ctx.manager(config=QUICK)
    await ctx.check()

@pytest.mark.parametrize('end', ['kill', 'cancel', 'close'])
def test_what_a_plugin_leaves_behind_ends_with_the_worker(end):
    names = list(LEAVES) if end == 'kill' else list(LEAVES)[:11] + ['signals', 'atexit']
    run_case(case_leaves, names, end, timeout=50)

# ---- Starting

class FromFactory(Watched):
    "Its worker's plugin manager is a `plugins.Factory`."
    trap = '', '', ''
    def get_worker_entry_point(self):
        factory = functools.partial(plugins.Factory, self.plugins, *self.trap)
        return functools.partial(base_worker_process, plugin_manager_factory=factory, supports_streaming=True)

START = {
    'raises': ('raise ValueError("cannot")', 'ValueError: cannot'), 'exits': ('raise SystemExit(0)', 'SystemExit'),
    'interrupts': ('raise KeyboardInterrupt', 'KeyboardInterrupt'), 'hangs': ('time.sleep(60)', 'not'),
    'gil': ('import ctypes; ctypes.PyDLL(None).sleep(60)', 'not'), 'dies': ('os._exit(7)', '7'),
    'dies quietly': ('os._exit(0)', '0'), 'kills': ('os.kill(os.getpid(), 9)', 'SIGKILL'),
    'aborts': ('os.abort()', 'SIGABRT'),
}

async def case_start(ctx, where, names):
    flag = ctx.folder/'flag'
    for name in names:
        code, words = START[name]
        flag.touch()
        FromFactory.trap = str(flag), where, code
        config = {'load_plugins': 'on_start', 'max_restart_attempts': 2, **QUICK}
        if words == 'not': config.update(max_restart_attempts=1, worker_start_timeout_seconds=.4)   # no start keeps it
        m = ctx.manager(cls=FromFactory, only=True, config=config)
        ctx.unusable.add(m)
        jobs = [await ctx.start(m, 'echo') for _ in range(3)]
        for job in jobs:
            await ctx.ended(job, 'failed', 'start_failed')
            assert words in job.error and is_readable_line(job.error), (name, job.error)
        if name == 'raises': assert 'Traceback' in jobs[0].traceback
        assert await m.get_worker_state() is None or where == 'load'
        flag.unlink()   # it is repaired: the next job tries afresh
        m.worker_config.worker_start_timeout_seconds = 30
        if where == 'load' and m.worker_process: os.kill(m.worker_process.pid, signal.SIGKILL)
        ctx.unusable.discard(m)
        await ctx.until(lambda: not m.worker_process or not m.worker_process.is_alive(), 'the end')   # noqa: B023
        await ctx.check()
        await m.aclose()

@pytest.mark.parametrize('where', ['factory', 'discovery', 'load'])
@pytest.mark.parametrize('half', [0, 1])
def test_a_worker_that_cannot_start(where, half): run_case(case_start, where, list(START)[half::2], timeout=50)

async def case_start_says_why(ctx):
    from cjm_fasthtml_workers.core.errors import WorkerStartError
    flag = ctx.folder/'flag'
    flag.touch()
    FromFactory.trap = str(flag), 'factory', 'raise ValueError("cannot")'
    m = ctx.manager(cls=FromFactory, only=True)
    try: await m.start()
    except WorkerStartError as e: assert 'ValueError: cannot' in str(e) and 'Traceback' in e.traceback
    else: raise AssertionError('started')
    flag.unlink()
    await m.start()
    broken = ctx.manager({'bad': 'no.such.module:Plugin'}, only=True)
    ctx.ended(await ctx.ended(await broken.start_job('bad'), 'failed', 'start_failed')).close()
    broken.get_worker_entry_point = lambda: (lambda *q: None)   # cannot be sent
    ctx.unusable.add(broken)
    os.kill(broken.worker_process.pid, signal.SIGKILL)
    await ctx.until(lambda: broken.worker_process is None, 'the end')
    job = await ctx.ended(await broken.start_job('echo'), 'failed', 'start_failed')
    assert is_readable_line(job.error), job.error

def test_start_says_why(): run_case(case_start_says_why)

BAD_LOADS = {
    'raises': 'raise ValueError("no weights")', 'exits': 'raise SystemExit(3)', 'memory': 'raise MemoryError',
    'hangs': 'time.sleep(60)', 'dies': 'os._exit(3)',
}

async def case_one_of_three(ctx, name, load_plugins):
    act = PLUGINS['act']
    config = {'load_plugins': load_plugins, 'worker_start_timeout_seconds': 3 if name == 'hangs' else 30, **QUICK}
    configs = {'bad': {'init': BAD_LOADS[name]}}
    m = ctx.manager({'good': act, 'bad': act, 'also': act}, config, only=True, configs=configs)
    jobs = [(p, await ctx.start(m, p, code='pass')) for p in ('good', 'bad', 'also', 'good', 'bad', 'also')]
    for plugin, job in jobs:
        if plugin != 'bad': await ctx.ended(job, 'completed')
        else:
            await ctx.ended(job, 'failed')
            assert job.fault == 'start_failed' or (name == 'dies' and job.fault == 'worker_crashed'), (job, job.error)
            assert is_readable_line(job.error), job.error
    if name in ('raises', 'exits', 'memory'): assert m.restart_count == 0
    state = await m.get_worker_state()
    if state: assert 'bad' not in state['loaded_plugins'], state
    assert await m.reload_plugin('bad', {'init': 'pass'}) in (True, state is not None)
    await ctx.ended(await ctx.start(m, 'bad', code='pass'), 'completed')
    await ctx.check()

@pytest.mark.parametrize('name, load_plugins', [*((n, 'on_first_use') for n in BAD_LOADS),
                                                *((n, 'on_start') for n in ('raises', 'exits', 'memory'))])
def test_one_plugin_of_three_fails_to_load(name, load_plugins): run_case(case_one_of_three, name, load_plugins)

# ---- The cases themselves

def test_the_texts_are_python():
    texts = [*DEATHS, *STUCK.values(), *DESCRIPTORS.values(), *LEAVES.values(), *UNREADABLE, *ANSWERS, PIPES, LIMIT]
    for text in texts: ast.parse(text)

