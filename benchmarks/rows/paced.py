"""A stream at the pace of a fast language model."""
import time

from benchmarks.measure import percentile
from benchmarks.rows.base import Entry, Goal, Row, entries
from benchmarks.rows.chunks import NO_STREAM


async def measure(entry: Entry, size: int) -> dict[str, float]:
    late = []
    async with entry.make() as system:
        async for chunk in system.stream('paced', count=size + 10, per_second=200):
            late.append(time.perf_counter_ns() - int(chunk))
    late = late[10:]   # after the first few
    return {'p50': percentile(late, 50) / 1e3, 'p99': percentile(late, 99) / 1e3}


ROW = Row(
    'paced', "Chunk latency, 200 per second", 'µs',
    "The worker yields 200 chunks a second, each with the time at which it was made; how old is it when the app's "
    "`async for` has it? Both processes are kept on one core.",
    entries('ours', 'pipe', 'queues'), measure, size=200, smallest=20, is_pinned=True,
    missing=dict.fromkeys(('executor', 'pebble', 'loky'), NO_STREAM),
    goals=(Goal("half of mp.Queue + thread", 'queues', 2.0), Goal("aim: 2 times the raw pipe", 'pipe', 0.5)),
)
