"""A stream as fast as it goes."""
from benchmarks.measure import rate
from benchmarks.rows.base import Entry, Goal, Row, entries

NO_STREAM = "a job of it gives one result, and no stream"


async def measure(entry: Entry, size: int) -> dict[str, float]:
    async with entry.make() as system:
        async def stream(n: int) -> None:
            got = 0
            async for chunk in system.stream('chunks', count=n): got += len(chunk)
            if got != 8 * n: raise RuntimeError(f"{got} bytes came, {8 * n} were sent")
        return {'rate': await rate(stream, size)}


ROW = Row(
    'chunks', "Chunks per second", 'chunks/s',
    "A generator in the worker yields 8 bytes at a time, each time others, and an `async for` in the app reads them.",
    (*entries('ours', 'pipe', 'queues'), Entry('ray', size=500, rounds=1)),
    measure, size=20_000, smallest=200, is_rate=True,
    missing=dict.fromkeys(('executor', 'pebble', 'loky'), NO_STREAM),
    goals=(Goal("the raw pipe", 'pipe', 1.0), Goal("aim: 5 times the raw pipe", 'pipe', 5.0)),
)
