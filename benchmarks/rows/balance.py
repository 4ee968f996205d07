"""Two workers and short jobs: how much of the two processors is used for them."""
import os

from benchmarks.measure import now
from benchmarks.rows.base import Entry, Goal, Row


async def measure(entry: Entry, size: int) -> dict[str, float]:
    async with entry.make() as system:
        async def jobs(n: int) -> None:
            done = await system.call_many('spin', [{'seconds': 0.001}] * n, outstanding=n)
            if sum(d['count'] for d in done) != n: raise RuntimeError(f"{len(done)} of {n} jobs were done")
        await jobs(50)
        start = now()
        await jobs(size)
        cores = min(2, os.cpu_count() or 1)
        return {'of the ideal': 100 * size * 0.001 / cores / (now() - start)}


TWO = {'workers': 2}
ROW = Row(
    'balance', "Two workers, jobs of 1 ms", '%',
    "2,000 jobs, each of which uses 1 ms of processor time, on two workers. The ideal is one second on two cores. Two "
    "static halves means: each of two processes is told once to do 1,000 of them.",
    (Entry('ours', TWO), Entry('halves'), Entry('executor', TWO), Entry('pebble', TWO), Entry('loky', TWO),
     Entry('ray', TWO, rounds=1)),
    measure, size=2000, smallest=20, is_rate=True, rounds=3, reference='halves',
    missing={'queues': "with two workers it would be a pool, which the others are already"},
    goals=(Goal("0.9 of two static halves", 'halves', 0.9), Goal("aim: 0.97 of two static halves", 'halves', 0.97)),
)
