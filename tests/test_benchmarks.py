"""The benchmarks run and say something sane; how fast anything is, is not tested here."""
import asyncio
import json
import shutil
import subprocess
import sys
import time

import pytest

from benchmarks import __main__ as main
from benchmarks import facts, page, plot, report, run
from benchmarks.measure import Spread, end_of, now, own_and_shared, percentile, ticking
from benchmarks.rows import ROWS
from benchmarks.rows.base import Entry, Goal, Row

LONGER = ('cancel_heavy', 'bulk128')   # the same code as another row
OURS = [(n, e.key) for n, row in ROWS.items() if n not in LONGER for e in row.entries if e.is_ours]
OURS = [(n, key) for n, key in OURS if key == 'ours' or (n, 'ours') not in OURS]   # a variant of it is the same code

@pytest.mark.limit(150)   # longer than `run.LIMIT_SECONDS`
@pytest.mark.parametrize('name, key', OURS)
def test_each_row_of_ours(name, key):
    "The smallest size of each row, in a process of its own"
    row = ROWS[name]
    numbers = run.one(row, row.entry(key), row.smallest)
    assert numbers and not {'failed', 'skipped'} & numbers.keys(), numbers
    assert all(isinstance(v, float) and (v > 0 or 'grew' in m) for m, v in numbers.items()), numbers

PEERS = [('throughput', key) for key in ('pipe', 'queues', 'executor', 'pebble', 'loky')]
PEERS += [('death', key) for key in ('pipe', 'executor', 'pebble', 'loky')]
PEERS += [('cancel_end', 'pebble'), ('memory', 'pipe'), ('flat', 'executor_jobs')]

@pytest.mark.limit(150)   # longer than `run.LIMIT_SECONDS`
@pytest.mark.parametrize('name, key', PEERS)
def test_each_peer(name, key):
    "A peer that is not installed is skipped, with the reason"
    row = ROWS[name]
    numbers = run.one(row, row.entry(key), row.smallest)
    if 'is not installed' in numbers.get('skipped', ''): return
    assert numbers and all(isinstance(v, float) and (v > 0 or 'grew' in m) for m, v in numbers.items()), numbers

def test_who_fails_is_in_the_table_with_its_reason():
    row = ROWS['roundtrip']
    results = run.collected([{'ours': {'p50': 2.0}, 'pipe': {'failed': "OSError: no pipe"}}])
    assert "OSError: no pipe" in report.plain(report.table(row, results))
    assert 'failed' in run.one(row, Entry('nobody'))

def test_order_is_interleaved():
    "Everybody once in each round, and not always after the same one"
    entries = [Entry(n) for n in 'abcd']
    orders = [''.join(e.system for e in run.order(entries, i)) for i in range(4)]
    assert all(sorted(o) == list('abcd') for o in orders) and len(set(orders)) == 4
    assert len({o[o.index('b') - 1] for o in orders}) > 1

async def nothing(entry: Entry, size: int) -> dict[str, float]: return {}

def toy(is_rate: bool) -> Row:
    goals = (Goal("twice", 'pipe', 2.0), Goal("at most 3", limit=3.0))
    return Row('toy', "Toy", 'ms', "", (Entry('ours'), Entry('pipe')), nothing, 1, 1, is_rate=is_rate, goals=goals)

def test_ratios_are_made_within_a_round():
    "The median of ratios, not the ratio of medians; a round that one has not finished does not count"
    results = {'ours': {'x': [1.0, 2.0, 4.0, 1.0]}, 'pipe': {'x': [2.0, 2.0, 40.0, None]}}
    assert report.better(toy(False), results, 'ours', 'pipe', 'x') == Spread(2.0, 1.0, 10.0)
    assert report.better(toy(True), results, 'ours', 'pipe', 'x') == Spread(0.5, 0.1, 1.0)
    assert [o.is_reached for o in report.outcomes(toy(False), results)] == [True, True]
    assert [o.is_reached for o in report.outcomes(toy(True), results)] == [False, True]

def test_bars_of_nothing_have_no_length():
    "A row in which all is well may consist of zeros"
    for numbers in ([0.0, 0.0], [0.0, 3.0]):
        results = {'ours': {'x': numbers[:1]}, 'pipe': {'x': numbers[1:]}}
        drawn = plot.svg(toy(False), results, 'light')
        assert drawn.count('<rect') == 2 and 'nan' not in drawn and '(cut)' not in drawn

# ---- The instruments

