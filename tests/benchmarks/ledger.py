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
from tracker.store import Store
from tracker.store.engine import Engine

KEYS = """
SELECT count() AS n FROM (
    SELECT 1 FROM {db}.events GROUP BY tenant, flow, message_id, hop, stage, node, delivery, digest
) SETTINGS optimize_aggregation_in_order = 1
"""


def distinct(engine: Engine) -> tuple[int, int]:
    """Events, and distinct natural keys, exactly; in the order of the table, so any number of them."""
    counts = (f"SELECT count() AS n FROM {engine.database}.events", KEYS.format(db=engine.database))
    events, keys = (int(engine.rows(sql)[0]["n"]) for sql in counts)
    return events, keys


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


def columns(engine: Engine) -> dict[str, int]:
    """Bytes of the ten largest columns, as `table.column`."""
    sizes = (
        "SELECT concat(table, '.', column) AS name, sum(column_bytes_on_disk) AS n FROM system.parts_columns "
        "WHERE active AND database = {database:String} GROUP BY name ORDER BY n DESC LIMIT 10"
    )
    return {row["name"]: int(row["n"]) for row in engine.rows(sizes, {"database": engine.database})}


def main() -> None:
    """Count, then merge and weigh."""
    ledger = Path(sys.argv[1])
    said: dict[str, Any] = {"bytes": disk_bytes(ledger)}
    store = Store.open(f"chdb://{ledger}", durability="process")
    said["events"], said["stored"] = distinct(store.engine)
    if "--merge" in sys.argv:
        said["tables"] = merged(store.engine)
        said["columns"] = columns(store.engine)
    store.close()
    said["merged_bytes"] = disk_bytes(ledger)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
