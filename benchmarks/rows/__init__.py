"""The rows of the table, in its order."""
from benchmarks.rows import (
    balance,
    bulk,
    cancel,
    cancel_end,
    chunks,
    death,
    flat,
    memory,
    paced,
    roundtrip,
    stall,
    stalls,
    start,
    store,
    stored,
    throughput,
)
from benchmarks.rows.base import Row

ROWS: dict[str, Row] = {row.name: row for row in (
    roundtrip.ROW, throughput.ROW, chunks.ROW, paced.ROW, cancel.LIGHT, cancel.HEAVY, cancel_end.ROW, death.ROW,
    stall.ROW, stalls.ROW, start.ROW, memory.ROW, flat.ROW, bulk.SMALL, bulk.LARGE,
    balance.ROW, store.ROW, stored.ROW)}