async def stalled_for(seconds: float) -> float:
    late = []
    async with ticking(late): time.sleep(seconds)
    return max(late)

def test_a_stall_is_seen_also_at_the_very_end():
    assert .25 < asyncio.run(stalled_for(.3)) < 3

def python(code: str) -> subprocess.Popen:
    "A process that has said that it is ready"
    p = subprocess.Popen([sys.executable, '-c', code + '; print(flush=True); input()'], stdin=-1, stdout=-1)
    p.stdout.readline()
    return p

def test_the_end_of_a_process_is_seen():
    "Also before its parent has looked"
    async def end(p):
        waiting = asyncio.create_task(end_of(p.pid))
        await asyncio.sleep(.05)
        assert not waiting.done()
        start = now()
        p.kill()
        return await waiting - start
    with python('pass') as p: assert 0 < asyncio.run(end(p)) < 3

def test_memory_is_that_of_the_process():
    with python('pass') as small, python('x = bytearray(50 * 2**20)') as large:
        a, b = own_and_shared(small.pid), own_and_shared(large.pid)
        for p in (small, large): p.kill()
    assert all(45 < y - x < 55 for x, y in zip(a, b)) and a[0] <= a[1]

@pytest.mark.limit(150)   # longer than `run.LIMIT_SECONDS`
def test_growth_is_seen():
    "Where nothing is bounded: chunks wait in the worker or in the app"
    numbers = run.one(ROWS['flat'], ROWS['flat'].entry('queues_stream'), 5)
    assert numbers['app grew by'] + numbers['worker grew by'] > 1, numbers

def test_percentiles():
    assert (percentile(range(100), 50), percentile(range(100), 99), percentile([7.0], 99)) == (50, 99, 7.0)

@pytest.mark.parametrize('x, text', [(0.01234, '0.0123'), (3.14159, '3.14'), (99.96, '100'), (1234567, '1,230,000')])
def test_numbers_have_three_digits(x, text): assert report.number(x) == text

def test_page_is_made_from_the_numbers(tmp_path):
    "The page and its pictures are what `python -m benchmarks --page` makes of results.json, and name every row"
    shutil.copy(page.HERE/'results.json', tmp_path)
    numbers = page.read(tmp_path)
    page.write(numbers, tmp_path)
    made = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert {p.name for p in made} >= {f'{name}-{theme}.svg' for name in numbers['rows'] for theme in plot.THEMES}
    assert all(row.title in (tmp_path/'README.md').read_text() for row in ROWS.values())
    for p in made:
        assert p.read_text() == (page.HERE/p.relative_to(tmp_path)).read_text(), f'{p.name}: run it again with --page'

def test_numbers_say_what_the_machine_is_and_not_whose():
    found = json.loads((page.HERE/'results.json').read_text())['machine']
    assert set(found) == {'processor', 'cores', 'system', 'python', 'load_before', 'versions'}

# ---- What of the page a command changes

def fake(options):
    "What `measure_all` gives, in no time"
    rows = {n: {'ours': {'p50': [1.0]}} for n in options.only or ROWS}
    machine = facts.machine()
    return {'seconds': 1, 'machine': machine, 'measured': {n: facts.moment(machine) for n in rows}, 'rows': rows}

@pytest.fixture
def folder(monkeypatch, tmp_path):
    "A page of this machine, which the commands take for the one of the repository"
    monkeypatch.setattr(main, 'measure_all', fake)
    monkeypatch.setattr(page, 'HERE', tmp_path)
    main.main([])
    numbers = page.read(tmp_path)
    for m in numbers['measured'].values(): m['date'] = '2001-01-01'
    page.write(numbers, tmp_path)
    return tmp_path

@pytest.mark.parametrize('part', ['--only chunks', '--systems ours', '--rounds 2', '--size 7'])
def test_a_part_leaves_the_page_alone(folder, part):
    before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    main.main(part.split())
    assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()} == before

def test_update_changes_only_its_rows(folder, monkeypatch):
    "Numbers and date of the others stay; the page says of each row when it was measured"
    changed = {'seconds': 1, 'rows': {'chunks': {'ours': {'rate': [7.0]}}}}
    monkeypatch.setattr(main, 'measure_all', lambda options: fake(options) | changed)
    before = page.read(folder)
    main.main('--only chunks --update'.split())
    after = page.read(folder)
    assert after['rows'] == before['rows'] | changed['rows'] and list(after['rows']) == list(ROWS)
    assert {n for n in ROWS if after['measured'][n]['date'] != '2001-01-01'} == {'chunks'}
    sections = {s.partition('\n')[0]: s for s in (folder/'README.md').read_text().split('\n## ')}
    assert all(('on 2001-01-01' in sections[row.title]) == (n != 'chunks') for n, row in ROWS.items())

