"""Ray, on this machine only."""
import os
import shutil
import tempfile

from benchmarks import work
from benchmarks.systems.base import System


class Ray(System):
    rest_seconds = 0.5

    async def open(self):
        os.environ['RAY_USAGE_STATS_ENABLED'] = '0'   # it tells nobody
        import ray
        folder = tempfile.mkdtemp()
        self.exits.callback(shutil.rmtree, folder, ignore_errors=True)
        ray.init(num_cpus=self.workers, include_dashboard=False, log_to_driver=False, logging_level='ERROR',
                 _temp_dir=folder)
        self.exits.callback(ray.shutdown)
        self.ray, self.run = ray, ray.remote(max_retries=0)(work.run)
        self.run_stream = ray.remote(max_retries=0, num_returns='streaming')(work.stream)

    async def call(self, plugin, **params): return await self.run.remote(plugin, params)

    async def call_many(self, plugin, many, outstanding):
        refs, results = [], []
        for params in many:
            if len(refs) - len(results) >= outstanding: results.append(await refs[len(results)])
            refs.append(self.run.remote(plugin, params))
        return results + [await ref for ref in refs[len(results):]]

    async def stream(self, plugin, **params):
        async for ref in self.run_stream.remote(plugin, params): yield await ref

    async def start(self, plugin, **params): return self.run.remote(plugin, params)

    async def wait_cancelled(self, job):
        try: await job
        except self.ray.exceptions.RayError: return
        raise RuntimeError("not cancelled")

    async def wait_lost(self, job):
        try: await job
        except self.ray.exceptions.WorkerCrashedError: return
        raise RuntimeError("nobody noticed")

    async def start_busy(self): return self.run.remote('busy', {})   # it cannot say whether it runs

    async def cancel(self, job):
        self.ray.cancel(job, force=True)
        await self.wait_cancelled(job)
