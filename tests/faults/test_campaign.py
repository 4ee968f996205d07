"""Jobs of all kinds, while workers are killed and jobs cancelled at random: each ends once, and with its own result.

FAULTS_CAMPAIGN_JOBS=10000 FAULTS_CAMPAIGN_KILLS=1000 is the full size, and FAULTS_OFFSETS=5000 each byte of a message.
FAULTS_SEED=1234 repeats a run.
"""
import asyncio
import contextlib
import logging
import os
import pickle
import random
import signal
import threading
import time
from collections import Counter

import pytest

from cjm_fasthtml_workers.core.channels import encode, open_channel
from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.errors import ChannelClosed, JobNotFound
from tests.faults.harness import TERMINAL, run_case

JOBS = int(os.environ.get('FAULTS_CAMPAIGN_JOBS', 200))
KILLS = int(os.environ.get('FAULTS_CAMPAIGN_KILLS', 20))
LIMIT = 60 + JOBS / 20 + KILLS / 2

KINDS = {   # name: what it does, how it may end when nobody interferes
    'plain': ('pass', ('completed', None)),
    'short': ('time.sleep(.002)', ('completed', None)),
    'longer': ('time.sleep(.05)', ('completed', None)),
    'polite': ('from cjm_fasthtml_workers.core.context import cancel_requested as asked, report_progress\n'
               'for i in range(20):\n    report_progress(i / 20)\n    if asked(): break\n    time.sleep(.001)',
               ('completed', None)),
    'large': ('result["data"] = os.urandom(300_000)', ('completed', None)),
    'large-in': ('result["n"] = len(data)', ('completed', None)),
    'chatty': ('for i in range(200): print(i)', ('completed', None)),
    'stream': ('def stream():\n    for i in range(50): yield f"{i} "', ('completed', None)),
    'raises': ('raise ValueError("no")', ('failed', 'plugin_error')),
    'leaves': ('raise SystemExit(0)', ('failed', 'plugin_error')),
    'unpicklable': ('result["f"] = lambda: 0', ('failed', 'bad_payload')),
    'dies': ('os._exit(9)', ('failed', 'worker_crashed')),
    'slow': ('time.sleep(60)', ('failed', 'timed_out')),
}

