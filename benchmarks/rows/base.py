"""What a row of the table is made of."""
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import systems


@dataclass(frozen=True)
class Entry:
    "One system in a row."
    system: str   # as in `benchmarks.systems.SYSTEMS`
    options: dict[str, Any] = field(default_factory=dict)   # for its class
    name: str = ''   # if a system comes more than once
    label: str = ''
    script: str = 'benchmarks.one'   # the main script, under which it runs
    size: int = 0   # if other than the row's
    rounds: int = 0   # the first so many only; 0: all of them

    @property
    def key(self) -> str: return self.name or self.system

    @property
    def title(self) -> str: return self.label or systems.label(self.system)

    @property
    def is_ours(self) -> bool: return self.system == 'ours'

    def make(self) -> Any: return systems.load(self.system)(**self.options)


@dataclass(frozen=True)
class Goal:
    "How many times better than a peer we want to be, in the same round; or, without a peer, a limit."
    text: str
    peer: str = ''
    factor: float = 1.0   # less than 1: a peer that we only want to come near to
    ours: str = 'ours'
    limit: float = 0.0   # in the unit of the metric
    metric: str = ''   # if it is not the first
    is_worst: bool = False   # every round must keep the limit, not only the median of them


@dataclass(frozen=True)
class Row:
    "What is measured, of whom, and how often."
    name: str
    title: str
    unit: str
    text: str   # for the reader: what happens, and why it matters
    entries: tuple[Entry, ...]
    measure: Callable[[Entry, int], Awaitable[dict[str, float]]]   # (entry, size) -> numbers; the first is compared
    size: int   # repetitions in one process
    smallest: int   # as few as make sense
    is_rate: bool = False   # more is better
    rounds: int = 5
    is_pinned: bool = False   # both sides on one core
    missing: dict[str, str] = field(default_factory=dict)   # a system that is not in the row, and why
    goals: tuple[Goal, ...] = ()
    reference: str = ''   # of which the table shows each as a fraction
    is_compared: bool = True   # False: its lines are cases of ours, and the table has no columns "better by"

    def entry(self, key: str) -> Entry: return next(e for e in self.entries if e.key == key)


def entries(*names: str) -> tuple[Entry, ...]: return tuple(Entry(n) for n in names)
