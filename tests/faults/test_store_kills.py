"""The app gets a SIGKILL while it stores jobs: at random moments, and after each statement.

FAULTS_STORE_KILLS=200 and FAULTS_STORE_STEP=1 make the campaigns longer, FAULTS_SEED=1234 repeats what was drawn.
"""
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from cjm_fasthtml_workers.extensions import store_file
from cjm_fasthtml_workers.extensions.protocols import StoredLines
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore
from tests.faults.harness import App
from tests.faults.store_life import nonce_of

KILLS = int(os.environ.get('FAULTS_STORE_KILLS', 12))
STEP = int(os.environ.get('FAULTS_STORE_STEP', 9))

def told(folder: Path) -> list[list[str]]:
    "What the witness has, but for a last line that is not whole."
    path = folder/'witness'
    return [line.split() for line in path.read_text().split('\n')[:-1]] if path.exists() else []

def said(folder: Path, word: str) -> list[list[str]]: return [words[1:] for words in told(folder) if words[0] == word]

def copied(folder: Path, dest: Path) -> sqlite3.Connection:
    "The file as the dead app left it; to look at a copy leaves the repair to the next app."
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(folder/'store', dest)
    return sqlite3.connect(dest/'jobs.db')

def check_file(folder: Path) -> None:
    "Everything that somebody was told is in the file."
    if not (folder/'store'/'jobs.db').exists():
        assert not said(folder, 'ready')
        return
    con = copied(folder, folder/'copy')
    try:
        assert con.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        rows = {i: (s, a, r) for i, s, a, r in con.execute('SELECT id, status, attempt, result FROM jobs')}
        lost = [i for i, in said(folder, 'accepted') if i not in rows]
        assert not lost, f'accepted and forgotten: {lost}'
        for job_id, status, nonce in said(folder, 'ended'):
            assert rows[job_id][0] == status and nonce in rows[job_id][2], (job_id, rows[job_id])
        for job_id, attempt in said(folder, 'run'):
            assert rows[job_id][0] != 'pending' or rows[job_id][1] > int(attempt), f'would run again: {job_id}'
    finally: con.close()

def check_story(folder: Path) -> None:
    "Over all lives: no attempt twice, nothing after an end."
    runs = Counter(map(tuple, said(folder, 'run')))
    assert not [r for r, n in runs.items() if n > 1], 'an attempt was run twice'
    over = set()
    for word, *more in told(folder):
        if word in ('ready', 'over'): continue
        job_id = more[0]
        assert job_id not in over, f'{word} {more} after its end'
        if word in ('ended', 'interrupted'): over.add(job_id)
    for job_id, status, nonce in said(folder, 'ended'): assert (status, nonce) == ('completed', nonce_of(job_id))

def check_last(folder: Path) -> None:
    "A last app, which is not killed, ends all that was left but for the one that it leaves itself."
    with App('-m', 'tests.faults.store_life', str(folder), 'quiet') as app:
        assert app.finish(60) == 0, app.err
    check_file(folder)
    check_story(folder)
    store = SQLiteJobStore(folder/'store'/'jobs.db')
    assert store.counts().get('running', 0) == 0 and store.counts()['pending'] == 1
    for i, in said(folder, 'accepted'): assert store.get(i) is not None
    for i, in said(folder, 'interrupted'):
        assert store.get(i).job.fault == 'interrupted' and store.get(i).params is None
    for i, *_ in said(folder, 'ended')[-50:]:
        assert ''.join(t for t, _ in store.read_chunks(i).chunks) == nonce_of(i)
        assert store.read_lines(i) == StoredLines(0, [f'line {n} of {i}' for n in range(3)])
    store.close()
    assert sorted(p.name for p in (folder/'store').iterdir() if '.new-' not in p.name) == ['jobs.db']

@pytest.mark.limit(60 + 4*KILLS)
def test_killed_at_random_moments_under_load(tmp_path):
    seed = int(os.environ.get('FAULTS_SEED', time.time_ns() % 10**6))
    print('FAULTS_SEED', seed)
    rng = random.Random(seed)
    for _ in range(KILLS):
        before = len(said(tmp_path, 'ready'))
        with App('-m', 'tests.faults.store_life', str(tmp_path), 'load') as app:
            deadline = time.monotonic() + 30
            while len(said(tmp_path, 'ready')) == before:
                assert app.popen.poll() is None and time.monotonic() < deadline, app.err
                if rng.random() < .001: break   # also while it opens the file
                time.sleep(.002)
            time.sleep(rng.uniform(0, .3))
            assert app.popen.poll() is None, app.err
            os.kill(app.pid, signal.SIGKILL)
            app.popen.wait(10)
            assert not app.err, app.err
        check_file(tmp_path)
        check_story(tmp_path)
    check_last(tmp_path)
    print({word: len(said(tmp_path, word)) for word in ('ready', 'accepted', 'run', 'ended', 'interrupted')})
    assert len(said(tmp_path, 'ended')) > KILLS and len(said(tmp_path, 'ready')) > KILLS/2

