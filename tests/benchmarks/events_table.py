"""What the events table costs: bytes per event, one message's timeline, and what is new. Prints one line of JSON.

    python -m tests.benchmarks.events_table --events 20000000 --json

Four hops per message, UUIDv7 ids, one random trace id per message and a random 64-bit digest, on the embedded engine.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks.state_designs import BLOCK
from tests.benchmarks.watch import Watch, cpu_s, load, peak_rss_mb, spread
from tests.benchmarks.workload import FLOW, SPEC, Ids, Traffic
from tests.world.installation import T0, Installation
from tracker.store import Store
from tracker.store.bounds import Bounds

LOOKUPS = 500
LOOKS = 15
WAYS = {
    "as_asked_ms": "",
    "without_index_ms": " SETTINGS use_skip_indexes = 0",
    "every_part_ms": " SETTINGS use_skip_indexes = 0, use_statistics_for_part_pruning = 0",
}
""" "New since" with all that helps; without the skip index; without whole parts being left out by their statistics."""


def measure(events: int, ids: Ids, folder: Path) -> dict[str, Any]:
    """Insert, merge, then ask."""
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        traffic = Traffic(BLOCK, ids, T0)
        result: dict[str, Any] = {"ids": ids, "load_before": load()}
        result |= _filled(world.store, traffic, events)
        known = [bytes(row).decode() for block in traffic.sample for row in block.ids[:20]]
        result["timeline_ms"] = {"as_inserted": _timelines(world.store, known)}
        result["new_since"] = {"as_inserted": _new_since(world.store, traffic)}
        result["parts_as_inserted"] = world.store.stats()["events"]["parts"]
        world.store.engine.command(f"OPTIMIZE TABLE {world.store.engine.database}.events FINAL")
        stats = world.store.stats()
        result |= {"events": stats["events"]["rows"], "bytes": stats["events"]["bytes"]}
        result["bytes_per_event"] = round(result["bytes"] / result["events"], 2)
        result["columns"] = _columns(world.store)
        result["timeline_ms"]["merged"] = _timelines(world.store, known)
        result["new_since"]["merged"] = _new_since(world.store, traffic)
        return result | {"cpu_s": round(cpu_s(), 1), "peak_rss_mb": peak_rss_mb(), "load_after": load()}


def _filled(store: Store, traffic: Traffic, events: int) -> dict[str, float]:
    watch = Watch()
    for _ in range(events // (4 * BLOCK)):
        columns = traffic.next()
        with watch.around("insert"):
            store.insert_events(columns)
    return {"insert_s": round(watch.seconds["insert"], 1)}


def _timelines(store: Store, known: list[str]) -> dict[str, float]:
    """One message's timeline, of messages chosen at random; milliseconds."""
    taken = []
    for ident in random.Random(1).choices(known, k=LOOKUPS):
        started = time.perf_counter()
        found = store.timeline(FLOW, ident)
        taken.append((time.perf_counter() - started) * 1000)
        assert found, ident
    return spread(taken)


def _new_since(store: Store, traffic: Traffic) -> dict[str, Any]:
    """One insert more, then its events asked for as the next pass asks: with the skip index and without."""
    done = Bounds().next(store.stored_since(Bounds()), 0, 1 << 40)
    columns = traffic.next()
    store.insert_events(columns)
    bounds = done.next(store.stored_since(done), 0, 1 << 40)
    sql = (
        f"SELECT count() AS n, sum(cityHash64(message_id)) AS read FROM {store.engine.database}.events "
        f"WHERE tenant = '' AND flow = {{flow:String}} AND {bounds.new()}"
    )
    answer: dict[str, Any] = {"plan": _plan(store, sql, bounds), "rows": columns.num_rows}
    for name, clause in WAYS.items():
        taken = []
        for _ in range(LOOKS):
            started = time.perf_counter()
            store.engine.rows(sql + clause, {"flow": FLOW, **bounds.parameters})
            taken.append((time.perf_counter() - started) * 1000)
        answer[name] = spread(taken)
    return answer


def _plan(store: Store, sql: str, bounds: Bounds) -> dict[str, str]:
    """Granules that are left after each index, of those before it."""
    plan = store.engine.rows(f"EXPLAIN indexes = 1 {sql}", {"flow": FLOW, **bounds.parameters})
    left, index = {}, ""
    for line in (row["explain"].strip() for row in plan):
        if line in ("Min-Max", "Partition", "Statistics", "PrimaryKey", "Skip"):
            index = line
        if index and line.startswith("Granules:"):
            left[index], index = line.removeprefix("Granules:").strip(), ""
    return left


def _columns(store: Store) -> dict[str, float]:
    """Bytes per event of the columns that cost most."""
    rows = store.engine.rows(
        "SELECT column, sum(column_data_compressed_bytes) / sum(rows) AS bytes FROM system.parts_columns "
        f"WHERE active AND database = '{store.engine.database}' AND table = 'events' "
        "GROUP BY column ORDER BY bytes DESC LIMIT 12"
    )
    return {row["column"]: round(row["bytes"], 2) for row in rows}


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description="What the events table costs.")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--ids", choices=("uuid7", "uuid4"), default="uuid7")
    parser.add_argument("--json", action="store_true", help="one line, which is the default too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="events-table-") as folder:
        print(json.dumps(measure(given.events, given.ids, Path(folder))))


if __name__ == "__main__":
    main()
