"""The systems by name. Only what is asked for is imported: a peer that is not installed is skipped."""
import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    "Where a system is, what the table calls it, and what one gets."
    module: str
    cls: str
    label: str
    text: str
    is_limit: bool = False   # no rival: it does less, and shows what is left to win


SYSTEMS = {
    'ours': About('ours', 'Ours', 'ours',
                  "`SimpleJobManager`: `await start_job(...)`, then `await wait_for_job(job.id)`, `stream_job` or "
                  "`events()`. Records, events, cancel, restart."),
    'pipe': About('pipe', 'Pipe', 'raw pipe + pickle',
                  "The limit: two `multiprocessing.Pipe`s, one worker, and a caller that blocks its event loop until "
                  "the answer is there. No record, no events, no cancel.", is_limit=True),
    'queues': About('queues', 'Queues', 'mp.Queue + thread',
                    "What one writes by hand: two `multiprocessing.Queue`s and a thread that hands to the event loop "
                    "what comes. Nobody notices that a worker has died."),
    'executor': About('pools', 'Executor', 'ProcessPoolExecutor',
                      "`concurrent.futures` with `spawn`, awaited. A job that runs cannot be cancelled, there are no "
                      "streams, and a worker that dies breaks the whole pool."),
    'pebble': About('pools', 'Pebble', 'pebble',
                    "A pool that can cancel a job that runs, and replaces workers. No streams."),
    'loky': About('pools', 'Loky', 'loky',
                  "A sturdier `ProcessPoolExecutor`. No cancel of a job that runs, no streams."),
    'ray': About('ray', 'Ray', 'Ray',
                 "A cluster of one machine: several processes of its own beside the workers. It takes seconds to "
                 "start, so it runs in one round only. A large array comes back as a view of shared memory, not as a "
                 "copy."),
    'memcpy': About('limits', 'Memcpy', 'two memcpys',
                    "A limit: the data is copied twice in the same process.", is_limit=True),
    'halves': About('limits', 'Halves', 'two static halves',
                    "A limit: two workers, each told once to do half of the jobs.", is_limit=True),
    'nothing': About('limits', 'Nothing', 'no cancel at all',
                     "A limit: the event loop does nothing for a tenth of a second. What stalls it is the machine.",
                     is_limit=True),
}


def load(name: str) -> type:
    "The class of a system; `ImportError` if its library is not there."
    about = SYSTEMS[name]
    return getattr(importlib.import_module(f'benchmarks.systems.{about.module}'), about.cls)


def label(name: str) -> str: return SYSTEMS[name].label
