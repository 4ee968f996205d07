"""A worker may be sent jobs before it can run them. Nobody must be able to tell: until its code runs, a job waits.

Each job notes in a file that it begins and ends, so that what really ran can be compared with what was told.
FAULTS_AHEAD_JOBS=10000 and FAULTS_AHEAD_KILLS=200 make the campaigns longer, FAULTS_SEED repeats one (it is printed).
"""
import asyncio
import bisect
import contextlib
import itertools
import logging
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.core.errors import JobNotFound, JobQueueFull
from tests.faults.harness import TERMINAL, Case, run_case, stood_still
from tests.faults.plugins import Trap

JOBS = int(os.environ.get('FAULTS_AHEAD_JOBS', 1000))
KILLS = int(os.environ.get('FAULTS_AHEAD_KILLS', 12))
SEED = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
LIMIT = 60 + JOBS / 25 + KILLS * 2
OVERTAKEN = 32   # by so many at most, with several workers; with one, a job is never overtaken by its like
LATE_SECONDS = 2.0   # how much later than it was, a start may be said to have been

GATED = 'while not os.path.exists(gate): time.sleep(.002)'
IN_C = 'import ctypes; ctypes.PyDLL(None).usleep(int(seconds * 1e6))'   # the GIL is held
KINDS = ['', '', '', 'time.sleep(.0005)', 'time.sleep(.002)']

# ---- What the cases have in common

class Note(NamedTuple):
    what: str     # loads, unloads, begins, ends
    n: int        # the number of the job
    pid: int
    at: int       # nanoseconds, the same clock in all processes
    wall: float   # seconds since the epoch
    version: str  # of the plugin's configuration

