"""Numbers as a table: medians over rounds, and how many times better we are, round by round."""
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Spread
from benchmarks.rows import ROWS
from benchmarks.rows.base import Entry, Goal, Row

Results = dict[str, dict[str, Any]]   # of a row: system -> metric -> a number for each round


def metrics(results: Results) -> list[str]:
    "In the order in which a system gives them; the first is compared."
    return list(dict.fromkeys(m for r in results.values() for m in r if m not in ('skipped', 'failed')))


def spread(numbers: Iterable[float | None]) -> Spread | None:
    known = [x for x in numbers if x is not None]
    return Spread.of(known) if known else None


def better(row: Row, results: Results, ours: str, peer: str, metric: str) -> Spread | None:
    "How many times better `ours` was than `peer`, over the rounds that both have finished."
    pairs = zip(results.get(ours, {}).get(metric, ()), results.get(peer, {}).get(metric, ()))
    ratios = [(a / b if row.is_rate else b / a) for a, b in pairs if a and b]
    return Spread.of_ratios(ratios) if ratios else None


# ---- Text

def number(x: float) -> str:
    "Three digits that count."
    return f'{round(x, 3 - len(str(int(x)))):,.0f}' if x >= 100 else f'{x:.3g}'


def spread_text(s: Spread | None, sign: str = '') -> str:
    if s is None: return ''
    return f'{number(s.median)}{sign} ({number(s.min)} … {number(s.max)})' if s.max > s.min else number(s.median) + sign


def head(row: Row, metric: str, is_only: bool) -> str:
    if ', ' in metric: return metric   # it has a unit of its own
    return row.unit if is_only else f'{metric}, {row.unit}'


def line(row: Row, results: Results, e: Entry, names: list[str], ours: list[Entry]) -> list[str]:
    "A system in the table."
    mine = results[e.key]
    cells = [spread_text(spread(mine.get(m, ()))) for m in names]
    why = mine.get('skipped') or mine.get('failed', '')
    if why: cells[0] = f'{cells[0]}; in another round: {why}' if cells[0] else why
    if row.reference: cells.append(spread_text(better(row, results, e.key, row.reference, names[0])))
    factors = ['' if e.is_ours else spread_text(better(row, results, o.key, e.key, names[0]), ' ×') for o in ours]
    return [e.title, *cells, *factors]


def table(row: Row, results: Results) -> list[list[str]]:
    "A head and a line for each system: its numbers, and for each of ours how many times better it is."
    names = metrics(results) or ['']
    present = [e for e in row.entries if e.key in results]
    ours = [e for e in present if e.is_ours] if row.is_compared and len(present) > 1 else []
    reference = [f'of {row.entry(row.reference).title}'] if row.reference else []
    heads = [head(row, m, len(names) == 1) for m in names]
    return [['', *heads, *reference, *(f'{e.title}: better by' for e in ours)],
            *(line(row, results, e, names, ours) for e in present)]


# ---- Goals

@dataclass(frozen=True)
class Outcome:
    "What has become of a goal."
    goal: Goal
    measured: Spread | None   # how many times better; or what is limited, in its unit; None: one of the two has failed

    @property
    def is_reached(self) -> bool:
        if self.measured is None: return False
        if self.goal.peer: return self.measured.median >= self.goal.factor
        return (self.measured.max if self.goal.is_worst else self.measured.median) <= self.goal.limit

    @property
    def measured_text(self) -> str:
        if self.measured is None: return 'not measured'
        if self.goal.is_worst: return f'{number(self.measured.max)} at worst'
        return spread_text(self.measured, ' ×' if self.goal.peer else '')

    @property
    def text(self) -> str: return f'{self.goal.text}: {"" if self.is_reached else "not "}reached, {self.measured_text}'


def outcomes(row: Row, results: Results) -> list[Outcome]:
    "Of each goal whose two sides have been asked."
    out = []
    for g in row.goals:
        if not {g.ours, g.peer or g.ours} <= results.keys(): continue
        metric = g.metric or (metrics(results) or [''])[0]
        if g.peer: s = better(row, results, g.ours, g.peer, metric)
        else: s = spread(results[g.ours].get(metric, ()))
        out.append(Outcome(g, s))
    return out


def plain(lines: list[list[str]]) -> str:
    "A table for the terminal."
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def text(name: str, results: Results) -> str:
    "All about a row, for the terminal."
    row = ROWS[name]
    wanted = [f'  {o.text}' for o in outcomes(row, results)]
    return '\n'.join([f'\n{row.title} ({name})', plain(table(row, results)), *wanted])
