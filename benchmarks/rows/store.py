"""What it costs to keep jobs in a file."""
import asyncio

from benchmarks.measure import now, percentile, seconds_each
from benchmarks.rows.base import Entry, Row

AT_ONCE = 64


async def measure(entry: Entry, size: int) -> dict[str, float]:
    async with entry.make() as system:
        async def job(): await system.call('echo', data='x' * 200)
        async def some(n):
            for _ in range(n): await job()
        taken = await seconds_each(job, size, warm_up=size // 4)
        begin, each = now(), max(1, size // AT_ONCE)
        await asyncio.gather(*(some(each) for _ in range(AT_ONCE)))
        took = now() - begin
    return {'one at a time': percentile(taken, 50) * 1e6, f'{AT_ONCE} at once': took / (AT_ONCE * each) * 1e6}


ROW = Row(
    'store', "Jobs in a file", 'µs for a job',
    "The round trip of a small job, without a store and with `SQLiteJobStore`, one at a time and 64 at once. With a "
    "store a job goes through three commits, and whoever waits is told of nothing before it is committed; jobs that "
    "come at once share some of them. `NORMAL` survives the death of the app, `FULL` also the loss of power. The file "
    "is in the directory for temporary files, so the numbers of `FULL` are those of the disk under it.",
    (Entry('ours', label='without a store'), Entry('ours', {'store': 'NORMAL'}, 'normal', 'NORMAL'),
     Entry('ours', {'store': 'FULL'}, 'full', 'FULL')),
    measure, size=2000, smallest=64, is_compared=False,
)
