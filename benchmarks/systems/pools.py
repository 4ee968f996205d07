"""Pools that others have made, awaited through `asyncio.wrap_future`."""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from benchmarks import work
from benchmarks.systems.base import FuturePool


class Executor(FuturePool):
    "`concurrent.futures.ProcessPoolExecutor`"
    async def open(self):
        self.pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context('spawn'))
        self.exits.callback(self.pool.shutdown)

    async def revive(self):
        "After a death the whole pool is of no use any more."
        self.pool.shutdown()
        await self.open()

    def submit(self, plugin, params): return self.pool.submit(work.run, plugin, params)


class Loky(Executor):
    async def open(self):
        from loky import ProcessPoolExecutor
        self.pool = ProcessPoolExecutor(self.workers)
        self.exits.callback(self.pool.shutdown)


class Pebble(FuturePool):
    def __init__(self, workers=1, term_timeout=None):
        super().__init__(workers)
        self.term_timeout = term_timeout   # seconds from SIGTERM to SIGKILL

    async def open(self):
        from pebble import CONSTS, ProcessExpired, ProcessPool
        if self.term_timeout is not None: CONSTS.term_timeout = self.term_timeout
        self.lost = ProcessExpired, BrokenProcessPool
        self.pool = ProcessPool(self.workers, context=multiprocessing.get_context('spawn'))
        self.exits.callback(self.pool.join)
        self.exits.callback(self.pool.close)

    def submit(self, plugin, params): return self.pool.schedule(work.run, args=(plugin, params))

    async def revive(self):
        "It has done so itself, unless the worker died before the pool knew of its job: then it is broken."
        if self.pool.active: return
        self.pool.stop()
        self.pool.join()
        await self.open()

    async def cancel(self, job):
        if not job.cancel(): raise RuntimeError("not cancelled")
