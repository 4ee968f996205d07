"""`results.json` as a page, with a picture for light and one for dark."""
import json
from pathlib import Path
from typing import Any

from benchmarks import plot, report
from benchmarks.rows import ROWS
from benchmarks.rows.base import Row
from benchmarks.systems import SYSTEMS, label

HERE = Path(__file__).resolve().parent

INTRO = """\
# Benchmarks

> This library beside what one could use instead: the same work, on the same machine, in the same minutes.

Absolute numbers depend on the machine. What carries over to yours is how many times better or worse one is than the
other. So each comparison is made within a round, in which every system has its turn in a fresh process, and a ratio is
the median of the ratios of all rounds. In brackets stand the smallest and the largest. `2 ×` in a column "better by"
means: half the time, or twice as many per second. Less than `1 ×` means that the other one is better. p50 is the median
of the repetitions in a process, and p99 what one in a hundred exceeds.

This page is made by the command that measures. Nobody edits it.
"""

HOW = """\
## Run it yourself

```bash
make bench                                      # everything, {minutes} on the machine above
make bench ARGS="--only roundtrip --rounds 3"   # a part: prints, and leaves this page as it is
make bench ARGS="--only chunks --systems ours pipe"
```

The first one installs the peers and writes this page, its pictures and `benchmarks/results.json`, which holds every
number of every round. Let the machine be quiet: on two cores, a browser in the background can double a latency.

What is measured stands in `benchmarks/rows/`, one short file for each row; how each system is used, in
`benchmarks/systems/`. Each process warms up before it measures; what it reports is a median over its repetitions.
"""

BUSY = """

**The machine was busy with other things.** These numbers show that everything runs, and little more."""

LOSSES = """\
## Where we lose

Bare pipes, copies and fixed halves are no rivals but limits: they do less, and show what is left to win. The others are
rivals. This is our manager as it comes, without a standby.
"""


def markdown(lines: list[list[str]], numbers: bool = True) -> str:
    "A table; numbers to the right."
    rule = ['---', *['--:' if numbers else '---'] * (len(lines[0]) - 1)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in (lines[0], rule, *lines[1:]))


def picture(name: str) -> str:
    "Of the two, the site and the repository's host show the one that fits."
    return '\n'.join(f'![{ROWS[name].title}](plots/{name}-{theme}.svg#gh-{theme}-mode-only)' for theme in plot.THEMES)


def missing(row: Row) -> list[str]:
    "Who is not in the row, and why."
    whys: dict[str, list[str]] = {}
    for key, why in row.missing.items(): whys.setdefault(why, []).append(label(key))
    return [f'Not in this row: {", ".join(names)} ({why}).' for why, names in whys.items()]


def section(row: Row, results: report.Results) -> str:
    "What the row means, its picture, its table, what we wanted."
    wanted = [f'- {o.text}' for o in report.outcomes(row, results)]
    return '\n\n'.join([f'## {row.title}', row.text, picture(row.name), markdown(report.table(row, results)),
                        *missing(row), *(['What we wanted:\n\n' + '\n'.join(wanted)] if wanted else [])])


def machine(run: dict[str, Any]) -> str:
    "Where and when this was."
    m = run['machine']
    versions = ', '.join(f'{name} {version}' for name, version in m['versions'].items())
    return (f'Measured on {run["date"]}: {m["processor"]}, {m["cores"]} cores, {m["system"]}, {m["python"]}; '
            f'{versions}. The load of the machine before was {m["load_before"]}.' + (BUSY if is_busy(run) else ''))


def is_busy(run: dict[str, Any]) -> bool:
    "Whether others were using the machine when it began."
    return run['machine']['load_before'] > run['machine']['cores'] / 4


def losses(run: dict[str, Any]) -> str:
    "Every peer that was better than ours, in the median of the ratios."
    out = []
    for name, results in run['rows'].items():
        row, metric = ROWS[name], (report.metrics(results) or [''])[0]
        found = [(e, report.better(row, results, 'ours', e.key, metric)) for e in row.entries if not e.is_ours]
        winners = [f'{e.title} {report.number(1 / s.median)} ×' for e, s in found if s and s.median < 1]
        if winners: out.append([row.title, ', '.join(winners)])
    return markdown([['', 'who is better, and by how much'], *out], numbers=False) if out else "Nowhere in this run."


def systems_table() -> str:
    return markdown([['', 'what it is'], *([a.label, a.text] for a in SYSTEMS.values())], numbers=False)


def page(run: dict[str, Any]) -> str:
    "The whole page."
    minutes = f'about {max(1, round(run["seconds"] / 60))} minutes'
    return '\n\n'.join([
        INTRO + '\n' + machine(run), '## Who takes part\n\n' + systems_table(), LOSSES + '\n' + losses(run),
        *(section(ROWS[name], results) for name, results in run['rows'].items()), HOW.format(minutes=minutes)])


def write(run: dict[str, Any], folder: Path = HERE) -> None:
    "The numbers, the pictures, the page."
    (folder/'plots').mkdir(parents=True, exist_ok=True)
    (folder/'results.json').write_text(json.dumps(run, indent=1) + '\n', encoding='utf-8')
    for name, results in run['rows'].items():
        for theme in plot.THEMES:
            (folder/'plots'/f'{name}-{theme}.svg').write_text(plot.svg(ROWS[name], results, theme), encoding='utf-8')
    (folder/'README.md').write_text(page(run), encoding='utf-8')


def read(folder: Path = HERE) -> dict[str, Any]: return json.loads((folder/'results.json').read_text(encoding='utf-8'))
