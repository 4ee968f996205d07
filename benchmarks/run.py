"""Rounds: in each, every system of a row once, in a process of its own, each round in another order."""
import compileall
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows.base import Entry, Row

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 120


def compile_ours() -> None:
    "As `pip` does when it installs a package; or, where Python writes no bytecode, each worker compiled ours anew."
    for name in ('cjm_fasthtml_workers', 'benchmarks'): compileall.compile_dir(ROOT / name, quiet=1)


def output_of(cmd: list[str]) -> tuple[int, str, str]:
    "Exit code, stdout and stderr; whoever is not done after the limit goes with all that it has started."
    with subprocess.Popen(cmd, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, start_new_session=True) as p:
        try: out, err = p.communicate(timeout=LIMIT_SECONDS)
        except BaseException:   # the limit, or Ctrl-C
            with contextlib.suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)
            raise
    return p.returncode, out, err


def one(row: Row, entry: Entry, size: int = 0) -> dict[str, Any]:
    "What this system does in this row; `{'skipped': why}` or `{'failed': why}` if it does not."
    try: code, out, err = output_of([sys.executable, '-m', entry.script, row.name, entry.key, str(size)])
    except subprocess.TimeoutExpired: return {'failed': f"no end after {LIMIT_SECONDS} s"}
    lines = out.strip().splitlines()
    if not code and lines: return json.loads(lines[-1])
    return {'failed': (err.strip().splitlines() or [f"exit code {code}"])[-1]}


def order(entries: list[Entry], i: int) -> list[Entry]:
    "Each round begins with another one, every second goes backwards: nobody always runs after the same neighbour."
    i %= max(1, len(entries))
    turned = entries[i:] + entries[:i]
    return turned if i % 2 == 0 else turned[::-1]


def rounds(row: Row, entries: list[Entry], count: int, size: int = 0) -> Iterator[dict[str, dict[str, Any]]]:
    "For each round, what each system did; one that is not there is not asked twice."
    left = list(entries)
    for i in range(count):
        found = {e.key: one(row, e, size) for e in order(left, i)}
        left = [e for e in left if 'skipped' not in found[e.key] and (not e.rounds or i + 1 < e.rounds)]
        yield found
        if not left: return


def collected(found: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    "By system and metric: a list with the number of each round (None where there is none); or why there is none."
    out: dict[str, dict[str, Any]] = defaultdict(dict)
    for i, one_round in enumerate(found):
        for key, numbers in one_round.items():
            for metric, value in numbers.items():
                if metric in ('skipped', 'failed'): out[key][metric] = value
                else: out[key].setdefault(metric, [None] * len(found))[i] = value
    return dict(out)
