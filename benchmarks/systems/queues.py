"""Two `multiprocessing.Queue`s and a thread that hands what comes to the event loop: what one writes by hand."""
import asyncio
import itertools
import multiprocessing
import threading

from benchmarks import work
from benchmarks.systems.base import System


class Queues(System):
    async def open(self):
        ctx = multiprocessing.get_context('spawn')
        self.requests, self.replies = ctx.Queue(), ctx.Queue()
        self.loop, self.numbers, self.waiting = asyncio.get_running_loop(), itertools.count(), {}
        process = ctx.Process(target=work.serve_queues, args=(self.requests, self.replies), daemon=True)
        reader = threading.Thread(target=self._read, daemon=True)
        process.start()
        reader.start()
        for end in (process.join, reader.join): self.exits.callback(end)
        self.exits.callback(self.requests.put, None)

    def _read(self):
        while (reply := self.replies.get()) is not None: self.loop.call_soon_threadsafe(self._deliver, *reply)

    def _deliver(self, number, value): self.waiting[number](value)

    def _submit(self, deliver, plugin, params, is_stream=False):
        number = next(self.numbers)
        self.waiting[number] = deliver
        self.requests.put((number, plugin, params, is_stream))
        return number

    async def call(self, plugin, **params): return await self._future(plugin, params)

    def _future(self, plugin, params):
        future = self.loop.create_future()
        number = self._submit(future.set_result, plugin, params)
        future.add_done_callback(lambda _: self.waiting.pop(number))
        return future

    async def call_many(self, plugin, many, outstanding):
        room, futures = asyncio.Semaphore(outstanding), []
        for params in many:
            await room.acquire()
            futures.append(self._future(plugin, params))
            futures[-1].add_done_callback(lambda _: room.release())
        return [await f for f in futures]

    async def stream(self, plugin, **params):
        chunks = asyncio.Queue()
        number = self._submit(chunks.put_nowait, plugin, params, True)
        while (chunk := await chunks.get()) is not None: yield chunk
        self.waiting.pop(number)
