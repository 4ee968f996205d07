"""What an app has to carry that has kept many jobs in its file."""
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.measure import MIB, now, percentile, seconds_each
from benchmarks.rows.base import Entry, Goal, Row
from benchmarks.work import PLUGINS

VIEWS = 300   # of each page, for memory; the last 50 of them are timed
FIRST, LATE, GROWN = 'list, first page, ms', 'list, a late page, ms', f'memory grew in {2 * VIEWS} pages, MiB'


def manager_of(path: Path):
    from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
    from cjm_fasthtml_workers.managers.simple import SimpleJobManager
    return SimpleJobManager({'echo': PLUGINS['echo']}, job_store=SQLiteJobStore(path, max_finished=None))


async def fill(path: Path, count: int) -> str:
    "A file in which so many jobs have ended, all like one that was really run; the id of the oldest."
    manager = manager_of(path)
    job = await manager.start_job('echo', data='x' * 200)
    await manager.wait_for_job(job.id)
    await manager.aclose()
    with closing(sqlite3.connect(path)) as con, con:
        names = [n for _, n, *_ in con.execute('PRAGMA table_info(jobs)') if n not in ('seq', 'id')]
        con.execute(f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM n WHERE n<?) INSERT INTO "
                    f"jobs(id, {','.join(names)}) SELECT lower(hex(randomblob(16))), {','.join(names)} FROM jobs, n",
                    (count - 1,))
    return job.id


async def measure(entry: Entry, size: int) -> dict[str, float]:
    import httpx
    from fasthtml.common import FastHTML

    from cjm_fasthtml_workers.extensions.dashboard import job_routes
    async with AsyncExitStack() as exits:
        path = Path(exits.enter_context(TemporaryDirectory()))/'jobs.db'
        oldest = await fill(path, entry.options.get('jobs', size))
        start = now()
        manager = manager_of(path)
        made = now() - start
        exits.push_async_callback(manager.aclose)
        await manager.start()
        ready, app = now() - start, FastHTML()
        job_routes(manager).to_app(app)
        transport = httpx.ASGITransport(app, client=('127.0.0.1', 1))
        client = await exits.enter_async_context(httpx.AsyncClient(transport=transport, base_url='http://localhost'))
        async def view(page: int) -> None:
            answer = await client.get('/jobs/', params={'page': page})
            if answer.status_code != 200 or 'echo' not in answer.text: raise RuntimeError(answer.text[:200])
        async def find() -> None:
            if manager.get_job(oldest).status != 'completed': raise RuntimeError("not found")
        for page in (1, 40): await seconds_each(lambda page=page: view(page), 20)
        before = psutil.Process().memory_info().rss
        first, late = [await seconds_each(lambda page=page: view(page), 50, warm_up=VIEWS - 50) for page in (1, 40)]
        found = await seconds_each(find, 200)
        grown = psutil.Process().memory_info().rss - before
    return {'start-up': ready * 1e3, 'of that the jobs': made * 1e3, FIRST: percentile(first, 50) * 1e3,
            LATE: percentile(late, 50) * 1e3, 'the oldest job': percentile(found, 50) * 1e3,
            GROWN: max(0.0, grown / MIB)}


GOALS = (Goal("start-up under a second", limit=1000.0),
         Goal("a page of the list under 50 ms", limit=50.0, metric=FIRST),
         Goal("a late page of the list under 50 ms", limit=50.0, metric=LATE),
         Goal("memory is flat: it grows by 2 MiB at most", limit=2.0, metric=GROWN, is_worst=True))
ROW = Row(
    'stored', "An app with many jobs in its file", 'ms',
    "An app starts with a file in which 100,000 jobs have ended, and another one with a file of 100. Start-up is from "
    "the constructor to a worker that is ready. Then its pages are asked for: the list shows what the manager has in "
    "memory, which are the newest 1,000 of the jobs that have ended (`max_finished_jobs`), 25 on a page; once a second "
    "it looks into the file for what else is among the newest 1,000 there. Any other job is read from the file when "
    "somebody asks for it by its id.",
    (Entry('ours', label='100,000 jobs'), Entry('ours', {'jobs': 100}, 'few', '100 jobs')),
    measure, size=100_000, smallest=1000, rounds=3, is_compared=False, goals=GOALS,
)
