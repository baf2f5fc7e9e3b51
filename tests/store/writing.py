"""A process that inserts until it is killed, and one that looks at what is left.

python -m tests.store.writing FOLDER ROWS           # "begin N" before, "done N" after each insert
python -m tests.store.writing FOLDER ROWS --look    # {"number": events}, as JSON
"""

from __future__ import annotations

import json
import sys

import pyarrow as pa

from tests.benchmarks.workload import filled
from tracker.store import Store

CHUNKS = 4


def batch(rows: int, number: int) -> pa.Table:
    """Events of `rows` messages, in several chunks as a group of requests makes them; `attempt` is the number."""
    one = filled(
        rows // CHUNKS,
        flow="orders",
        message_id=pa.array([f"{number}-{n}" for n in range(rows // CHUNKS)]),
        hop="log",
        stage="persist",
        observed_at=1_800_000_000_000_000,
        received_at=1_800_000_000_000_000 + number,
        partition="orders/0",
        offset=number,
        attempt=number,
    )
    return pa.concat_tables([one] * CHUNKS)


def write(folder: str, rows: int) -> None:
    """Insert for ever, saying what begins and what is done."""
    store = Store.open(f"chdb://{folder}")
    store.migrate()
    for number in range(1, 60_000):
        columns = batch(rows, number)
        print(f"begin {number}", flush=True)
        store.insert_events(columns)
        print(f"done {number}", flush=True)


def look(folder: str) -> None:
    """Events per insert."""
    store = Store.open(f"chdb://{folder}")
    rows = store.engine.rows("SELECT attempt AS number, count() AS n FROM tracker.events GROUP BY number")
    print(json.dumps({str(row["number"]): row["n"] for row in rows}))
    store.close()


if __name__ == "__main__":
    if "--look" in sys.argv:
        look(sys.argv[1])
    else:
        write(sys.argv[1], int(sys.argv[2]))