class Shorts:
    "A manager and its short jobs: what was done to them, what was told of them, what they noted when they ran."
    def __init__(self, ctx: Case, workers: int = 1, plugins: dict[str, str] | None = None, **config: Any):
        self.ctx, self.workers, self.file = ctx, workers, ctx.folder/f'notes-{len(ctx.managers)}'
        ctx.stall_limit = max(ctx.stall_limit, JOBS / 8000)   # the case itself looks through all its notes
        config = {'max_workers': workers, 'cancel_grace_seconds': 0, 'max_finished_jobs': None,
                  'max_restart_attempts': 10**6, 'restart_backoff_base_seconds': .01, **config}
        self.config = {'file': str(self.file)}
        inits = {'mark': '', 'flow': '', **(plugins or {})}   # what runs when it is loaded
        classes = {name: f'tests.faults.plugins:{"Flow" if name == "flow" else "Mark"}' for name in inits}
        self.m = ctx.manager(classes, config=config, configs={k: {**self.config, 'init': v} for k, v in inits.items()})
        self.events, self.told = ctx.streams.pop(self.m), []
        self.listener = asyncio.create_task(self.listen())
        self.jobs: dict[int, Any] = {}
        self.cancels: dict[int, list[tuple[bool, int]]] = defaultdict(list)   # what it said, and when it came back
        self.killed: list[int] = []
        self._numbers = itertools.count()

    async def listen(self) -> None:
        async for e in self.events:
            if e.data['job_id'] is not None: self.told.append((e.data['job_id'], e.type.partition(':')[2]))

    # doing

    async def start(self, plugin: str = 'mark', priority: int = 0, timeout: float | None = None, retries: int = 0,
                    **params: Any) -> int:
        "The number of a new job."
        n = next(self._numbers)
        options = JobOptions(priority=priority, timeout_seconds=timeout, max_retries=retries)
        job = await self.ctx.start(self.m, plugin, options, n=n, **params)
        self.jobs[n] = job
        if n % 10 == 0: await asyncio.sleep(0)
        return n

    async def many(self, k: int, rng: random.Random | None = None, **kwargs: Any) -> list[int]:
        "The numbers of so many, of different length."
        return [await self.start(**{'code': rng.choice(KINDS) if rng else '', **kwargs}) for _ in range(k)]

    async def hold(self, gate: str = 'gate', **kwargs: Any) -> int:
        "A job that has really begun, and runs until there is a file of this name."
        n = await self.start(code=GATED, gate=str(self.ctx.folder/gate), **kwargs)
        await self.ctx.until(lambda: n in self.began(), f'job {n} to begin')
        return n

    def open(self, gate: str = 'gate') -> None: (self.ctx.folder/gate).touch()

    async def cancel(self, n: int) -> bool:
        answer = await self.m.cancel_job(self.jobs[n].id)
        self.cancels[n].append((answer, time.monotonic_ns()))
        return answer

    def kill(self, rng: random.Random) -> bool:
        "SIGKILL to a worker that is ready; False: there is none."
        pids = [w['pid'] for w in self.m.get_stats()['workers'] if w['state'] == 'ready']
        pids = [p for p in pids if p not in self.killed]
        if not pids: return False
        self.killed.append(rng.choice(pids))
        with contextlib.suppress(ProcessLookupError): os.kill(self.killed[-1], signal.SIGKILL)
        return True

    async def all_ended(self, numbers: Any = None, seconds: float = 60) -> None:
        for n in list(self.jobs if numbers is None else numbers):
            with contextlib.suppress(JobNotFound): await self.m.wait_for_job(self.jobs[n].id, seconds)
            if n % 10 == 0: await asyncio.sleep(0)

    # looking

    @property
    def waiting(self) -> list[int]: return [n for n, j in list(self.jobs.items()) if j.status == 'pending']

    def notes(self, what: str = '', since: int = 0) -> list[Note]:
        "In the order in which they were made, as far as one process is concerned."
        if not self.file.exists(): return []
        rows = [r.split(' ') for r in self.file.read_text().split('\n')[:-1]]
        found = [Note(a, int(n), int(pid), int(at), int(wall) / 1e9, v) for a, n, pid, at, wall, v in rows]
        return [x for x in found if what in ('', x.what) and x.at > since]

    def began(self) -> dict[int, Note]: return {x.n: x for x in self.notes('begins')}
    def ended(self) -> dict[int, Note]: return {x.n: x for x in self.notes('ends')}
    def statuses(self, numbers: Any = None) -> Counter:
        return Counter(self.jobs[n].status for n in (self.jobs if numbers is None else numbers))

    # judging

    async def judge(self, in_order: bool = True) -> None:
        "What holds for all of them, whatever was done."
        await self.all_ended()
        ids = {j.id for j in self.jobs.values()}
        def ends_told() -> int: return sum(name in TERMINAL and job_id in ids for job_id, name in self.told)
        await self.ctx.until(lambda: ends_told() >= len(ids), 'all ends to be told')
        for check in (self.each_ran_as_often_as_was_told, self.no_more_at_once_than_workers,
                      self.times_are_those_of_the_notes, self.deaths_hit_one_each): check()
        if in_order: self.order_is_kept()

    def each_ran_as_often_as_was_told(self) -> None:
        short = {'queued': 'q', 'started': 's', 'chunk': 'c', 'progress': 'p', 'log': 'l'}
        told, begins, ends = defaultdict(str), Counter(), Counter()
        for job_id, name in self.told: told[job_id] += short.get(name, f'-{name}')
        for x in self.notes(): {'begins': begins, 'ends': ends}.get(x.what, Counter())[x.n] += 1
        for n, job in self.jobs.items():
            who = f'{n}: {job} {job.error}, told {told[job.id]}, began {begins[n]}, ended {ends[n]}'
            assert re.fullmatch(rf'q(s[cpl]*q)*(s[cpl]*)?-{job.status}', told[job.id]), who
            assert ends[n] <= begins[n] <= job.attempt, f'ran too often: {who}'
            if 's' not in told[job.id]: assert not begins[n] and job.started_at is job.worker_pid is None, who
            if job.status == 'completed': assert ends[n] and job.result['n'] == n, who
            answers = self.cancels[n]
            if not self.m._is_closed: assert sum(a for a, _ in answers) == (job.status == 'cancelled'), who
        for x in self.notes():
            for answer, at in self.cancels[x.n]: assert not answer or x.at < at, f'{x} after its cancel had come back'

    def no_more_at_once_than_workers(self) -> None:
        running: set[str] = set()
        for job_id, name in self.told:
            if name == 'started': running.add(job_id)
            elif name == 'queued' or name in TERMINAL: running.discard(job_id)
            assert len(running) <= self.workers, f'{len(running)} jobs are said to run, on {self.workers}'

    def times_are_those_of_the_notes(self) -> None:
        "`started_at` is in the order in which they began, after the end of the one before, and soon."
        last: dict[int, tuple[Any, float]] = {}   # of a worker: the job it began last, and when it ended it
        for x in self.notes():
            job = self.jobs.get(x.n)
            if job is None or job.attempt > 1: continue
            place = 0 if self.workers == 1 else x.pid
            before, ended = last.get(place, (None, 0.0))
            if x.what == 'ends': last[place] = job, x.wall
            if x.what != 'begins': continue
            start = datetime.fromisoformat(job.started_at).timestamp()
            assert start <= datetime.fromisoformat(job.completed_at).timestamp(), job
            assert ended <= start + 1e-5, f'{job} started before {before} had ended'
            assert before is None or before.started_at <= job.started_at, f'{job} began later than {before}'
            assert start - x.wall < LATE_SECONDS, f'{job}: it began long before it was started'
            assert job.worker_pid == x.pid, f'{job} ran in {x.pid}'
            last[place] = job, ended

    def deaths_hit_one_each(self) -> None:
        crashed = [j for j in self.jobs.values() if j.exit_code == -signal.SIGKILL]
        victims = Counter(j.worker_pid for j in crashed)
        assert set(victims) <= set(self.killed) and set(victims.values()) <= {1}, f'{victims}, killed {self.killed}'
        lost = sum(j.attempt - 1 for j in self.jobs.values() if j.fault not in ('plugin_error',))
        assert len(crashed) + lost <= len(self.killed) + sum(j.fault == 'plugin_error' for j in self.jobs.values())

    def order_is_kept(self) -> None:
        "Of equal ones, who was started first begins first."
        lines: dict[Any, list[int]] = defaultdict(list)
        for x in sorted(self.notes('begins'), key=lambda x: x.at):
            p = self.jobs[x.n].priority
            lines[p].append(x.n)
            if not self.killed: lines[p, x.pid].append(x.n)   # what the dead had not begun, goes to another one later
        for who, line in lines.items():
            if self.workers == 1 or isinstance(who, tuple): assert line == sorted(line), f'{who}: {line}'
            elif not self.killed: self._hardly_overtaken(line)

    def _hardly_overtaken(self, line: list[int]) -> None:
        later: list[int] = []
        for n in reversed(line):
            overtaken = bisect.bisect(later, n)
            assert overtaken <= OVERTAKEN, f'{n} began before {later[:overtaken][:50]}'
            bisect.insort(later, n)

    def urgent_came_first(self, urgent: dict[int, int]) -> None:
        "Those that were accepted at these times came before all others that had not begun."
        began, told = self.began(), {}
        for i, (job_id, name) in enumerate(self.told): told.setdefault((job_id, name), i)
        for n, at in urgent.items():
            less = {m for m, job in self.jobs.items() if job.priority < self.jobs[n].priority and m in began}
            here = {m for m in less if began[m].pid == began[n].pid and at < began[m].at < began[n].at}
            assert len(here) <= 1, f'{here} began after {n} was accepted, and before it'   # one was on its way
            queued, started = (told[self.jobs[n].id, name] for name in ('queued', 'started'))
            lot = {m for m in less if queued < told[self.jobs[m].id, 'started'] < started and at < began[m].at}
            assert len(lot) <= self.workers, f'{lot} began after {n} was accepted, and were started before it'

