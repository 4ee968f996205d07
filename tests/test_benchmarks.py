"""The benchmarks run and say something sane; how fast anything is, is not tested here."""
import json
import shutil

import pytest

from benchmarks import page, plot, report, run
from benchmarks.measure import Spread, percentile
from benchmarks.rows import ROWS
from benchmarks.rows.base import Entry, Goal, Row


@pytest.mark.parametrize('name', [n for n in ROWS if n not in ('cancel_heavy', 'bulk128')])   # the same code, longer
def test_each_row_of_ours(name):
    "The smallest size of each row, in a process of its own"
    row = ROWS[name]
    numbers = run.one(row, row.entry('ours'), row.smallest)
    assert numbers and not {'failed', 'skipped'} & numbers.keys(), numbers
    assert all(isinstance(v, float) and v > 0 for v in numbers.values()), numbers

@pytest.mark.parametrize('key', ['pipe', 'queues', 'executor', 'pebble', 'loky'])
def test_each_peer(key):
    "A peer that is not installed is skipped, with the reason"
    row = ROWS['throughput']
    numbers = run.one(row, row.entry(key), row.smallest)
    assert numbers.get('rate', 0) > 0 or 'is not installed' in numbers['skipped'], numbers

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

def test_percentiles():
    assert (percentile(range(100), 50), percentile(range(100), 99), percentile([7.0], 99)) == (50, 99, 7.0)

@pytest.mark.parametrize('x, text', [(0.01234, '0.0123'), (3.14159, '3.14'), (99.96, '100'), (1234567, '1,230,000')])
def test_numbers_have_three_digits(x, text): assert report.number(x) == text

def test_page_is_made_from_the_numbers(tmp_path):
    "The page and its pictures are what `python -m benchmarks --page` makes of results.json, and show every row"
    shutil.copy(page.HERE/'results.json', tmp_path)
    page.write(page.read(tmp_path), tmp_path)
    made = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert {p.name for p in made} >= {f'{name}-{theme}.svg' for name in ROWS for theme in plot.THEMES}
    for p in made:
        assert p.read_text() == (page.HERE/p.relative_to(tmp_path)).read_text(), f'{p.name}: run it again with --page'

def test_numbers_say_what_the_machine_is_and_not_whose():
    facts = json.loads((page.HERE/'results.json').read_text())['machine']
    assert set(facts) == {'processor', 'cores', 'system', 'python', 'load_before', 'versions'}
