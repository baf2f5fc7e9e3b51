"""The bare engine: the same typed rows into the same tables by the fastest way, merges on. One JSON line.

    python -m tests.benchmarks.bare --folder /tmp/bare --events 6000000 --lines 1000000

Nothing is checked or folded, nobody is answered: the limit that no service on this engine can pass. Half of the rows
come from one client, half from two, the better one counts. Then its own JSONEachRow: the bodies that the service is
sent, read and typed by the engine, on one stream.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from tests.benchmarks.watch import cpu_s
from tests.benchmarks.wire import Body, bodies, formats, rows
from tracker.store import Store
from tracker.store.engine import Engine
from tracker.store.writer import typed

BLOCK = 250_000
"""Rows of one insert."""
DICTIONARIES = ("flow", "hop", "stage", "node", "partition", "consumer_group")
DEFAULTS = (
    "tenant", "observed_span", "reason", "delivery", "region", "key_hash", "key", "attempt", "span_id",
    "correlation_id", "causation_id", "replay_id", "attributes", "backfill", "clock_offset",
)  # fmt: skip
"""Columns that hold nothing here but what the engine puts there itself."""
LINES = """
INSERT INTO tracker.events (flow, message_id, hop, stage, observed_at, origin_at, node, digest, size, partition, offset,
    consumer_group, trace_id, received_at, clock_error, lane, sequence)
SELECT flow, message_id, hop, stage, fromUnixTimestamp64Micro(observed_at), fromUnixTimestamp64Micro(origin_at), node,
    reinterpretAsUInt64(reverse(unhex(digest))), size, partition, offset, group, trace_id, now64(6), -1, 1, 1
FROM file('{path}', 'JSONEachRow', 'flow String, message_id String, hop String, stage String, observed_at Int64,
    origin_at Int64, node String, digest String, size UInt64, partition String, offset Int64 DEFAULT -1, group String,
    trace_id String')
"""


def tables(events: int) -> Iterator[pa.Table]:
    """Blocks of new events as the engine likes them best: typed, words as dictionaries, nothing that it fills in."""
    now = time.time_ns() // 1000
    made = bodies(BLOCK // 4, now, 100_000, seed=2)
    for n in range(events // BLOCK):
        four = pa.concat_tables([rows(block, hop, now) for block, hop in itertools.islice(made, 4)])
        table = typed(four.drop_columns(list(DEFAULTS)))
        for name, value in (("lane", 1), ("sequence", n + 1)):
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.uint64()), table.num_rows))
        for name in DICTIONARIES:
            words = table[name].combine_chunks().dictionary_encode()
            table = table.set_column(table.schema.get_field_index(name), name, words)
        yield table.combine_chunks()


def insert(client: Client, path: str, table: pa.Table) -> int:
    """A stream of columns that the engine reads from memory; how many rows."""
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    names = ", ".join(f"`{name}`" for name in table.column_names)
    client.command(f"INSERT INTO tracker.events ({names}) FROM INFILE '{path}' FORMAT ArrowStream")
    return int(table.num_rows)


def insert_lines(client: Client, path: str, lines: list[Body]) -> int:
    """Lines of JSON that the engine reads from memory."""
    Path(path).write_bytes(b"".join(lines))
    client.command(LINES.format(path=path))
    return sum(bytes(one).count(b"\n") for one in lines)


def timed(engine: Engine, clients: int, work: Callable[[Client, str, Any], int], blocks: Iterable[Any]) -> Timed:
    """Every block through `work` with so many clients."""

    def one(block: Any) -> int:
        descriptor = os.memfd_create("block")
        try:
            with engine.client() as client:
                return work(client, f"/proc/self/fd/{descriptor}", block)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(clients) as pool:
        spent, began = cpu_s(), time.perf_counter()
        count = sum(pool.map(one, blocks))
        return Timed(count / (time.perf_counter() - began), (cpu_s() - spent) / count * 1e6)


@dataclass(frozen=True)
class Timed:
    """Rows per second, and processor time per row, merges that ran meanwhile included."""

    per_s: float
    cpu_us: float


def measure(folder: Path, events: int, lines: int) -> dict[str, Any]:
    """Insert `events` rows as columns, then `lines` as JSON."""
    store = Store.open(f"chdb://{folder}", durability="process")
    store.migrate()
    made = list(tables(events))
    half = len(made) // 2
    first, second = timed(store.engine, 1, insert, made[:half]), timed(store.engine, 2, insert, made[half:])
    best = max(first, second, key=lambda one: one.per_s)
    said = {"events_per_s": round(best.per_s), "cpu_us": round(min(first.cpu_us, second.cpu_us), 3)}
    said |= {"one_client_per_s": round(first.per_s), "two_clients_per_s": round(second.per_s)}
    if lines:
        body = formats()["ndjson"].body
        source = bodies(BLOCK // 4, time.time_ns() // 1000, 100_000, seed=3)
        blocks = [[body(*one) for one in itertools.islice(source, 4)] for _ in range(max(lines // BLOCK, 1))]
        own = timed(store.engine, 1, insert_lines, blocks)
        said |= {"lines_per_s": round(own.per_s), "lines_cpu_us": round(own.cpu_us, 3)}
    store.close()
    return said


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description="Insert typed rows into the bare engine.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--events", type=int, default=6_000_000)
    parser.add_argument("--lines", type=int, default=0, help="so many as JSONEachRow, too")
    options = parser.parse_args()
    print(json.dumps(measure(options.folder, options.events, options.lines)))


if __name__ == "__main__":
    main()
