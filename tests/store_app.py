"""An app with a manager and a store, to be killed at any moment: python -m tests.store_app FOLDER SECONDS

`witness` gets what was told, `ran` what the plugin did, both with fsync.
"""
import asyncio
import os
import sys
import time
from pathlib import Path

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from tests.faults.store_life import Witness


class Worky:
    def __init__(self, config): self.ran = Witness(Path(config['folder'])/'ran')

    def execute(self, nonce, seconds=0.0):
        self.ran.say('ran', nonce)
        print('ran', nonce, flush=True)
        time.sleep(seconds)
        return {'nonce': nonce}

    def execute_stream(self, nonce, seconds=0.0):
        self.ran.say('ran', nonce)
        print('ran', nonce, flush=True)
        for piece in (nonce[:4], nonce[4:]):
            time.sleep(seconds)
            yield piece

class Echo:
    def __init__(self, config): pass
    def execute(self, text, times=1): return {'text': text*times}

def manager_of(folder: Path, **kwargs) -> SimpleJobManager:
    store = SQLiteJobStore(folder/'store'/'jobs.db', make_directory=True, max_finished=None)
    return SimpleJobManager({'worky': 'tests.store_app:Worky'}, configs={'worky': {'folder': str(folder)}},
                            job_store=store, worker_config=WorkerConfig(max_workers=2), **kwargs)

async def one(manager, witness, free):
    async with free:
        nonce = os.urandom(8).hex()
        options = JobOptions(max_retries=1 if nonce[0] in '0123' else 0)
        job = await manager.start_job('worky', nonce=nonce, job_options=options)
        witness.say('accepted', job.id, nonce, options.max_retries)
        job = await manager.wait_for_job(job.id)
        witness.say('ended', job.id, job.status, nonce)

async def main(folder: Path, seconds: float) -> None:
    witness, manager, free = Witness(folder/'witness'), manager_of(folder), asyncio.Semaphore(8)
    async with manager.lifespan():
        left = [j for j in manager.get_all_jobs() if j.status == 'pending']
        witness.say('ready', len(left))
        deadline = time.monotonic() + seconds
        tasks: set[asyncio.Task] = set()
        while time.monotonic() < deadline:
            if len(tasks) < 12: tasks.add(asyncio.create_task(one(manager, witness, free)))
            await asyncio.sleep(.002)
            for t in [t for t in tasks if t.done()]:
                t.result()
                tasks.discard(t)
        for t in tasks: await t
        for j in left: await manager.wait_for_job(j.id)
    witness.say('over')

if __name__ == '__main__': asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
