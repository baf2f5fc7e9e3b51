"""What it costs to put events into the tracker's spool and to take them out again, against nothing but a disk.

    python -m tests.benchmarks.spool --events 1000000 --batch 5000 --json

`in_us` and `out_us` are processor time per event, `bytes_per_event` is what they take on disk, `syncs` how often the
disk was waited for, `in_events_per_s` with these waits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.benchmarks.workload import Traffic
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.spool import Spool
from tracker.reconcile import now_us

GROUP = 4
"""Batches that share an fsync."""


def measure(events: int, batch: int, folder: Path) -> dict[str, float]:
    """The numbers of one run."""
    table = Traffic(events // 2, "uuid7", now_us()).next()
    batches = [Batch(Accepted(batch, 0), events=table.slice(n, batch)) for n in range(0, table.num_rows, batch)]
    spool = Spool.open(folder, 1 << 40, True, "benchmark", now_us)
    began, processor, syncs = time.monotonic(), time.process_time(), 0
    for n in range(0, len(batches), GROUP):
        spool.append(batches[n : n + GROUP])
        syncs += 1
    into, waited, size = time.process_time() - processor, time.monotonic() - began, spool.size
    processor, rows = time.process_time(), 0
    while held := spool.peek(100_000):
        rows += sum(one.batch.rows for one in held)
        spool.done(held[-1])
    out = time.process_time() - processor
    spool.close()
    return {
        "events": rows,
        "batch": batch,
        "bytes_per_event": round(size / rows, 1),
        "in_us": round(into / rows * 1e6, 2),
        "out_us": round(out / rows * 1e6, 2),
        "in_events_per_s": round(rows / waited),
        "syncs": syncs,
    }


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=5_000, help="events of one request")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.events, given.batch, Path(folder))
    print(json.dumps(found) if given.json else "  ".join(f"{name} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
