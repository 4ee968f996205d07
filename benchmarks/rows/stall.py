"""How long nobody else can use the event loop while a job is cancelled."""
import asyncio

from benchmarks.measure import tick
from benchmarks.rows.base import Entry, Goal, Row
from benchmarks.rows.cancel import NO_CANCEL, start_busy


async def measure(entry: Entry, size: int) -> dict[str, float]:
    late: list[float] = []
    async with entry.make() as system:
        await system.call('echo', data='warm')
        for _ in range(size):
            job = await start_busy(system)
            ticker = asyncio.create_task(tick(late))
            await asyncio.sleep(0.01)
            await system.cancel(job)
            await system.call('echo', data='next')
            await asyncio.sleep(0.01)
            ticker.cancel()
    return {'longest': max(late) * 1e3}


ROW = Row(
    'stall', "Longest stall of the event loop in a cancel", 'ms',
    "The same cancel, while a task of the app wants to run every millisecond: by how much it was late at worst, until "
    "the next result is there.",
    (Entry('ours', {'plugins': ('busy', 'echo')}),
     Entry('ours', {'plugins': ('busy', 'echo'), 'standby_workers': 1}, 'standby', 'ours, standby_workers=1'),
     Entry('nothing'), Entry('pebble'), Entry('ray', rounds=1)),
    measure, size=3, smallest=1, rounds=3, missing=NO_CANCEL,
    goals=(Goal("never more than 5 ms", limit=5.0, is_worst=True),
           Goal("aim: never more than 2 ms", limit=2.0, is_worst=True)),
)