def test_update_says_with_what_a_row_was_measured(folder):
    numbers = page.read(folder)
    numbers['measured']['chunks']['versions'] = numbers['machine']['versions'] | {'pebble': '99.0'}
    assert 'with pebble 99.0.' in page.moment(numbers, 'chunks')
    assert 'with' not in page.moment(numbers, 'paced').partition('.')[0]

def test_update_refuses_the_page_of_another_machine(folder):
    numbers = page.read(folder)
    numbers['machine']['cores'] = 4096
    page.write(numbers, folder)
    with pytest.raises(SystemExit, match='another machine.*4096'): main.main('--only chunks --update'.split())
    assert page.read(folder) == numbers

@pytest.mark.parametrize('args', ['', '--only chunks --size 3', '--only chunks --systems ours'])
def test_update_takes_whole_rows_only(folder, args):
    with pytest.raises(SystemExit): main.main(['--update', *args.split()])

# ---- What the page says of those numbers

def run_of(results):
    "A run with one row"
    return {'machine': facts.machine(), 'seconds': 1, 'rows': {'roundtrip': results},
            'measured': {'roundtrip': facts.moment(facts.machine())}}

def test_whoever_was_better_is_named_in_each_number():
    "Also if only a p99 was; limits and rivals apart; and who was not better is not named"
    text = page.losses(run_of({'ours': {'p50': [4.0, 2.0], 'p99': [9.0, 9.0]},
                               'pipe': {'p50': [2.0, 1.0], 'p99': [9.0, 9.0]},
                               'loky': {'p50': [4.0, 4.0], 'p99': [3.0, 3.0]}}))
    assert '| Job round trip: p50 |  | raw pipe + pickle 2 × |' in text
    assert '| Job round trip: p99 | loky 3 × |  |' in text
    assert 'Nowhere' in page.losses(run_of({'ours': {'p50': [1.0]}, 'loky': {'p50': [2.0]}}))

def test_whoever_needs_less_memory_is_named():
    "Also in a row whose table has no columns for it"
    results = {'ours': {'light: own': [9.0]}, 'executor': {'light: own': [6.0]}, 'guard': {'light: own': [0.1]}}
    run = {'rows': {'memory': results}}
    assert page.losses(run).splitlines()[2:] == [
        '| What each process costs in memory | worker of ProcessPoolExecutor 1.5 × |  |']

@pytest.mark.parametrize('ours, theirs', [([1.0, 3.0], [2.0, 2.0]), ([1.0, 2.0, 3.0], [2.0, 2.0, 1.0])])
@pytest.mark.parametrize('is_rate', [True, False])
def test_better_by_is_the_same_from_both_sides(ours, theirs, is_rate):
    results = {'ours': {'x': ours}, 'pipe': {'x': theirs}}
    there, back = (report.better(toy(is_rate), results, *pair, 'x') for pair in (('ours', 'pipe'), ('pipe', 'ours')))
    assert there.median * back.median == pytest.approx(1) and there.min * back.max == pytest.approx(1)

def test_goals_that_were_missed_are_listed_also_those_not_measured():
    no_pipe = {'skipped': "no pipes here"}
    text = page.failures(run_of({'ours': {'p50': [1.0]}, 'executor': {'p50': [9.0]}, 'pipe': no_pipe}))
    assert 'half' not in text and '| Job round trip | aim: 1.5 times the raw pipe | not measured |' in text

def test_a_limit_for_the_worst_is_judged_by_the_worst_round():
    goal = Goal("never more than 3", limit=3.0, is_worst=True)
    row = Row('toy', "Toy", 'ms', "", (Entry('ours'),), nothing, 1, 1, goals=(goal,))
    outcomes = [report.outcomes(row, {'ours': {'x': numbers}})[0] for numbers in ([1.0, 1.0, 4.0], [1.0, 1.0, 3.0])]
    assert [o.is_reached for o in outcomes] == [False, True] and '4 at worst' in outcomes[0].text

def test_a_round_that_failed_is_not_hidden_by_those_that_did_not():
    results = run.collected([{'ours': {'p50': 2.0}}, {'ours': {'failed': "OSError: no luck"}}])
    assert "2; in another round: OSError: no luck" in report.plain(report.table(ROWS['roundtrip'], results))

