"""An app that works with a store as a manager would, to be killed at any moment.

    python -m tests.faults.store_life FOLDER MODE [STATEMENTS]

What it was told is written to `witness` outside the store, with fsync, before anything else is done: `accepted ID`,
`run ID ATTEMPT`, `ended ID STATUS NONCE`. MODE `load` works until it is killed, 16 jobs at a time; `script` does the
same few things each time, one after the other, and ends; `quiet` only what was left. With STATEMENTS it
kills itself when SQLite begins the next statement after so many.
"""
import itertools
import os
import signal
import sqlite3
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from cjm_fasthtml_workers.core.config import JobOptions
from cjm_fasthtml_workers.extensions.protocols import StoredJob
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from cjm_fasthtml_workers.managers.jobs import BaseJob, utc_now

IN_FLIGHT = 16

class Witness:
    "A file of lines that are on the disk when `say` returns."
    def __init__(self, path: Path): self.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def say(self, *words: Any) -> None:
        os.write(self.fd, (' '.join(map(str, words)) + '\n').encode())
        os.fsync(self.fd)

def die_after(n: int) -> None:
    "SIGKILL to this process when the statement after the n-th begins, on whatever connection."
    count, lock = itertools.count(1), threading.Lock()
    def traced(_: str) -> None:
        with lock:
            if next(count) > n: os.kill(os.getpid(), signal.SIGKILL)
    class Counting(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.set_trace_callback(traced)
    sqlite3.connect = partial(sqlite3.connect, factory=Counting)   # type: ignore[assignment]

def nonce_of(job_id: str) -> str: return f'nonce-{job_id}'

class Life:
    def __init__(self, folder: Path):
        self.witness = Witness(folder/'witness')
        self.store = SQLiteJobStore(folder/'store'/'jobs.db', make_directory=True, max_finished=None)
        self.free, self.numbers = threading.Semaphore(IN_FLIGHT), itertools.count()

    def begin(self) -> None:
        found = self.store.attach('load')
        for stored in found.interrupted: self.witness.say('interrupted', stored.job.id)
        self.witness.say('ready', os.getpid(), len(found.waiting), len(found.interrupted))
        for stored in found.waiting:
            assert stored.params == {'nonce': nonce_of(stored.job.id)}, stored
            self.free.acquire()
            self.run(stored.job)

    def accept(self) -> None:
        n = next(self.numbers)
        job = BaseJob(f'{os.getpid()}-{os.urandom(4).hex()}-{n}', 'echo')
        options = JobOptions(max_retries=1 if n % 2 else 0)
        stored = StoredJob('load', job, 'echo', {'nonce': nonce_of(job.id)}, options)
        self.free.acquire()
        self.store.accept(stored, partial(self.accepted, job))
        if n % 3 == 0: self.run(job)   # an idle worker has been reserved

    def accepted(self, job: BaseJob, error: Any) -> None:
        assert error is None, error
        self.witness.say('accepted', job.id)
        if job.status == 'pending': self.run(job)

    def run(self, job: BaseJob) -> None:
        job.status, job.started_at = 'running', utc_now()
        self.store.note_attempt(job, partial(self.runs, job))

    def runs(self, job: BaseJob, error: Any) -> None:
        assert error is None, error
        self.witness.say('run', job.id, job.attempt)
        self.store.note_chunk(job.id, 0, nonce_of(job.id)[:3])
        self.store.note_lines(job.id, 0, [f'line {n} of {job.id}' for n in range(3)])
        self.store.note_progress(job.id, .5, 'half')
        self.store.note_chunk(job.id, 1, nonce_of(job.id)[3:])
        end = {'status': 'completed', 'result': {'nonce': nonce_of(job.id)}, 'completed_at': utc_now(), 'progress': 1.0}
        self.store.note_end(job, end, partial(self.ended, job))

    def ended(self, job: BaseJob, changes: dict[str, Any]) -> None:
        self.witness.say('ended', job.id, changes['status'], changes['result']['nonce'])
        self.free.release()

    def all_ended(self) -> None:
        for _ in range(IN_FLIGHT): assert self.free.acquire(timeout=30)
        for _ in range(IN_FLIGHT): self.free.release()

def main(folder: str, mode: str, statements: str = '') -> None:
    if statements: die_after(int(statements))
    life = Life(Path(folder))
    life.begin()
    if mode == 'load':
        while True: life.accept()
    for _ in range(4 if mode == 'script' else 0):
        life.accept()
        life.all_ended()
    for _ in range(IN_FLIGHT): life.free.acquire()   # those that wait are all taken over and done
    waits = BaseJob(f'{os.getpid()}-waits', 'echo')   # and this one is left for the next
    done = threading.Event()
    life.store.accept(StoredJob('load', waits, 'echo', {'nonce': nonce_of(waits.id)}), lambda error: done.set())
    assert done.wait(30)
    life.witness.say('accepted', waits.id)
    life.store.close()
    life.witness.say('over')

if __name__ == '__main__': main(*sys.argv[1:])
