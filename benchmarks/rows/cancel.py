"""Cancel a job that does not listen, and have the next one done."""
import asyncio
from functools import partial

from benchmarks.measure import now, percentile, rest
from benchmarks.rows.base import Entry, Goal, Row

NO_CANCEL = dict.fromkeys(('executor', 'loky', 'queues'), "a job that runs cannot be cancelled")


async def start_busy(system):
    "A job that works, in a system where nothing else moves."
    await rest(system.rest_seconds)
    job = await system.start_busy()
    await asyncio.sleep(0.1)   # not all can say that it really runs
    return job


async def measure(entry: Entry, size: int, plugin: str) -> dict[str, float]:
    taken = []
    async with entry.make() as system:
        await system.call(plugin, data='warm')
        for _ in range(size):
            job = await start_busy(system)
            start = now()
            await system.cancel(job)
            await system.call(plugin, data='next')
            taken.append(now() - start)
    return {'p50': percentile(taken, 50) * 1e3, 'longest': max(taken) * 1e3}


def ours(plugin: str, module: str) -> tuple[Entry, ...]:
    bare = {'plugins': ('busy', plugin)}
    ready = bare | {'preload_modules': [module]}
    return (Entry('ours', bare),
            Entry('ours', {'standby_workers': 1} | ready, 'standby', 'ours, standby_workers=1'),
            Entry('ours', {'start_method': 'forkserver'} | ready, 'forkserver', 'ours, forkserver'))


def row(name: str, title: str, plugin: str, module: str, text: str) -> Row:
    bare = (Entry('pipe', {}, 'spawn', 'bare spawn'),
            Entry('pipe', {'start_method': 'forkserver', 'preload': [module]}, 'bare_forkserver', 'bare forkserver'))
    goals = (Goal("no standby: a bare spawn", 'spawn', 1.0), Goal("standby: 1/20 of pebble", 'pebble', 20.0, 'standby'),
             Goal("aim, standby: 1/100 of pebble", 'pebble', 100.0, 'standby'))
    return Row(name, title, 'ms', text, (*ours(plugin, module), *bare, Entry('pebble'), Entry('ray', rounds=1)),
               partial(measure, plugin=plugin), size=3, smallest=1, rounds=3, missing=NO_CANCEL, goals=goals)


LIGHT = row('cancel', "Cancel a busy worker, to the next result", 'echo', 'benchmarks.work',
            "A job runs in an endless loop. From the call that cancels it until the next job's result is there: the "
            "old process has to go, and a new one has to come.")
HEAVY = row('cancel_heavy', "The same, with numpy and pandas imported", 'heavy', 'benchmarks.heavy',
            "As above, but the plugin imports numpy and pandas, as one with a model would. With a standby or a fork "
            "server they are in `preload_modules`.")
