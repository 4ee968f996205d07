"""Ours beside its peers, in interleaved rounds with a fresh process for each system and round.

    python -m benchmarks                                  # everything: prints, and writes the page
    python -m benchmarks --only roundtrip --rounds 3      # a part of it: prints
    python -m benchmarks --only roundtrip --update        # these rows of the page; the others stay as they are
    python -m benchmarks --only chunks --systems ours     # without peers: for work on the speed itself
    python -m benchmarks --page                           # the page again, from the numbers that are there
"""
import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import facts, page, report, run
from benchmarks.rows import ROWS
from benchmarks.rows.base import Row


def parse(args: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='benchmarks', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('--only', nargs='+', choices=ROWS, metavar='ROW', help=f'of {", ".join(ROWS)}')
    p.add_argument('--systems', nargs='+', metavar='SYSTEM', help='as in the rows; all without this')
    p.add_argument('--rounds', type=int, default=0, help="as the row says without this")
    p.add_argument('--size', type=int, default=0, help='repetitions in each process, as the row says without this')
    p.add_argument('--page', action='store_true', help='make the page again and measure nothing')
    p.add_argument('--update', action='store_true', help='measure the rows of --only, and change only them on the page')
    p.add_argument('--into', type=Path, help='the folder of page and numbers; also a part is then written')
    options = p.parse_args(args)
    if options.update and (not options.only or options.systems or options.size):
        p.error("--update takes whole rows: with --only, without --systems and --size")
    return options


def measure(row: Row, options: argparse.Namespace) -> report.Results:
    "All rounds of a row; how far it is stands on stderr."
    entries = [e for e in row.entries if not options.systems or e.key in options.systems]
    found, start, count = [], time.monotonic(), options.rounds or row.rounds
    for one_round in run.rounds(row, entries, count, options.size):
        found.append(one_round)
        sys.stderr.write(f'\r{row.name} {len(found)}/{count} {time.monotonic() - start:.0f} s ')
    return rounded(run.collected(found))


def rounded(x: Any) -> Any:
    "With as many digits as can mean anything."
    if isinstance(x, float): return float(f'{x:.5g}')
    if isinstance(x, list): return [rounded(v) for v in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    "Row after row; each is printed when it is done."
    machine, start, rows, measured = facts.machine(), time.monotonic(), {}, {}
    for name in options.only or ROWS:
        rows[name] = measure(ROWS[name], options)
        measured[name] = facts.moment(machine)
        print(report.text(name, rows[name]), flush=True)
    return {'seconds': round(time.monotonic() - start), 'machine': machine, 'measured': measured, 'rows': rows}


def update(options: argparse.Namespace, folder: Path) -> None:
    "Measure some rows again, for a page that keeps the others."
    old = page.read(folder)
    if other := facts.differences(old['machine'], facts.machine()):
        sys.exit(f"The page is of another machine ({', '.join(other)}): measure all of it.")
    page.write(page.merged(old, measure_all(options)), folder)


def main(args: list[str]) -> None:
    options = parse(args)
    folder = options.into or page.HERE
    if options.page: return page.write(page.read(folder), folder)
    run.compile_ours()
    if options.update: return update(options, folder)
    is_whole = not (options.only or options.systems or options.rounds or options.size)
    found = measure_all(options)
    if options.into or is_whole: page.write(found, folder)


if __name__ == '__main__': main(sys.argv[1:])
