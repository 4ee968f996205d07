"""Whether memory grows with what passes through."""
import asyncio
import os

import psutil

from benchmarks.measure import MIB, Note, now
from benchmarks.rows.base import Entry, Goal, Row

WARM_CHUNKS, WARM_JOBS = 100_000, 2000   # then all that is kept is full


def rss(pid: int) -> float: return psutil.Process(pid).memory_info().rss / MIB


async def read_slowly(system, seconds: float, warm: asyncio.Event) -> int:
    "Read a stream that is far faster; how many characters were sent."
    with Note() as note:
        async for _ in system.stream('flood', warm=WARM_CHUNKS, seconds=seconds, path=note.path):
            await asyncio.sleep(0.001)
            if note.is_warm(): warm.set()
            if note.read(): break
        return 100 * (await note.wait())[2]


async def wait_in_line(system, seconds: float, warm: asyncio.Event) -> int:
    "A thousand callers, each with one job of 10 kB after the other; how many bytes were sent."
    done, end = 0, 0.0
    async def caller() -> None:
        nonlocal done, end
        while not warm.is_set() or now() < end:
            if len((await system.call('echo', data=os.urandom(10_000)))['data']) != 10_000: raise RuntimeError("wrong")
            done += 1
            if done == WARM_JOBS: end = now() + seconds; warm.set()
    await asyncio.gather(*(caller() for _ in range(1000)))
    return 10_000 * done


async def measure(entry: Entry, size: int) -> dict[str, float]:
    warm, samples = asyncio.Event(), {False: [], True: []}
    work = wait_in_line if entry.key.endswith('jobs') else read_slowly
    async with entry.make() as system:
        pid = (await system.call('pid'))['pid']
        task = asyncio.create_task(work(system, size / 10, warm))
        while not task.done():
            samples[warm.is_set()].append((rss(os.getpid()), rss(pid)))
            await asyncio.sleep(0.02)
        sent = await task
    before, after = ([max(column) for column in zip(*samples[is_warm])] for is_warm in (False, True))
    grown = [max(0.0, b - a) for a, b in zip(before, after)]
    return {'app grew by': grown[0], 'worker grew by': grown[1], 'to an app of': after[0], 'to a worker of': after[1],
            'sent, MB': sent / 1e6}


OURS = {'plugins': ('pid', 'echo', 'flood')}   # result_queue_size=100 is how it comes
GOALS = [Goal(f"{title}: the {who} grows by 5 MiB at most", ours=key, limit=5.0, metric=f'{who} grew by', is_worst=True)
         for key, title in (('stream', "slow reader"), ('jobs', "backlog")) for who in ('app', 'worker')]
ROW = Row(
    'flat', "Memory with a slow reader, and with a backlog", 'MiB',
    "A worker streams 100 characters at a time as fast as it can, and a reader takes a thousand chunks a second. Then "
    "a thousand callers want one job of 10 kB after the other from one worker, so that 999 are always waiting. By how "
    "much do app and worker grow in two seconds, after 100,000 chunks or 2,000 jobs to get warm? With ours a slow "
    "reader is told how many chunks it has missed; of each job the newest million characters are kept in the app, and "
    "eight million in the worker for its result. Pools have no streams, and after its chunks the one of mp.Queue lasts "
    "half a second, since all that waits in it must be read at the end.",
    (Entry('ours', OURS, 'stream', 'slow reader: ours'),
     Entry('queues', {}, 'queues_stream', 'slow reader: mp.Queue', size=5),
     Entry('ours', OURS, 'jobs', 'backlog: ours'),
     *(Entry(name, {}, f'{name}_jobs', f'backlog: {title}') for name, title in
       (('queues', 'mp.Queue'), ('executor', 'Executor'), ('pebble', 'pebble')))),
    measure, size=20, smallest=5, rounds=2, is_compared=False, goals=tuple(GOALS),
    missing={'pipe': "its worker waits at a full pipe, and its caller for each job", 'ray': "its store is elsewhere",
             'loky': "it would be a second ProcessPoolExecutor"},
)
