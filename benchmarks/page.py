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
means: half the time, or twice as many per second. Less than `1 ×` means that the other one is better: `0.5 ×` is half
as good. p50 is the median of the repetitions in a process, p99 what one in a hundred exceeds, and "longest" the worst
of them; a table shows the median over the rounds of each.

This page is made by the command that measures. Nobody edits it.
"""

HOW = """\
## Run it yourself

```bash
make bench                                      # everything, {minutes} on the machine above
make bench ARGS="--only roundtrip --rounds 3"   # a part: prints, and leaves this page as it is
make bench ARGS="--only roundtrip --update"     # a row of this page again; the others keep their numbers and dates
make bench ARGS="--only chunks --systems ours pipe"
```

The first one installs the peers and writes this page, its pictures and `benchmarks/results.json`, which holds every
number of every round. Let the machine be quiet: on two cores, a browser in the background can double a latency.

What is measured stands in `benchmarks/rows/`, one short file for each row; how each system is used, in
`benchmarks/systems/`. Each process warms up before it measures; what it reports is a median over its repetitions.
"""

BUSY = """\
**The machine was busy with other things** when some of these rows were measured. Their numbers show that everything
runs, and little more."""

LOSSES = """\
## Where we lose

Every number in which our manager as it comes, without a standby, was worse than somebody else. Bare pipes and bare
processes, copies and fixed halves are no rivals but limits: they do less, and show what is left to win.
"""

GOALS = """\
## Goals not reached

Each row says at its end what we wanted, and whether we got it. This is what we did not get. An aim is a goal behind
the goal.
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


def section(run: dict[str, Any], row: Row, results: report.Results) -> str:
    "What the row means, its picture, its table, what we wanted, when it was."
    wanted = [f'- {o.text}' for o in report.outcomes(row, results)]
    return '\n\n'.join([f'## {row.title}', row.text, picture(row.name), markdown(report.table(row, results)),
                        *missing(row), *(['What we wanted:\n\n' + '\n'.join(wanted)] if wanted else []),
                        moment(run, row.name)])


def named(versions: dict[str, str]) -> str: return ', '.join(f'{name} {v}' for name, v in versions.items())


def machine(run: dict[str, Any]) -> str:
    "Where this was."
    m = run['machine']
    busy = ['\n\n' + BUSY] if any(is_busy(run, name) for name in run['rows']) else []
    return ''.join([f'The machine: {m["processor"]}, {m["cores"]} cores, {m["system"]}, {m["python"]}; ',
                    named(m['versions']), '.', *busy])


def moment(run: dict[str, Any], name: str) -> str:
    "When the row was measured; and with what, if other rows were measured with something else."
    m, usual = run['measured'][name], run['machine']['versions'].items()
    other = {k: v for k, v in m['versions'].items() if (k, v) not in usual}
    return (f'Measured on {m["date"]}{f" with {named(other)}" if other else ""}. The load of the machine before was '
            f'{m["load_before"]}{", so **it was busy**" if is_busy(run, name) else ""}.')


def is_busy(run: dict[str, Any], name: str) -> bool:
    "Whether others were using the machine when it began."
    return run['measured'][name]['load_before'] > run['machine']['cores'] / 4


def winners(row: Row, results: report.Results, metric: str, is_limit: bool) -> str:
    "Who is better than ours here, in the median of the ratios, and by how much."
    rivals = [e for e in row.entries if not e.is_ours and SYSTEMS[e.system].is_limit == is_limit]
    found = [(e, report.better(row, results, e.key, 'ours', metric)) for e in rivals]
    return ', '.join(f'{e.title} {report.number(s.median)} ×' for e, s in found if s and s.median > 1)


def losses(run: dict[str, Any]) -> str:
    "Each number of each row in which somebody was better."
    out = []
    for name, results in run['rows'].items():
        row, names = ROWS[name], report.metrics(results)
        for metric in names:
            found = [winners(row, results, metric, is_limit) for is_limit in (False, True)]
            if any(found): out.append([f'{row.title}: {metric}' if len(names) > 1 else row.title, *found])
    return markdown([['', 'better than ours', 'limits'], *out], numbers=False) if out else "Nowhere in this run."


def failures(run: dict[str, Any]) -> str:
    "Each goal that was not reached."
    missed = [[ROWS[name].title, o.goal.text, o.measured_text] for name, results in run['rows'].items()
              for o in report.outcomes(ROWS[name], results) if not o.is_reached]
    return markdown([['', 'what we wanted', 'what it was'], *missed], numbers=False) if missed else "None in this run."


def unmeasured(run: dict[str, Any]) -> list[str]:
    "The rows that are still to be measured."
    titles = [row.title for name, row in ROWS.items() if name not in run['rows']]
    return [f'Not measured yet: {"; ".join(titles)}.'] if titles else []


def systems_table() -> str:
    return markdown([['', 'what it is'], *([a.label, a.text] for a in SYSTEMS.values())], numbers=False)


def page(run: dict[str, Any]) -> str:
    "The whole page."
    minutes = f'about {max(1, round(run["seconds"] / 60))} minutes'
    return '\n\n'.join([
        INTRO + '\n' + machine(run), '## Who takes part\n\n' + systems_table(), LOSSES + '\n' + losses(run),
        GOALS + '\n' + failures(run), *(section(run, ROWS[name], results) for name, results in run['rows'].items()),
        *unmeasured(run), HOW.format(minutes=minutes)])


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    "A run with some of its rows measured again; in the order of the table."
    rows = old['rows'] | new['rows']
    return old | {'measured': old['measured'] | new['measured'], 'rows': {n: rows[n] for n in ROWS if n in rows}}


def write(run: dict[str, Any], folder: Path = HERE) -> None:
    "The numbers, the pictures, the page."
    (folder/'plots').mkdir(parents=True, exist_ok=True)
    (folder/'results.json').write_text(json.dumps(run, indent=1) + '\n', encoding='utf-8')
    for name, results in run['rows'].items():
        for theme in plot.THEMES:
            (folder/'plots'/f'{name}-{theme}.svg').write_text(plot.svg(ROWS[name], results, theme), encoding='utf-8')
    (folder/'README.md').write_text(page(run), encoding='utf-8')


def read(folder: Path = HERE) -> dict[str, Any]: return json.loads((folder/'results.json').read_text(encoding='utf-8'))