@pytest.mark.limit(60 + 600//STEP)
def test_killed_after_each_statement(tmp_path):
    "From the first statement that makes the file to the last one that closes it."
    n = 0
    while True:
        n += STEP
        (folder := tmp_path/f'{n}').mkdir()
        for _ in range(2):   # the second life finds what the first has left, and is killed at the same place
            with App('-m', 'tests.faults.store_life', str(folder), 'script', str(n)) as app:
                code = app.finish(60)
                assert code in (0, -signal.SIGKILL) and not app.err, app.err
            check_file(folder)
        check_last(folder)
        shutil.rmtree(folder)
        if code == 0: break
    print(n, 'statements')
    assert n >= 40

# ---- Upgrades

VERSION_1 = '''
CREATE TABLE apps (id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, pid INTEGER NOT NULL,
    started TEXT NOT NULL);
CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, worker_type TEXT NOT NULL, app INTEGER,
    class TEXT NOT NULL, plugin_id TEXT NOT NULL, plugin_name TEXT NOT NULL, status TEXT NOT NULL,
    priority INTEGER NOT NULL, owner TEXT, attempt INTEGER NOT NULL, max_retries INTEGER NOT NULL, timeout_seconds REAL,
    stream INTEGER NOT NULL, created_at TEXT, started_at TEXT, completed_at TEXT, worker_pid INTEGER,
    exit_code INTEGER, progress REAL, status_message TEXT, fault TEXT, error TEXT, traceback TEXT,
    metadata TEXT, fields TEXT, params TEXT, result TEXT);
CREATE INDEX jobs_by_status ON jobs(status);
CREATE TABLE chunks (job INTEGER NOT NULL, first INTEGER NOT NULL, texts TEXT NOT NULL, PRIMARY KEY (job, first))
    WITHOUT ROWID;
INSERT INTO apps VALUES (7, 'another boot', 1, '1');
'''
JOB_1 = ("INSERT INTO jobs(id, worker_type, app, class, plugin_id, plugin_name, status, priority, attempt, "
         "max_retries, stream, status_message, metadata, params, result, completed_at) VALUES (?, 'load', 7, "
         "'cjm_fasthtml_workers.managers.jobs:BaseJob', 'echo', 'echo', ?, 0, 1, 0, 0, '', '{}', "
         "'{\"nonce\":\"n\"}', ?, ?)")

def make_version_1(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    con = sqlite3.connect(path)
    con.executescript(f'PRAGMA journal_mode=WAL; PRAGMA application_id={store_file.APPLICATION_ID}; {VERSION_1} '
                      'PRAGMA user_version=1;')
    for job in [('done', 'completed', '{"nonce":"n"}', '2025-01-31'), ('ran', 'running', None, None),
                ('waits', 'pending', None, None)]: con.execute(JOB_1, job)
    con.commit()
    con.close()

OPEN = '''import sys; from pathlib import Path; from tests.faults.store_life import die_after
from cjm_fasthtml_workers.extensions.sqlite_store import SQLiteJobStore; die_after(int(sys.argv[2]))
SQLiteJobStore(Path(sys.argv[1])); print("opened")'''

def shape_of(path: Path) -> dict[str, list[tuple]]:
    "All tables with their columns, all indexes with theirs"
    con = sqlite3.connect(path)
    try:
        found = con.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
        return {name: [(*row[1:3], row[5]) if kind == 'table' else row[2:] for row in
                       con.execute(f"PRAGMA {'table_info' if kind == 'table' else 'index_info'}({name})")]
                for kind, name in found}
    finally: con.close()

def state_of(path: Path) -> tuple[int, bool, int]:
    con = sqlite3.connect(path)
    try:
        assert con.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        version, = con.execute('PRAGMA user_version').fetchone()
        has_namespace = 'namespace' in [row[1] for row in con.execute('PRAGMA table_info(apps)')]
        return version, has_namespace, con.execute('SELECT count(params) FROM jobs').fetchone()[0]
    finally: con.close()

def test_upgrade_killed_after_each_statement(tmp_path):
    seen = set()
    for n in range(3, 60):
        path = tmp_path/f'{n}'/'jobs.db'
        make_version_1(path)
        with App('-c', OPEN, str(path), str(n)) as app:
            code = app.finish(30)
            assert code in (0, -signal.SIGKILL), app.err
        seen.add(state := state_of(path))
        is_whole = state in ((1, False, 3), (store_file.VERSION, True, 2))
        assert is_whole, f'neither old nor new after statement {n}: {state}'
        store = SQLiteJobStore(path)
        found = store.attach('load')
        assert [s.job.id for s in found.waiting] == ['waits'] and [s.job.id for s in found.interrupted] == ['ran']
        assert store.get('done').job.result == {'nonce': 'n'}
        store.close()
        if code == 0: break
    assert code == 0 and len(seen) == 2

def test_a_file_of_each_version_becomes_one_that_is_like_a_new_one(tmp_path):
    new = tmp_path/'new.db'
    SQLiteJobStore(new).close()
    for version in range(1, store_file.VERSION):
        path = tmp_path/f'{version}'/'jobs.db'
        make_version_1(path)
        con = sqlite3.connect(path, isolation_level=None)
        for v in range(1, version):
            for step in store_file.UPGRADES[v]: con.execute(step)
        con.execute(f'PRAGMA user_version={version}')
        con.close()
        store = SQLiteJobStore(path)
        store.attach('load')
        assert store.read_lines('done').lines == [] and store.get('done').job.result == {'nonce': 'n'}
        store.close()
        old, wanted = shape_of(path), shape_of(new)
        assert {k: sorted(v) for k, v in old.items()} == {k: sorted(v) for k, v in wanted.items()}
