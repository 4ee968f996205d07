"""How soon a cancelled job has ended, and how soon its process is gone."""
import asyncio
from collections.abc import Awaitable

from benchmarks.measure import Note, end_of, now, percentile
from benchmarks.rows.base import Entry, Goal, Row
from benchmarks.rows.cancel import NO_CANCEL

TERM_SECONDS = 0.2   # from SIGTERM to SIGKILL


async def time_of(thing: Awaitable) -> float:
    await thing
    return now()


async def cancelled(system, note: Note, job) -> tuple[int, float, float]:
    "Cancel a job that runs: in which process it was, when that was, and when the job had ended."
    pid, *_ = await note.wait()
    ended = asyncio.create_task(time_of(system.wait_cancelled(job)))
    await asyncio.sleep(0)
    start = now()
    await system.cancel(job)
    return pid, start, await ended


async def unwilling(system, how: str) -> tuple[float, float]:
    "For a job that does not listen: seconds until it has ended, and until its process is gone."
    with Note() as note:
        job = await system.start('act', how=how, path=note.path)
        gone = asyncio.create_task(end_of((await note.wait())[0]))
        _, start, ended = await cancelled(system, note, job)
        return ended - start, await gone - start


async def polite(system) -> float:
    "For a job that asks whether it should stop: seconds until it has ended. Its worker lives on."
    with Note() as note:
        pid, start, ended = await cancelled(system, note, await system.start('polite', path=note.path))
    if (await system.call('pid'))['pid'] != pid: raise RuntimeError("another worker")
    return ended - start


async def measure(entry: Entry, size: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {}
    def note(**numbers: float) -> None:
        for name, x in numbers.items(): taken.setdefault(name, []).append(x * 1e3)
    async with entry.make() as system:
        for _ in range(size):
            for how, sign in (('busy', ''), ('ignore SIGTERM', 'SIGTERM ignored: ')):
                await system.call('echo', data='warm')
                ended, gone = await unwilling(system, how)
                note(**{f'{sign}process gone': gone, f'{sign}job ended': ended})
            if entry.is_ours: note(**{'it asks: job ended': await polite(system)})
    return {name: percentile(values, 50) for name, values in taken.items()}


ROW = Row(
    'cancel_end', "Cancel, until the job has ended and its process is gone", 'ms',
    "A job runs in an endless loop. From the call that cancels it until the system says that the job is cancelled, and "
    "until its process is really gone; until then its memory is not free. Then the same with a plugin that ignores "
    "SIGTERM; whoever has a time to wait before SIGKILL was told to take 200 ms (`shutdown_timeout_seconds=0.2`); Ray "
    "begins with SIGKILL. And with one that calls `cancel_requested()` every millisecond: then the worker lives on, "
    "with the model in it. With us and with pebble a job is cancelled on paper before its process is gone. "
    "`cancel_job` returns when it is gone.",
    (Entry('ours', {'plugins': ('echo', 'pid', 'act', 'polite'), 'shutdown_timeout_seconds': TERM_SECONDS}),
     Entry('pebble', {'term_timeout': TERM_SECONDS}), Entry('ray', size=2, rounds=1)),
    measure, size=5, smallest=1, rounds=3, missing=NO_CANCEL | {'pipe': "to kill a bare process is in the rows before"},
    goals=(Goal("the job has ended in 50 ms, in each round", limit=50.0, metric='job ended', is_worst=True),
           Goal("the process is gone in 300 ms, in each round", limit=300.0, is_worst=True),
           Goal("SIGTERM ignored: gone in 200 + 300 ms, in each round", limit=500.0,
                metric='SIGTERM ignored: process gone', is_worst=True)),
)
