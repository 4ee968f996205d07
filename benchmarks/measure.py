"""Clocks, percentiles, and medians over rounds."""
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, median_high, median_low
from typing import Any

import psutil

now = time.perf_counter


def pin() -> None:
    "Keep this process, and every process that it starts, on one core."
    if not hasattr(os, 'sched_setaffinity'): raise NotImplementedError("no process can be kept on one core here")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})   # not the first one, which serves most interrupts


def percentile(values: Sequence[float], p: float) -> float:
    "The value that `p` percent of `values` do not exceed."
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


async def seconds_each(f: Callable[[], Awaitable], count: int, warm_up: int = 0) -> list[float]:
    "How long each of `count` calls took, after some that do not count."
    for _ in range(warm_up): await f()
    taken = []
    for _ in range(count):
        start = now()
        await f()
        taken.append(now() - start)
    return taken


async def rate(f: Callable[[int], Awaitable], size: int, seconds: float = 0.5) -> float:
    "How many per second `f(n)` gets done: `size` to get warm, then as many as take about so many seconds."
    start = now()
    await f(size)
    n = max(size, int(size / (now() - start) * seconds))
    start = now()
    await f(n)
    return n / (now() - start)


def activity() -> dict[int, float]:
    "Each process below this one, and the processor time that it has used."
    used = {}
    for p in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error): used[p.pid] = sum(p.cpu_times()[:2])
    return used


async def rest(seconds: float, limit_seconds: float = 20) -> None:
    "Wait until no process below this one has come, gone or done anything for so long."
    end, quiet_since, before = now() + limit_seconds, now(), activity()
    while now() - quiet_since < seconds:
        if now() > end: raise TimeoutError("the workers do not come to rest")
        await asyncio.sleep(0.05)
        if (after := activity()) != before: before, quiet_since = after, now()


class Note:
    "A file in which a plugin says in which process it is, and since when."
    def __enter__(self) -> 'Note':
        self.folder = tempfile.TemporaryDirectory()
        self.path = f'{self.folder.name}/note'
        return self

    def read(self) -> str:
        "Empty before it says anything."
        file = Path(self.path)
        return file.read_text() if file.exists() else ''

    def __exit__(self, *exc: Any) -> None: self.folder.cleanup()

    def is_warm(self) -> bool:
        "Whether it has said so."
        return os.path.exists(self.path + '.warm')

    async def wait(self, limit_seconds: float = 20) -> tuple[int, float, int]:
        "Its pid, the time at which it wrote that, and a number."
        end = now() + limit_seconds
        while not (text := self.read()):
            if now() > end: raise TimeoutError("the plugin does not run")
            await asyncio.sleep(0.001)
        pid, seconds, count = text.split()
        return int(pid), float(seconds), int(count)


async def end_of(pid: int, limit_seconds: float = 20) -> float:
    "The time at which a process dies, which need not be a child."
    if not hasattr(os, 'pidfd_open'): raise NotImplementedError("only Linux tells at once when a process ends")
    fd, loop, gone = os.pidfd_open(pid), asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, gone.set)
    try: await asyncio.wait_for(gone.wait(), limit_seconds)
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return now()


async def tick(ticks: list[float], seconds: float = 0.001) -> None:
    "Tick every so often until cancelled; note how late each tick was."
    while True:
        due = now() + seconds
        await asyncio.sleep(seconds)
        ticks.append(now() - due)


MIB = 2**20


def own_and_shared(pid: int) -> tuple[float, float]:
    "MiB that nobody else uses, and MiB with its share of what others use as well (PSS)."
    file = Path(f'/proc/{pid}/smaps_rollup')
    if not file.exists(): raise NotImplementedError("only Linux tells whose memory it is")
    lines = [line.split() for line in file.read_text().splitlines()[1:]]
    kib = {name.rstrip(':'): int(number) for name, number, *_ in lines}
    return (kib['Private_Clean'] + kib['Private_Dirty']) / 1024, kib['Pss'] / 1024


@contextlib.asynccontextmanager
async def ticking(late: list[float], seconds: float = 0.005) -> AsyncIterator[None]:
    "Tick while the block runs, and some ticks longer: who blocks the loop at its very end is late as well."
    ticker = asyncio.create_task(tick(late, seconds))
    await asyncio.sleep(4 * seconds)
    yield
    await asyncio.sleep(4 * seconds)
    ticker.cancel()


@dataclass(frozen=True)
class Spread:
    "The median of some rounds, the smallest and the largest."
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread': return cls(median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, values: Sequence[float]) -> 'Spread':
        "As `of`; but twice as good and half as good make 1, so that it is the same seen from the other side."
        return cls((median_low(values) * median_high(values)) ** 0.5, min(values), max(values))
