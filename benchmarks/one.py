"""One system in one row, in a process of its own: `python -m benchmarks.one ROW SYSTEM [SIZE]` prints a line of JSON.

A worker that `multiprocessing` spawns imports this script again. It is the empty main script of the row `start`, so
what it needs is imported where it is used.
"""
import sys


def main(row_name: str, key: str, size: str = '0') -> None:
    import asyncio
    import json

    from benchmarks.measure import pin
    from benchmarks.rows import ROWS
    row = ROWS[row_name]
    entry = row.entry(key)
    try:
        if row.is_pinned: pin()
        answer = asyncio.run(row.measure(entry, int(size) or entry.size or row.size))
    except ImportError as e: answer = {'skipped': f"{e.name} is not installed"}
    except NotImplementedError as e: answer = {'skipped': str(e)}
    print(json.dumps(answer))


if __name__ == '__main__': main(*sys.argv[1:])
