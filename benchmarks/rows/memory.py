"""What each process costs."""
import importlib.util
from dataclasses import replace

import psutil

from benchmarks.measure import own_and_shared, rest
from benchmarks.rows.base import Entry, Row


def server(worker: int) -> int: return psutil.Process(worker).ppid()


def others(worker: int) -> dict[bool, int]:
    "The other processes of a manager: the guard, which is a shell, and the standby, which is not."
    found = [p for p in psutil.Process().children(recursive=True) if p.pid != worker]
    return {p.name() == 'sh': p.pid for p in found}


def guard(worker: int) -> int: return others(worker)[True]
def standby(worker: int) -> int: return others(worker)[False]


WHO = {'server': server, 'guard': guard, 'standby': standby}   # from the worker's pid


def make(entry: Entry, modules: list[str]):
    if not entry.is_ours: return entry.make()
    return replace(entry, options=entry.options | {'preload_modules': modules}).make()


async def measure(entry: Entry, size: int) -> dict[str, float]:
    numbers = {}
    for name, modules in (('light', []), ('numpy', ['numpy'])):
        if modules and not importlib.util.find_spec('numpy'): break
        async with make(entry, modules) as system:
            pid = (await system.call('imports', modules=modules))['pid']
            await rest(system.rest_seconds)
            own, shared = own_and_shared(WHO[entry.key](pid) if entry.key in WHO else pid)
        numbers |= {f'{name}: own': own, f'{name}: with its share': shared}
    return numbers


SPAWN, FORK = {'plugins': ('imports',)}, {'plugins': ('imports',), 'start_method': 'forkserver'}
ROW = Row(
    'memory', "What each process costs in memory", 'MiB',
    "Own memory is what nobody else uses, and what would be free if the process ended. Its share is the rest, divided "
    "by the number of processes that use it (PSS): this is what adds up. Each stands there once as it comes, and once "
    "with numpy imported, with ours by `preload_modules`. A forked worker shares with its fork server what it does not "
    "change. The guard is a shell that ends the workers if the app is killed; there is one for each manager. Memory "
    "hardly differs from round to round, so there is one round.",
    (Entry('ours', SPAWN, label='worker, spawned'), Entry('ours', FORK, 'forked', 'worker, forked'),
     Entry('ours', FORK, 'server', 'fork server'), Entry('ours', SPAWN | {'standby_workers': 1}, 'standby', 'standby'),
     Entry('ours', SPAWN, 'guard', 'guard'), Entry('pipe', label='bare spawn'),
     *(Entry(name, label=f'worker of {title}') for name, title in
       (('executor', 'ProcessPoolExecutor'), ('pebble', 'pebble'), ('loky', 'loky')))),
    measure, size=1, smallest=1, rounds=1, is_compared=False,
    missing={'queues': "its worker is a bare spawn", 'ray': "its processes are those of a cluster"},
)