class Campaign:
    "Starts jobs, kills, cancels; then compares."
    def __init__(self, ctx, m, seed, n_jobs, n_kills):
        self.ctx, self.m, self.rng, self.n_jobs, self.n_kills = ctx, m, random.Random(seed), n_jobs, n_kills
        self.jobs, self.kinds, self.cancels = {}, {}, {}
        self.killed, self.is_over = [], False
        self.events, self.told = ctx.streams.pop(m), {}

    async def start(self):
        name = self.rng.choice(list(KINDS))
        code, _ = KINDS[name]
        data = {'data': bytes(self.rng.randrange(200_000))} if name == 'large-in' else {}
        options = JobOptions(priority=self.rng.randrange(3), timeout_seconds=.05 if name == 'slow' else None)
        job = await self.ctx.do(self.m, code, options, **data)
        self.jobs[job.id], self.kinds[job.id] = job, name

    async def run_jobs(self):
        while len(self.jobs) < self.n_jobs:
            for _ in range(self.rng.randrange(1, 8) if self.m.get_stats()['backlog'] < 30 else 0): await self.start()
            await asyncio.sleep(self.rng.uniform(0, .01))
        for job in list(self.jobs.values()):
            with contextlib.suppress(JobNotFound): await self.m.wait_for_job(job.id, 60)
        self.is_over = True

    async def kill(self):
        "A SIGKILL every now and then, busy or not, until there were enough."
        while not self.is_over:
            pids = [s['pid'] for s in self.m.get_stats()['workers'] if s['pid'] and s['state'] in ('ready', 'starting')]
            part = len(self.jobs) / self.n_jobs
            if pids and len(self.killed) < self.n_kills * part:
                self.killed.append(self.rng.choice(pids))
                with contextlib.suppress(ProcessLookupError): os.kill(self.killed[-1], signal.SIGKILL)
            await asyncio.sleep(self.rng.uniform(0, .02))

    async def cancel(self):
        while not self.is_over:
            open_ones = [j for j in list(self.jobs.values())[-60:] if j.status in ('pending', 'running')]
            most = len(self.jobs) / 8   # or few would complete
            if open_ones and self.rng.random() < .3 and len(self.cancels) < most:
                job = self.rng.choice(open_ones)
                self.cancels.setdefault(job.id, []).append(await self.m.cancel_job(job.id))
            await asyncio.sleep(self.rng.uniform(0, .03))

    async def listen(self):
        "A stream that nobody reads would not hold so many."
        async for e in self.events:
            name = e.type.partition(':')[2]
            if e.data['job_id'] and name in TERMINAL: self.told.setdefault(e.data['job_id'], []).append(name)

    def judge(self):
        for job in self.jobs.values():
            assert self.told[job.id] == [job.status], f'I2: {job} was told to end as {self.told[job.id]}'
            kind = self.kinds[job.id]
            ends = {KINDS[kind][1], ('failed', 'worker_crashed')}
            if job.id in self.cancels: ends.add(('cancelled', None))
            assert (job.status, job.fault) in ends, f'{kind}: {job} {job.error}'
            told = self.cancels.get(job.id, [])
            assert sum(told) == (job.status == 'cancelled'), f'{kind}: {job} was told {told}'
            if job.status == 'completed' and kind == 'large': assert len(job.result['data']) == 300_000
        victims = Counter(j.worker_pid for j in self.jobs.values() if j.fault == 'worker_crashed')
        assert max(victims.values(), default=0) <= 1, 'a death cost two jobs'
        crashed = [j for j in self.jobs.values() if j.fault == 'worker_crashed' and self.kinds[j.id] != 'dies']
        assert len(crashed) <= len(self.killed), 'a job lost its worker, and nobody had killed it'
        assert all(j.exit_code == -signal.SIGKILL for j in crashed), Counter(j.exit_code for j in crashed)

    async def read(self):
        "What streams have sent: all of it, if they completed, and in any case what comes first."
        whole = ''.join(f'{i} ' for i in range(50))
        for job in self.jobs.values():
            if self.kinds[job.id] != 'stream': continue
            text = ''.join([c.chunk async for c in self.m.stream_job(job.id)])
            assert whole.startswith(text) and (text == whole or job.status != 'completed'), f'{job}: {text}'

async def case_campaign(ctx, seed, config, n_jobs, n_kills):
    m = ctx.manager(config={'max_restart_attempts': 10**6, 'cancel_grace_seconds': .05, 'max_finished_jobs': None,
                            **config})
    logging.getLogger('cjm_fasthtml_workers').setLevel(logging.WARNING)   # the chatty ones
    c = Campaign(ctx, m, seed, n_jobs, n_kills)
    listener = asyncio.create_task(c.listen())
    await asyncio.gather(c.run_jobs(), c.kill(), c.cancel())
    await ctx.until(lambda: len(c.told) == len(c.jobs), 'the end of each job to be told')
    await c.events.aclose()
    await listener
    c.judge()
    await c.read()
    ctx.stall_limit = 1.0   # the campaign itself looks through all its jobs
    return {'kills': len(c.killed), 'cancels': sum(map(len, c.cancels.values())), 'restarts': m.restart_count,
            'ends': Counter(f'{j.status} {j.fault or ""}'.strip() for j in c.jobs.values())}

@pytest.mark.limit(LIMIT + 60)
@pytest.mark.parametrize('config', [{}, {'max_workers': 2}, {'standby_workers': 1}, {'start_method': 'forkserver'}],
                         ids=['one', 'two', 'spare', 'fork server'])
def test_campaign(config):
    seed = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
    print('FAULTS_SEED', seed)
    print(run_case(case_campaign, seed, config, JOBS, KILLS, timeout=LIMIT))

# ---- A message that was cut off

MESSAGES = [{'type': 'result', 'job_id': 'j', 'data': 'x' * 50}, ['', None, 7],
            {'type': 'result', 'job_id': 'k', 'data': 'y' * 4096}, {'n': pickle.PickleBuffer(bytes(40_000))}]