def run_seeded(case: Any, *args: Any, **kwargs: Any) -> None:
    print('FAULTS_SEED', SEED)
    print(run_case(case, SEED, *args, timeout=LIMIT, **kwargs))

both = pytest.mark.parametrize('workers', [1, 2])
pytestmark = pytest.mark.limit(LIMIT + 60)

# ---- Cancel

async def case_cancel(ctx, seed, workers, kept):
    "Random ones, most of which wait; those that have ended may be forgotten at once."
    rng, s = random.Random(seed), Shorts(ctx, workers, max_finished_jobs=kept)
    touched = 0
    for _ in range(4):
        await s.many(JOBS // 4, rng)
        while waiting := s.waiting:
            n = rng.choice(waiting[:rng.choice((3, 10, 10**6))])
            await s.cancel(n)
            if rng.random() < .05 and (open_ones := [n for n, j in s.jobs.items() if j.status == 'running']):
                touched += await s.cancel(rng.choice(open_ones))
            await asyncio.sleep(rng.choice((0, 0, .001, .005)))
    await s.judge()
    began = s.began()
    never = [n for n, j in s.jobs.items() if j.status == 'cancelled' and n not in began]
    assert len(never) > JOBS / 40, f'{s.statuses()}, of which {len(never)} never began'
    return {'ends': s.statuses(), 'never began': len(never), 'running ones cancelled': touched}

@both
@pytest.mark.parametrize('kept', [None, 0])
def test_cancel_one_that_waits(workers, kept): run_seeded(case_cancel, workers, kept)

async def case_threads(ctx, seed, workers):
    "From three threads, each with a loop of its own, while this one waits."
    s = Shorts(ctx, workers)
    await s.many(20)
    async def work(rng):
        mine = []
        for _ in range(JOBS // 3):
            mine.append(await s.start(code=rng.choice(KINDS)))
            if rng.random() < .2: await s.cancel(rng.choice(mine[-30:]))
    threads = [threading.Thread(target=lambda i=i: asyncio.run(work(random.Random(seed + i)))) for i in range(3)]
    for t in threads: t.start()
    await ctx.until(lambda: not any(t.is_alive() for t in threads), 'the threads to end', LIMIT / 2)
    await s.judge(in_order=False)   # who was accepted first is known to the manager only
    assert set(s.statuses()) == {'completed', 'cancelled'} and len(s.jobs) == 20 + JOBS // 3 * 3

@both
def test_cancels_from_several_loops(workers): run_seeded(case_threads, workers)

async def case_cancel_kills_nobody(ctx, seed):
    "Those that have not begun: the worker does not notice."
    rng, s = random.Random(seed), Shorts(ctx)
    await s.all_ended(await s.many(50))
    for i in range(20):
        held = await s.hold(f'gate{i}')
        behind = await s.many(30)
        for n in (gone := rng.sample(behind, 15)): assert await s.cancel(n) and s.jobs[n].status == 'cancelled'
        s.open(f'gate{i}')
        await s.all_ended([held, *behind])
        assert s.statuses(behind) == {'completed': 15, 'cancelled': 15}
        assert not set(gone) & set(s.began())
    await s.judge()
    assert s.m.restart_count == 0 and len({x.pid for x in s.notes()}) == 1

def test_cancel_of_one_that_waits_touches_no_process(): run_seeded(case_cancel_kills_nobody)

async def case_cancel_unheard(ctx, seed, how):
    "Nobody in the worker can answer: it is stopped, or in C with the GIL held."
    s = Shorts(ctx)
    await s.all_ended(await s.many(50))
    pid = s.m.worker_process.pid
    if how == 'stopped': held = await s.hold()
    else:
        held = await s.start(code=IN_C, seconds=3)
        await ctx.until(lambda: held in s.began(), 'it to begin')
    behind = await s.many(40)
    if how == 'stopped': os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(2.5):
        for n in behind[::2]: assert await s.cancel(n)
    assert held not in s.ended()
    s.open()
    if how == 'stopped': os.kill(pid, signal.SIGCONT)
    await s.judge()
    assert s.statuses(behind) == {'cancelled': 20, 'completed': 20}
    assert s.m.worker_process.pid == pid and s.m.restart_count == 0

@pytest.mark.parametrize('how', ['stopped', 'in C'])
def test_cancel_while_the_worker_hears_nothing(how): run_seeded(case_cancel_unheard, how)

async def case_cancel_running(ctx, seed, workers):
    "The worker goes with the job that it runs. Those behind it had not begun, and run once, in the next one."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    for i in range(6):
        await s.all_ended(await s.many(20))
        held = await s.hold(f'gate{i}')
        behind = await s.many(rng.randrange(1, 40))
        assert await s.cancel(held)
        await s.all_ended(behind)
        assert s.statuses(behind) == {'completed': len(behind)}
    await s.judge()

@both
def test_cancel_of_one_that_runs(workers): run_seeded(case_cancel_running, workers)

# ---- Who is next

async def case_priority(ctx, seed, workers):
    "One that is more urgent comes late: it begins before all that have not."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    urgent = {}
    for _ in range(8):
        await s.many(JOBS // 16, rng, priority=rng.randrange(2))
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0, .01))
            n = await s.start(priority=5 + len(urgent))
            urgent[n] = time.monotonic_ns()
        await s.all_ended(list(urgent))
    await s.judge()
    s.urgent_came_first(urgent)

async def case_priority_held(ctx, seed, workers):
    "Nothing moves meanwhile: the order is exact."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    await s.all_ended(await s.many(100))
    for turn in range(5):
        held = [await s.hold(f'{turn}.{i}') for i in range(workers)]
        behind = [await s.start(priority=rng.randrange(4)) for _ in range(40)]
        for n in rng.sample(behind, 5): assert await s.cancel(n)
        behind = [n for n in behind if s.jobs[n].status == 'pending']
        s.open(f'{turn}.0')   # one goes on, and does it all
        await s.all_ended(behind)
        line = [x.n for x in s.notes('begins') if x.n in behind]
        assert line == sorted(behind, key=lambda n: (-s.jobs[n].priority, n)), line
        for i in range(1, workers): s.open(f'{turn}.{i}')
        await s.all_ended(held)
    await s.judge()

@both
@pytest.mark.parametrize('case', [case_priority, case_priority_held])
def test_priority_that_comes_late(case, workers): run_seeded(case, workers)

async def case_long(ctx, seed, workers):
    "A long job among short ones, while another worker is idle: nobody waits behind it."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    await s.all_ended(await s.many(200))   # they are known to be short
    for turn in range(6):
        before = await s.many(rng.randrange(20), rng)
        long = [await s.start(code=GATED, gate=str(ctx.folder/f'{turn}')) for _ in range(workers - 1)]
        after = await s.many(60, rng)
        await s.all_ended(before + after, seconds=20)   # although the long ones do not end
        assert all(s.jobs[n].status == 'running' for n in long)
        s.open(f'{turn}')
        await s.all_ended(long)
    await s.judge()

async def case_uneven(ctx, seed, workers):
    "Now and then one that takes as long as a hundred others: those behind it change their worker again and again."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    for _ in range(4):
        for _ in range(JOBS // 4): await s.start(code=rng.choices(['', 'time.sleep(.02)'], [25, 1])[0])
        await s.all_ended()
    await s.judge()
    assert s.statuses() == {'completed': len(s.jobs)} and len({x.pid for x in s.notes()}) == workers

@pytest.mark.parametrize('workers', [2, 3])
@pytest.mark.parametrize('case', [case_long, case_uneven])
def test_nobody_waits_behind_a_long_one(case, workers): run_seeded(case, workers)

async def case_idle(ctx, seed, how):
    "What waits behind a long job is run by a worker that has nothing to do: one that was slow, late, or is new."
    s = Shorts(ctx, 2)
    await s.all_ended(await s.many(100))
    first, second = await s.hold('one'), await s.hold('two')
    behind = await s.many(80)
    if how == 'done': s.open('two')
    elif how == 'cancelled': assert await s.cancel(second)
    else:
        s.killed.append(s.jobs[second].worker_pid)
        os.kill(s.killed[0], signal.SIGKILL)
    await s.all_ended(behind, seconds=20)
    assert s.jobs[first].status == 'running' and s.statuses(behind) == {'completed': 80}
    assert s.jobs[first].worker_pid not in {x.pid for n, x in s.began().items() if n in behind}
    s.open('one')
    await s.judge()

@pytest.mark.parametrize('how', ['done', 'cancelled', 'killed'])
def test_an_idle_worker_takes_what_waits(how): run_seeded(case_idle, how)

async def case_limit(ctx, seed):
    "What was sent ahead still waits, and is counted."
    s = Shorts(ctx, request_queue_size=5)
    for turn in range(3):
        for _ in range(30): await s.all_ended([await s.start()])
        held = await s.hold(f'{turn}')
        behind = await s.many(5)
        with pytest.raises(JobQueueFull): await s.start()
        stats = s.m.get_stats()
        assert (stats['running'], stats['backlog']) == (1, 5) and s.waiting == behind
        assert await s.cancel(behind[2])
        behind += await s.many(1)
        with pytest.raises(JobQueueFull): await s.start()
        s.open(f'{turn}')
        await s.all_ended([held, *behind])
    await s.judge()

def test_those_that_wait_are_counted(): run_seeded(case_limit)

# ---- Deaths

async def case_kill(ctx, seed, workers, config, retries):
    "At any moment. Who ran is the one that fails; all others run, once."
    rng, s = random.Random(seed), Shorts(ctx, workers, **config)
    async def kill():
        while not is_over:
            if len(s.killed) < KILLS and s.waiting: s.kill(rng)
            await asyncio.sleep(rng.choice((0, .002, .01, .05)))
    is_over, killing = False, asyncio.create_task(kill())
    while len(s.jobs) < JOBS or len(s.killed) < KILLS:
        while len(s.waiting) > 100: await asyncio.sleep(.005)
        await s.many(min(100, max(20, JOBS // 5)), rng, retries=rng.randrange(retries + 1))
    await s.all_ended()
    is_over = True
    await killing
    await s.judge(in_order=not retries)
    ends = Counter((j.status, j.fault) for j in s.jobs.values())
    assert set(ends) <= {('completed', None), ('failed', 'worker_crashed'), ('failed', 'quarantined')}, ends
    assert len(s.killed) >= KILLS
    return {'ends': Counter(f'{a} {b or ""}' for a, b in ends.elements()), 'kills': len(s.killed)}

@pytest.mark.parametrize(('workers', 'config', 'retries'), [
    (1, {}, 0), (2, {}, 0), (1, {'standby_workers': 1}, 0), (2, {'start_method': 'forkserver'}, 0), (2, {}, 1)],
    ids=['one', 'two', 'spare', 'fork server', 'retries'])
def test_worker_killed_at_any_moment(workers, config, retries): run_seeded(case_kill, workers, config, retries)

async def case_behind_a_crash(ctx, seed, workers):
    "It fails; those behind it had not begun."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    deaths = {'os._exit(7)': 7, 'os.abort()': -6}
    fatal = []
    for _ in range(6):
        await s.many(rng.randrange(30), rng)
        fatal.append(await s.start(code=rng.choice(list(deaths))))
        await s.many(30, rng)
        if rng.random() < .5: await s.all_ended()
    await s.all_ended()
    s.killed = [s.jobs[n].worker_pid for n in fatal]   # for the order
    await s.judge()
    assert {n for n, j in s.jobs.items() if j.status != 'completed'} == set(fatal)
    assert {(s.jobs[n].fault, s.jobs[n].exit_code) for n in fatal} <= {('worker_crashed', c) for c in deaths.values()}

@both
def test_behind_one_that_kills_its_worker(workers): run_seeded(case_behind_a_crash, workers)

async def case_never(ctx, seed, how):
    "Under `never` nobody comes: those that waited fail, and their code has not run."
    s = Shorts(ctx, restart_policy='never')
    for i in range(3):
        await s.all_ended(await s.many(50))
        held = await s.hold(f'gate{i}')
        behind = await s.many(50)
        if how == 'cancelled': assert await s.cancel(held)
        else:
            s.killed.append(s.jobs[held].worker_pid)
            os.kill(s.killed[-1], signal.SIGKILL)
        await s.all_ended(behind)
        assert s.statuses(behind) == {'failed': 50} and not set(behind) & set(s.began())
    for n, j in s.jobs.items():   # they have the words of the death, but not its exit code: it was not theirs
        if j.status == 'failed' and n not in s.began(): assert j.exit_code is None, j
    await s.judge()

@pytest.mark.parametrize('how', ['cancelled', 'killed'])
def test_nobody_comes_after_a_death(how): run_seeded(case_never, how)

# ---- The app stands still

async def case_still(ctx, seed, workers, then):
    "The first that the app does after that rests on what it knew before."
    rng, ctx.stall_limit, urgent, over = random.Random(seed), 5, {}, 0
    s = Shorts(ctx, workers)
    for turn in range(10):
        await s.all_ended(await s.many(20))
        await s.many(25, code='time.sleep(.008)')
        await asyncio.sleep(rng.uniform(0, .05))
        pid = s.m.get_stats()['workers'][0]['pid']
        if then == 'killed':
            killer = subprocess.Popen(['sh', '-c', f'sleep .0{rng.randrange(5)}; kill -9 {pid}'])
            s.killed.append(pid)
        with stood_still(.1 if then == 'killed' else rng.uniform(.005, .03)):
            if then == 'killed': await ctx.until(lambda killer=killer: killer.poll() is not None, 'the kill')
            elif then == 'cancelled':
                for n in rng.sample(s.waiting, min(5, len(s.waiting))): await s.cancel(n)
            elif then == 'outranked':
                n = await s.start(priority=5 + turn)
                urgent[n] = time.monotonic_ns()
            elif then == 'closed' and turn > 3:
                await s.m.aclose()
                over = time.monotonic_ns()
                break
        await s.all_ended()
    await s.judge()
    s.urgent_came_first(urgent)
    began = s.began()
    if over: assert not s.notes(since=over)
    assert not [n for n, j in s.jobs.items() if j.status == 'cancelled' and j.started_at is None and n in began]
    assert s.statuses()['completed'] > 150

@both
@pytest.mark.parametrize('then', ['killed', 'cancelled', 'outranked', 'closed'])
def test_after_the_app_stood_still(then, workers): run_seeded(case_still, workers, then)

# ---- Time

async def case_timeouts(ctx, seed, workers):
    "Waiting does not count. Who takes too long, goes with its worker; those behind it have all their time."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    await s.all_ended(await s.many(50))
    held = [await s.hold(f'{i}') for i in range(workers)]
    behind = await s.many(30, timeout=.5)
    await asyncio.sleep(.8)   # longer than that
    for i in range(workers): s.open(f'{i}')
    await s.all_ended([*held, *behind])
    assert s.statuses() == {'completed': len(s.jobs)}
    slow = []
    for _ in range(5):
        await s.many(20, rng, timeout=10)
        slow.append(await s.start(code='time.sleep(60)', timeout=.05))
        await s.many(20, rng, timeout=10)
    await s.judge()
    late = {n: j.fault for n, j in s.jobs.items() if j.status != 'completed'}
    assert late == dict.fromkeys(slow, 'timed_out'), late

async def case_job_timeout(ctx, seed, workers):
    "The same, by the limit that holds for all. A thousand in a row take longer than one may."
    s = Shorts(ctx, workers, job_timeout_seconds=1)
    await s.many(1000, code='time.sleep(.002)')
    await s.judge()
    notes = s.notes()
    assert s.statuses() == {'completed': 1000} and notes[-1].at - notes[0].at > 1e9 / workers

@both
@pytest.mark.parametrize('case', [case_timeouts, case_job_timeout])
def test_waiting_is_no_run_time(case, workers): run_seeded(case, workers)

# ---- Commands

async def case_reload(ctx, seed, workers):
    "Behind the running job, and before those that wait."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    await s.all_ended(await s.many(100))
    for turn in range(1, 6):
        held = [await s.hold(f'{turn}.{i}') for i in range(workers)]
        behind = await s.many(50, rng)
        command = asyncio.create_task(s.m.reload_plugin('mark', {**s.config, 'version': turn}))
        await asyncio.sleep(.02)
        assert not command.done()
        for i in range(workers): s.open(f'{turn}.{i}')
        assert await command is True
        later = await s.many(50, rng)
        await s.all_ended([*held, *behind, *later])
        began = s.began()
        assert {began[n].version for n in held} == {str(turn - 1)}
        assert {began[n].version for n in behind + later} == {str(turn)}
    await s.judge()

async def case_reload_in_the_flow(ctx, seed, workers):
    rng, s = random.Random(seed), Shorts(ctx, workers)
    answered = {}
    await s.all_ended(await s.many(20, rng))
    asked = {0: 0}
    for turn in range(1, 6):
        await s.many(JOBS // 10, rng)
        await asyncio.sleep(rng.uniform(0, .02))
        asked[turn] = time.monotonic_ns()
        assert await s.m.reload_plugin('mark', {**s.config, 'version': turn}) is True
        answered[turn] = time.monotonic_ns()
        await s.many(JOBS // 10, rng)
        assert (await s.m.get_worker_state())['current_config'] is not None
    await s.judge()
    assert s.statuses() == {'completed': len(s.jobs)}
    for x in s.notes('begins'):
        v = int(x.version)
        assert x.at > asked[v] and (v == 5 or x.at < answered[v + 1]), f'{x}: asked {asked}, answered {answered}'

async def case_unload(ctx, seed, workers):
    "It is loaded again, once, by the first of those that wait."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    await s.all_ended(await s.many(100))
    for turn in range(4):
        held = [await s.hold(f'{turn}.{i}') for i in range(workers)]
        behind = await s.many(60, rng)
        since = time.monotonic_ns()
        command = asyncio.create_task(s.m.unload_plugin('mark'))
        await asyncio.sleep(.02)
        for i in range(workers): s.open(f'{turn}.{i}')
        assert await command is True
        await s.all_ended([*held, *behind])
        for pid in {s.jobs[n].worker_pid for n in held}:
            did = [x.what for x in s.notes(since=since) if x.pid == pid]
            first = did[:did.index('begins')] if 'begins' in did else did
            assert first in (['ends', 'unloads', 'loads'], ['ends', 'unloads']) and did.count('unloads') == 1, did
    await s.judge()
    assert s.statuses() == {'completed': len(s.jobs)}

@both
@pytest.mark.parametrize('case', [case_reload, case_reload_in_the_flow, case_unload])
def test_commands_among_them(case, workers): run_seeded(case, workers)

# ---- The end

async def case_shutdown(ctx, seed, workers, how):
    "What has not begun is cancelled, and never begins."
    rng, cancelled = random.Random(seed), 0
    for turn in range(4):
        s = Shorts(ctx, workers, cancel_grace_seconds=rng.choice((0, 2)))
        await s.all_ended(await s.many(50))
        held = [await s.hold(f'{turn}.{i}') for i in range(workers if turn % 2 else 0)]
        await s.many(200, rng)
        await asyncio.sleep(rng.uniform(0, .03))
        if how == 'aclose': await s.m.aclose()
        else:
            (closing := threading.Thread(target=s.m.shutdown)).start()
            await ctx.until(lambda closing=closing: not closing.is_alive(), 'the shutdown to return')
        over, began = time.monotonic_ns(), s.began()
        ends = Counter((j.status, j.fault) for j in s.jobs.values())
        assert set(ends) <= {('completed', None), ('failed', 'interrupted'), ('cancelled', None)}, ends
        assert ends['failed', 'interrupted'] <= workers
        ran = [n for n, j in s.jobs.items() if j.status == 'cancelled' and n in began]
        assert not ran, f'{ran} were cancelled, and had begun'
        assert all(s.jobs[n].status == 'failed' for n in held) and (not held or ends['cancelled', None] == 200)
        cancelled += ends['cancelled', None]
        await s.judge()
        assert not s.notes(since=over)
    assert cancelled > 200

@both
@pytest.mark.parametrize('how', ['aclose', 'shutdown'])
def test_shutdown_with_jobs_that_wait(how, workers): run_seeded(case_shutdown, workers, how)

# ---- Replacement

async def case_recycle(ctx, seed, workers, most):
    "Exactly so many each."
    rng, s = random.Random(seed), Shorts(ctx, workers, max_jobs_per_worker=most)
    total = 12 * most
    await s.many(total // 2, rng)   # with others waiting
    await s.all_ended()
    for _ in range(total // 2): await s.all_ended([await s.start()])   # with nobody waiting
    await s.judge()
    assert s.statuses() == {'completed': total}
    count = Counter(x.pid for x in s.notes('begins'))
    assert max(count.values()) == most, count
    assert sum(n < most for n in count.values()) <= workers, count   # those that are not yet worn

@both
@pytest.mark.parametrize('most', [1, 7])
def test_workers_that_do_so_many_and_no_more(workers, most): run_seeded(case_recycle, workers, most)

# ---- Other kinds in between

async def case_plugins(ctx, seed, workers):
    "Plugins that are not loaded yet, load slowly, or cannot be loaded."
    inits = {'slow': 'time.sleep(.1)', 'other': '', 'broken': 'raise LookupError("no model")'}
    rng, s = random.Random(seed), Shorts(ctx, workers, inits)
    await s.all_ended(await s.many(50))
    for _ in range(JOBS // 4):
        kind = rng.choices(['mark', 'other', 'slow', 'broken'], [8, 4, 1, 1])[0]
        await s.start(kind, code=rng.choice(KINDS))
        if rng.random() < .01: await s.all_ended()
    await s.judge()
    for n, j in s.jobs.items():
        wanted = ('failed', 'start_failed') if j.plugin_id == 'broken' else ('completed', None)
        assert (j.status, j.fault) == wanted, f'{n}: {j} {j.error}'
    assert s.m.restart_count == 0

async def case_streams(ctx, seed, workers):
    "Each chunk where it belongs, whatever comes before and after."
    rng, s = random.Random(seed), Shorts(ctx, workers, cancel_grace_seconds=20)
    await s.all_ended(await s.many(50))
    chunks, endless = {}, []
    for i in range(JOBS // 4):
        kind = rng.choices(['mark', 'flow', 'endless', 'large'], [8, 4, 1 if i % 20 == 0 else 0, 1])[0]
        k = rng.randrange(30)
        if kind == 'flow': chunks[await s.start('flow', chunks=k)] = k
        elif kind == 'endless': endless.append(await s.start('flow', chunks=10**6, pause=.005))
        elif kind == 'large': await s.start(code='len(data)', data=bytes(rng.randrange(400_000)))
        else: await s.start(code=rng.choice(KINDS))
    for n in endless:
        async with asyncio.timeout(60): await anext(aiter(s.m.stream_job(s.jobs[n].id)))   # its plugin is loaded
        assert await s.cancel(n)
    await s.all_ended()
    for n, k in chunks.items():
        got = [c.chunk async for c in s.m.stream_job(s.jobs[n].id)]
        assert ''.join(got) == ''.join(f'{n}.{i} ' for i in range(k)) and s.jobs[n].status == 'completed'
    await s.judge()
    assert s.m.restart_count == 0, 'a stream that was asked to stop took its worker with it'

@both
@pytest.mark.parametrize('case', [case_plugins, case_streams])
def test_other_kinds_in_between(case, workers): run_seeded(case, workers)

async def case_trap(ctx, seed):
    "Parameters are rebuilt when it is their job's turn: what they do is its doing, and not that of the one that runs."
    s = Shorts(ctx)
    traps = {'os._exit(5)': ('worker_crashed', 5), 'raise ValueError(5)': ('bad_payload', None),
             'raise SystemExit(5)': ('bad_payload', None), 'time.sleep(60)': ('timed_out', None)}
    for turn, (code, (fault, exit_code)) in enumerate(traps.items()):
        await s.all_ended(await s.many(20))
        held, rebuilt = await s.hold(f'{turn}'), ctx.folder/f'rebuilt-{turn}'
        before = await s.many(3)
        trap = await s.start(data=Trap(load=f'if in_worker: open({str(rebuilt)!r}, "w").close(); {code}'),
                             timeout=.3 if fault == 'timed_out' else None)
        after = await s.many(10)
        await asyncio.sleep(.05)
        assert not rebuilt.exists(), 'it was not its turn'
        s.open(f'{turn}')
        await s.all_ended([held, *before, trap, *after])
        assert s.statuses([held, *before, *after]) == {'completed': 14}
        assert (s.jobs[trap].fault, s.jobs[trap].exit_code) == (fault, exit_code) and rebuilt.exists(), s.jobs[trap]
    await s.judge()

def test_parameters_with_a_trap(): run_seeded(case_trap)

async def case_output(ctx, seed, workers):
    "What a job prints is in its own log, and in no other."
    rng, s = random.Random(seed), Shorts(ctx, workers)
    logging.getLogger('cjm_fasthtml_workers').setLevel(logging.WARNING)
    for _ in range(JOBS // 2):
        line = f'line of {(k := rng.randrange(10**9))} '
        n = await s.start(code=f'for i in range(lines): print({line!r} + str(i))', lines=rng.randrange(4))
        s.jobs[n].wanted = line
        if k % 100 == 0: await s.all_ended()
    await s.judge()
    for n, job in s.jobs.items():
        lines = s.m.get_job_logs(job.id).lines
        assert lines == [f'{job.wanted}{i}' for i in range(len(lines))], f'{n}: {lines}'
    assert s.statuses() == {'completed': len(s.jobs)}

@both
def test_what_each_prints(workers): run_seeded(case_output, workers)

async def case_large(ctx, seed):
    "Megabytes that wait do not stand in the way of a cancel, of other jobs, or of the event loop."
    s = Shorts(ctx)
    await s.all_ended(await s.many(50))
    pid, held = s.m.worker_process.pid, await s.hold()
    behind = [await s.start(code='len(data)', data=bytes(2**20)) for _ in range(20)]
    for n in behind[::2]: assert await s.cancel(n)
    urgent = await s.start(priority=1)
    s.open()
    await s.judge()
    assert s.m.worker_process.pid == pid
    line = [x.n for x in s.notes('begins') if x.n >= held]
    assert line == [held, urgent, *behind[1::2]]

def test_large_ones_that_wait(): run_seeded(case_large)

async def case_everything(ctx, seed, workers, config):
    rng, s = random.Random(seed), Shorts(ctx, workers, **config)
    async def disturb(seconds, what):
        while not is_over:
            await what()
            await asyncio.sleep(rng.uniform(0, seconds))
    async def cancel():
        open_ones = [n for n, j in list(s.jobs.items())[-150:] if j.status in ('pending', 'running')]
        if open_ones: await s.cancel(rng.choice(open_ones))
    async def kill():
        if len(s.killed) < KILLS * len(s.jobs) / JOBS and s.waiting: s.kill(rng)
    async def command():
        if rng.random() < .5: await s.m.get_worker_state()
        else: await s.m.reload_plugin('mark', {**s.config, 'version': rng.randrange(9)})
    is_over = False
    tasks = [asyncio.create_task(disturb(*d)) for d in ((.02, cancel), (.05, kill), (.2, command))]
    while len(s.jobs) < JOBS:
        while len(s.waiting) > 100: await asyncio.sleep(.005)
        for _ in range(20):
            kind = rng.choices(['mark', 'flow', 'slow', 'raises', 'large'], [20, 2, 1, 1, 1])[0]
            params: dict[str, Any] = {'code': rng.choice(KINDS)}
            if kind == 'slow': params = {'code': 'time.sleep(60)', 'timeout': .02}
            if kind == 'raises': params = {'code': '1/0'}
            if kind == 'large': params = {'data': bytes(rng.randrange(200_000))}
            await s.start('flow' if kind == 'flow' else 'mark', priority=rng.randrange(3), **params)
    await s.all_ended()
    is_over = True
    await asyncio.gather(*tasks)
    await s.judge(in_order=False)   # cancels take workers away, so that order is not that of one
    ends = Counter((j.status, j.fault) for j in s.jobs.values())
    assert {f for _, f in ends} <= {None, 'timed_out', 'plugin_error', 'worker_crashed'}, ends
    return {'ends': Counter(f'{a} {b or ""}' for a, b in ends.elements()), 'kills': len(s.killed)}

@pytest.mark.parametrize(('workers', 'config'), [
    (1, {}), (2, {}), (1, {'standby_workers': 1, 'restart_policy': 'always'}),
    (2, {'max_jobs_per_worker': 20})], ids=['one', 'two', 'spare', 'replaced'])
def test_everything_at_once(workers, config): run_seeded(case_everything, workers, config)
