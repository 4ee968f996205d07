"""This library, with nothing but its public face."""
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.systems.base import System
from benchmarks.work import PLUGINS
from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

ENDINGS = {f'jobs:{name}' for name in ('completed', 'failed', 'cancelled')}


class Ours(System):
    def __init__(self, workers=1, plugins=('echo', 'double', 'spin', 'busy', 'chunks', 'paced'), store='', **config):
        super().__init__(workers)
        if config.get('standby_workers'): self.rest_seconds = 1.3   # a used one is replaced a second later
        self.store = store
        self.plugins, self.config = {name: PLUGINS[name] for name in plugins}, config

    async def open(self):
        config = WorkerConfig(max_workers=self.workers, **self.config)
        self.manager = SimpleJobManager(self.plugins, worker_config=config, job_store=self.open_store())
        self.exits.push_async_callback(self.manager.aclose)
        await self.manager.start()

    def open_store(self):
        if not self.store: return None
        folder = Path(self.exits.enter_context(TemporaryDirectory()))
        return SQLiteJobStore(folder/'jobs.db', synchronous=self.store)

    async def call(self, plugin, **params):
        job = await self.manager.start_job(plugin, **params)
        job = await self.manager.wait_for_job(job.id)
        if job.status != 'completed': raise RuntimeError(job.error)
        return job.result

    async def call_many(self, plugin, many, outstanding):
        room, jobs, events = asyncio.Semaphore(outstanding), [], self.manager.events()
        ended = asyncio.create_task(self._release(events, room, many))
        for params in many:
            await room.acquire()
            jobs.append(await self.manager.start_job(plugin, **params))
        await ended
        return [job.result for job in jobs]

    async def _release(self, events, room, many):
        "Make room for a job whenever one has ended, until all have."
        left = len(many)
        async for event in events:
            if event.type not in ENDINGS: continue
            room.release()
            left -= 1
            if not left: return await events.aclose()

    async def stream(self, plugin, **params):
        job = await self.manager.start_job(plugin, **params)
        async for chunk in self.manager.stream_job(job.id): yield chunk.chunk

    async def start(self, plugin, **params): return await self.manager.start_job(plugin, **params)

    async def wait_cancelled(self, job):
        await self.manager.wait_for_job(job.id)
        if job.status != 'cancelled': raise RuntimeError(f"{job.status}: {job.error}")

    async def wait_lost(self, job):
        await self.manager.wait_for_job(job.id)
        if job.fault != 'worker_crashed': raise RuntimeError(f"{job.status}: {job.error}")

    async def start_busy(self):
        job = await self.manager.start_job('busy')
        while job.status == 'pending': await asyncio.sleep(0.001)   # noqa: ASYNC110
        return job

    async def cancel(self, job):
        if not await self.manager.cancel_job(job.id): raise RuntimeError(f"not cancelled: {job.error}")
