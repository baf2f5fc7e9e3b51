"""What lies in the folder of a stopped service: `python -m tests.benchmarks.ledger FOLDER`. One JSON line.

A process of its own, because a process opens one folder only. Last it merges everything, which says what an event
takes in the long run.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.proc import disk_bytes
from tests.benchmarks.workload import FLOW
from tracker.store import Store
from tracker.store.engine import Engine

BUCKETS = 16
"""Keys are counted apart by so many ranges of a hash, to bound the memory."""
KEY = "flow, message_id, hop, stage, node, delivery, digest"


def distinct(engine: Engine) -> tuple[int, int]:
    """Events, and distinct natural keys, exactly."""
    keys = 0
    for bucket in range(BUCKETS):
        keys += engine.rows(
            f"SELECT count() AS n FROM (SELECT 1 FROM {engine.database}.events "
            f"WHERE flow = {{flow:String}} AND cityHash64(message_id) % {BUCKETS} = {{bucket:UInt8}} GROUP BY {KEY})",
            {"flow": FLOW, "bucket": bucket},
        )[0]["n"]
    events = engine.rows(f"SELECT count() AS n FROM {engine.database}.events WHERE flow = {{flow:String}}",
                         {"flow": FLOW})[0]["n"]  # fmt: skip
    return int(events), int(keys)


def merged(engine: Engine) -> dict[str, int]:
    """Merge every table to the end and drop what merges left behind; bytes of the active parts of each table."""
    names = [row["name"] for row in engine.rows(
        "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'",
        {"database": engine.database},
    )]  # fmt: skip
    for name in names:
        engine.command(f"ALTER TABLE {engine.database}.{name} MODIFY SETTING old_parts_lifetime = 0")
        engine.command(f"OPTIMIZE TABLE {engine.database}.{name} FINAL")
    left = "SELECT count() AS n FROM system.parts WHERE NOT active AND database = {database:String}"
    deadline = time.monotonic() + 120
    while engine.rows(left, {"database": engine.database})[0]["n"] and time.monotonic() < deadline:
        time.sleep(1)
    sizes = (
        "SELECT table, sum(bytes_on_disk) AS n FROM system.parts "
        "WHERE active AND database = {database:String} GROUP BY table"
    )
    return {row["table"]: int(row["n"]) for row in engine.rows(sizes, {"database": engine.database}) if row["n"]}


def main() -> None:
    """Count, then merge and weigh."""
    ledger = Path(sys.argv[1])
    said: dict[str, Any] = {"bytes": disk_bytes(ledger)}
    store = Store.open(f"chdb://{ledger}", durability="process")
    said["events"], said["stored"] = distinct(store.engine)
    if "--merge" in sys.argv:
        said["tables"] = merged(store.engine)
    store.close()
    said["merged_bytes"] = disk_bytes(ledger)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
