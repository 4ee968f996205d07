"""One small job, there and back."""
from benchmarks.measure import percentile, seconds_each
from benchmarks.rows.base import Entry, Goal, Row, entries


async def measure(entry: Entry, size: int) -> dict[str, float]:
    data = 'x' * 200
    async with entry.make() as system:
        async def job():
            if await system.call('echo', data=data) != {'data': data}: raise RuntimeError("wrong result")
        taken = await seconds_each(job, size, warm_up=size // 4)
    return {'p50': percentile(taken, 50) * 1e6, 'p99': percentile(taken, 99) * 1e6}


ROW = Row(
    'roundtrip', "Job round trip", 'µs',
    "One job at a time, 200 bytes each way, from `start_job` until `wait_for_job` has returned in the same coroutine. "
    "Both processes are kept on one core: across cores one would measure how the kernel wakes them up.",
    (*entries('ours', 'pipe', 'queues', 'executor', 'pebble', 'loky'), Entry('ray', rounds=1)),
    measure, size=2000, smallest=20, is_pinned=True,
    goals=(Goal("half the time of ProcessPoolExecutor", 'executor', 2.0),
           Goal("aim: 1.5 times the raw pipe", 'pipe', 1 / 1.5)),
)
