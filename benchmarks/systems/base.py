"""What the rows ask of a system."""
import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from typing import Any


class System:
    "A way to have `benchmarks.work` done in other processes, used as an asyncio app would use it."
    rest_seconds = 0.2   # when nothing has moved for so long, it has come to rest

    def __init__(self, workers: int = 1): self.workers, self.exits = workers, AsyncExitStack()

    async def open(self) -> None: raise NotImplementedError

    async def __aenter__(self) -> 'System':
        await self.open()
        return self

    async def __aexit__(self, *exc: Any) -> None: await self.exits.aclose()

    async def call(self, plugin: str, **params: Any) -> Any:
        "The result of one job."
        raise NotImplementedError

    async def call_many(self, plugin: str, many: Iterable[dict[str, Any]], outstanding: int) -> list[Any]:
        "The results of many jobs, of which so many are under way at any time."
        raise NotImplementedError

    def stream(self, plugin: str, **params: Any) -> AsyncIterator[str]:
        "The chunks of one job, as they are made."
        raise NotImplementedError

    async def start(self, plugin: str, **params: Any) -> Any:
        "A job, for the methods below."
        raise NotImplementedError

    async def wait_cancelled(self, job: Any) -> None:
        "Return as soon as the system says that this job is cancelled."
        raise NotImplementedError

    async def wait_lost(self, job: Any) -> None:
        "Return as soon as the system says that the worker of this job has died."
        raise NotImplementedError

    async def revive(self) -> None:
        "Be of use again after that."

    async def start_busy(self) -> Any:
        "A job that never ends, and runs when this returns."
        raise NotImplementedError

    async def cancel(self, job: Any) -> None:
        "End such a job; the next may have to wait for a new worker."
        raise NotImplementedError


class FuturePool(System):
    "A pool that gives out `concurrent.futures.Future`s."
    lost: Any = BrokenProcessPool   # exception or exceptions: what such a future raises when the worker has died

    def submit(self, plugin: str, params: dict[str, Any]) -> Future: raise NotImplementedError

    async def call(self, plugin, **params): return await asyncio.wrap_future(self.submit(plugin, params))

    async def call_many(self, plugin, many, outstanding):
        room, futures = asyncio.Semaphore(outstanding), []
        for params in many:
            await room.acquire()
            futures.append(asyncio.wrap_future(self.submit(plugin, params)))
            futures[-1].add_done_callback(lambda _: room.release())
        return await asyncio.gather(*futures)

    async def start(self, plugin, **params): return self.submit(plugin, params)

    async def wait_cancelled(self, job): await asyncio.wait([asyncio.wrap_future(job)])

    async def wait_lost(self, job):
        try: await asyncio.wrap_future(job)
        except self.lost: return
        raise RuntimeError("nobody noticed")

    async def start_busy(self):
        job = self.submit('busy', {})
        while not job.running(): await asyncio.sleep(0.001)   # noqa: ASYNC110
        return job
