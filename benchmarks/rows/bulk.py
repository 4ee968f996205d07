"""Much data, there and back."""
import importlib.util
from functools import partial

from benchmarks.measure import percentile, seconds_each
from benchmarks.rows.base import Entry, Goal, Row, entries

MB = 10**6


async def speed(system, data, size: int) -> float:
    "Megabytes per second, there and back."
    async def job():
        job.result = (await system.call('echo', data=data))['data']
    taken = await seconds_each(job, size, warm_up=1)
    if bytes(job.result) != bytes(data): raise RuntimeError("wrong result")
    return memoryview(data).nbytes / MB / percentile(taken, 50)


async def measure(entry: Entry, size: int, megabytes: int) -> dict[str, float]:
    data = bytes(range(250)) * (megabytes * MB // 250)
    async with entry.make() as system:
        numbers = {'bytes': await speed(system, data, size)}
        if not importlib.util.find_spec('numpy'): return numbers
        array = importlib.import_module('numpy').frombuffer(data, 'u1').copy()
        return numbers | {'numpy array': await speed(system, array, size)}


def row(megabytes: int, size: int, rounds: int, *pools: str, **missing: str) -> Row:
    return Row(
        f'bulk{megabytes}', f"{megabytes} MB there and back", 'MB/s',
        "A `bytes` in a dict of parameters comes back as the result, then the same with a numpy array. The speed is "
        "the size divided by the time for both ways.",
        (Entry('ours', {'max_finished_jobs': 1}), *entries('memcpy', 'pipe', 'queues', *pools),
         Entry('ray', rounds=1)),
        partial(measure, megabytes=megabytes), size, smallest=1, is_rate=True, rounds=rounds, missing=missing,
        goals=tuple(Goal(f"{text} times the pipe with pickle, {m}", 'pipe', n, metric=m)
                    for m in ('bytes', 'numpy array') for text, n in (('2', 2), ('aim: 5', 5))))


SAME = "its pipes are those of ProcessPoolExecutor"
SMALL = row(16, 5, 3, 'executor', 'pebble', 'loky')
LARGE = row(128, 3, 2, 'executor', pebble=SAME, loky=SAME)