def cut_off(frame, before, n):
    "What a reader gets when the writer dies after `n` bytes of a frame, `before` being whole."
    receiver, sender = open_channel()
    thread = threading.Thread(target=lambda: (os.write(sender.fd, before + frame[:n]), sender.close()))
    thread.start()
    got = []
    try:
        while True: got.append(receiver.get(timeout=5))
    except ChannelClosed: return got
    finally:
        thread.join()
        receiver.close()

@pytest.mark.parametrize('i', range(len(MESSAGES)))
def test_message_cut_off_at_any_byte(i):
    whole = {'this': 'is whole'}
    before, frame = b''.join(encode(whole)), b''.join(map(bytes, encode(MESSAGES[i])))
    step = 1 if len(frame) < 5000 else 331
    for n in [*range(0, len(frame), step), len(frame) - 1]:
        assert cut_off(frame, before, n) == [whole], f'cut off after {n}'
    assert len(cut_off(frame, before, len(frame))) == 2

TORN = '''
import signal
import cjm_fasthtml_workers.core.channels as channels
real, left = os.writev, [cut]
def writev(fd, pieces):
    data = b''.join(bytes(p) for p in pieces)[:max(left[0], 0)]
    left[0] -= len(data)
    if left[0] > 0: return real(fd, [data])
    while data: data = data[os.write(fd, data):]
    os.kill(os.getpid(), signal.SIGKILL)
class Os:
    def __getattr__(self, name): return getattr(os, name)
    def write(self, fd, data): return writev(fd, [data])
    writev = staticmethod(writev)
real_put = channels.Sender.put
def put(self, message):
    channels.os = Os()   # this message is counted, and is the last
    real_put(self, message)
    os.kill(os.getpid(), signal.SIGKILL)
result['data'] = 'y' * size
channels.Sender.put = put
'''

async def case_torn(ctx, size, cuts, method):
    "The worker is killed when it has written exactly so many bytes of its result, or all; jobs wait behind it."
    m = ctx.manager(config={'restart_policy': 'always', 'max_restart_attempts': 10**6, 'start_method': method})
    await ctx.warm(m)
    ends = {}
    for cut in cuts:
        job = await ctx.do(m, TORN, cut=cut, size=size)
        behind = [await ctx.start(m, 'echo', n=cut) for _ in range(2)]
        await ctx.ended(job)
        for b in behind: await ctx.ended(b, 'completed')
        assert job.fault in (None, 'worker_crashed'), f'{cut}: {job} {job.error}'
        if job.status == 'completed': assert job.result['data'] == 'y' * size and job.result['nonce']
        else: assert job.result is None and job.exit_code == -signal.SIGKILL, f'{cut}: {job} {job.error}'
        ends[cut] = job.status
    return {'ends': ends}

LARGE = 3 * 2**20
OFFSETS = int(os.environ.get('FAULTS_OFFSETS', 30))

def some(length, n):
    "So many offsets of a message, from its first byte to beyond its last; all, if it is not longer."
    return sorted({length * i // n for i in range(n)}) if n < length else list(range(length))

@pytest.mark.limit(120 + OFFSETS * 2)
@pytest.mark.parametrize('size, cuts', [
    (10, [0, 1, 4, 15, 16, 17, 100, 150, 200, 10_000]), (4096, [*some(4400, OFFSETS), 10_000]),
    (LARGE, [*some(LARGE + 300, min(OFFSETS // 2, 200)), 65_535, 65_536, 65_537, 2**20 - 1, 2**20 + 1, 2**23])],
    ids=['small', '4 KiB', 'large'])
def test_worker_killed_at_a_byte_of_its_result(size, cuts):
    "A result that is not whole is none; one that is whole counts, although its worker is dead."
    method = 'spawn' if len(cuts) <= 10 else 'forkserver'   # it starts faster; the pipes are the same
    ends = run_case(case_torn, size, cuts, method, timeout=60 + len(cuts))['ends']
    ends = [e for _, e in sorted((int(cut), end) for cut, end in ends.items())]
    assert ends == sorted(ends, reverse=True), ends   # failed up to its length, completed from there
    assert ends[0] == 'failed' and ends[-1] == 'completed'
