"""What nothing can beat: not to be in another process at all, or to know in advance who does what."""
import asyncio

from benchmarks.systems.base import System
from benchmarks.systems.pipe import Pipe


class Memcpy(System):
    "The data, copied twice in this process."
    async def open(self): pass

    async def call(self, plugin, **params):
        copy = bytearray if isinstance(params['data'], bytes) else type(params['data']).copy
        return {'data': copy(copy(params['data']))}


class Halves(System):
    "Two workers, and each is told once to do half of the jobs."
    async def open(self):
        self.pipes = [await self.exits.enter_async_context(Pipe()) for _ in range(2)]

    async def call(self, plugin, **params): return [await p.call(plugin, **params) for p in self.pipes]

    async def call_many(self, plugin, many, outstanding):
        for p in self.pipes: p.send.send((plugin, {**many[0], 'count': len(many) // 2}, False))
        done = await asyncio.gather(*(asyncio.to_thread(p.recv.recv) for p in self.pipes))
        return [{'count': 1} for d in done for _ in range(d['count'])]


class Nothing(System):
    "Nobody is asked for anything: what is then measured is the machine."
    async def open(self): pass
    async def call(self, plugin, **params): await asyncio.sleep(0.05)
    async def start_busy(self): pass
    async def cancel(self, job): await asyncio.sleep(0.05)
