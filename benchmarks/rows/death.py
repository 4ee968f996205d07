"""How soon one hears that a worker has died."""
import os
import signal

from benchmarks.measure import Note, now, percentile
from benchmarks.rows.base import Entry, Goal, Row

WAYS = ('SIGKILL', 'os._exit', 'segfault')


async def seconds_to_failed(system, way: str) -> float:
    "From the death of a busy worker until a coroutine of the app knows."
    with Note() as note:
        job = await system.start('act', how=way, path=note.path)
        if way == 'SIGKILL':
            pid, *_ = await note.wait()
            died = now()
            os.kill(pid, signal.SIGKILL)
        await system.wait_lost(job)
        ended = now()
        if way != 'SIGKILL': _, died, _ = await note.wait()
    return ended - died


async def measure(entry: Entry, size: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    async with entry.make() as system:
        for _ in range(size):
            for way in WAYS:
                await system.call('echo', data='a worker that works')
                taken[way].append(await seconds_to_failed(system, way))
                await system.revive()
    return ({way: percentile(t, 50) * 1e3 for way, t in taken.items()} |
            {'p99 of all': percentile(sum(taken.values(), []), 99) * 1e3})


ROW = Row(
    'death', "Death to failed", 'ms',
    "A worker that is busy with a job is killed (SIGKILL), or the plugin ends its process (`os._exit`), or crashes it "
    "in C (a segmentation fault). From there until a coroutine that waits for the job knows: with us `wait_for_job` "
    "returns a job that is `failed`, with the pools the future raises what the pool has for it. Ours die 102 times in "
    "each process; the peers 21 times, so that their p99 is the longest. The raw pipe waits for nothing else, and sees "
    "the end of the file.",
    (Entry('ours', {'plugins': ('echo', 'act')}), Entry('pipe', size=7), Entry('executor', size=7),
     Entry('pebble', size=7), Entry('loky', size=7), Entry('ray', size=2, rounds=1)),
    measure, size=34, smallest=1, rounds=3, missing={'queues': "nobody notices that a worker has died"},
    goals=(*(Goal(f"{way}: median under 20 ms", limit=20.0, metric=way) for way in WAYS),
           Goal("p99: under 100 ms in each round", limit=100.0, metric='p99 of all', is_worst=True)),
)
