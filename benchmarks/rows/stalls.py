"""Everything that an app does, and for how long nobody else can use its event loop meanwhile."""
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from benchmarks.measure import Note, ticking
from benchmarks.rows.base import Entry, Goal, Row

MB = 10**6


async def first_start(system, late: list[float]) -> None:
    async with ticking(late):
        await system.open()
        await system.call('echo', data='first')


async def crash(system, late: list[float]) -> None:
    await system.open()
    with Note() as note:
        job = await system.start('act', how='busy', path=note.path)
        pid, *_ = await note.wait()
    async with ticking(late):
        os.kill(pid, signal.SIGKILL)
        await system.wait_lost(job)
        await system.call('echo', data='next')


async def cancel(system, late: list[float]) -> None:
    await system.open()
    job = await system.start_busy()
    async with ticking(late):
        await system.cancel(job)
        await system.call('echo', data='next')


async def unload(system, late: list[float]) -> None:
    await system.open()
    await system.call('echo', data='first')
    async with ticking(late):
        if not await system.manager.unload_plugin('echo'): raise RuntimeError("not unloaded")
        await system.call('echo', data='next')


async def shutdown(system, late: list[float]) -> None:
    await system.open()
    await system.start_busy()
    async with ticking(late): await system.manager.aclose()


async def result(system, late: list[float], what: str) -> None:
    await system.open()
    async with ticking(late): await system.call('make', what=what)


async def result_bytes(system, late: list[float]) -> None: await result(system, late, 'bytes')
async def result_words(system, late: list[float]) -> None: await result(system, late, 'words')


async def stream(system, late: list[float]) -> None:
    await system.open()
    async with ticking(late):
        got = [c async for c in system.stream('paced', count=5000, per_second=10_000)]
    if len(got) != 5000: raise RuntimeError(f"{len(got)} of 5000 chunks came")


async def start_large(system, late: list[float]) -> None:
    await system.open()
    data = os.urandom(MB) * 50
    async with ticking(late):
        if (await system.call('length', data=data))['length'] != 50 * MB: raise RuntimeError("wrong result")


async def nothing(system, late: list[float]) -> None:
    async with ticking(late): await asyncio.sleep(0.3)


CASES: dict[str, Callable[..., Awaitable[None]]] = {
    'first start': first_start,
    'restart after a crash': crash,
    'cancel': cancel,
    'unload, load again': unload,
    'shutdown with a job': shutdown,
    'result of 1 MB, bytes': result_bytes,
    'result of 1 MB, dicts': result_words,
    '10,000 chunks a second': stream,
    'start_job with 50 MB': start_large,
}


async def measure(entry: Entry, size: int) -> dict[str, float]:
    late: list[float] = []
    case = CASES.get(entry.key, nothing)
    for _ in range(size):
        system = entry.make()
        try: await case(system, late)
        finally: await system.exits.aclose()
    return {'longest': max(late) * 1e3}


OURS = {'plugins': ('echo', 'act', 'busy', 'make', 'paced', 'length'), 'cancel_grace_seconds': 0.1}
ROW = Row(
    'stalls', "Longest stall of the event loop, case by case", 'ms',
    "A task of the app wants to run every 5 ms: by how much was it late at worst, while the manager does what it does? "
    "The last line shows the same task in a process that does nothing else: so much of it is the machine. The result "
    "of 1 MB is once a `bytes`, and once 27,000 small dicts, as in a transcript. The parameters of 50 MB are a "
    "`bytes`.",
    (*(Entry('ours', OURS, case, case) for case in CASES), Entry('nothing', label='nothing going on')),
    measure, size=5, smallest=1, rounds=3, is_compared=False,
    goals=tuple(Goal(f"{case}: never more than 25 ms", ours=case, limit=25.0, is_worst=True) for case in CASES),
)
