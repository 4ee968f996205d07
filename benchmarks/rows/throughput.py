"""Many small jobs."""
from benchmarks.measure import rate
from benchmarks.rows.base import Entry, Goal, Row, entries


async def measure(entry: Entry, size: int) -> dict[str, float]:
    async with entry.make() as system:
        async def jobs(n: int) -> None:
            results = await system.call_many('double', [{'n': i} for i in range(n)], outstanding=1000)
            if [r['n'] for r in results] != list(range(0, 2 * n, 2)): raise RuntimeError("wrong results")
        return {'rate': await rate(jobs, size)}


ROW = Row(
    'throughput', "Jobs per second", 'jobs/s',
    "Tiny jobs, 1,000 of them under way at any time; every result is checked. Each of ours has its record and its "
    "events, and a reader of `events()` counts the endings. Processes may use all cores.",
    (*entries('ours', 'pipe', 'queues', 'executor', 'pebble', 'loky'), Entry('ray', rounds=1)),
    measure, size=2000, smallest=50, is_rate=True,
    goals=(Goal("2 times pebble", 'pebble', 2.0),
           Goal("aim: 100,000 jobs per second where the raw pipe does 151,000", 'pipe', 0.66)),
)
