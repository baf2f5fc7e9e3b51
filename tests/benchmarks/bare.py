"""The bare engine: the same typed rows into the same tables by the fastest way, merges on. One JSON line.

    python -m tests.benchmarks.bare --folder /tmp/bare --events 10000000

Nothing is decoded, checked or folded, nobody is answered: the limit that no service on this engine can pass.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.benchmarks.watch import cpu_s
from tests.benchmarks.wire import bodies, rows
from tracker.store import Store
from tracker.store.engine import Engine
from tracker.store.writer import typed

BLOCK = 250_000
"""Rows of one insert."""
_DICTIONARIES = (
    "tenant",
    "flow",
    "hop",
    "stage",
    "reason",
    "node",
    "region",
    "partition",
    "consumer_group",
    "replay_id",
)


def tables(events: int) -> Iterator[pa.Table]:
    """Blocks of new events as the engine likes them: dictionaries, timestamps, all columns."""
    now = time.time_ns() // 1000
    made = bodies(BLOCK // 4, now, 100_000, seed=2)
    for n in range(events // BLOCK):
        four = [rows(block, hop, now) for block, hop in itertools.islice(made, 4)]
        table = typed(pa.concat_tables(four))
        count = table.num_rows
        for name, value in (("lane", 1), ("sequence", n + 1)):
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.uint64()), count))
        for name in _DICTIONARIES:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].combine_chunks().dictionary_encode())
        yield table.combine_chunks()


def arrow(engine: Engine, table: pa.Table) -> None:
    """An Arrow stream through the client."""
    engine.insert("events", table)


def measure(folder: Path, events: int, clients: int) -> dict[str, Any]:
    """Insert `events` rows."""
    store = Store.open(f"chdb://{folder}", durability="process")
    store.migrate()
    made = list(tables(events))
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: store.engine.command("SELECT 1"), range(clients)))
        spent, began = cpu_s(), time.perf_counter()
        list(pool.map(lambda table: arrow(store.engine, table), made))
        took, used = time.perf_counter() - began, cpu_s() - spent
    count = sum(table.num_rows for table in made)
    store.close()
    return {
        "events": count,
        "events_per_s": round(count / took),
        "cpu_us": round(used / count * 1e6, 3),
        "seconds": round(took, 2),
    }


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description="Insert typed rows into the bare engine.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.folder, options.events, options.clients)))


if __name__ == "__main__":
    main()
