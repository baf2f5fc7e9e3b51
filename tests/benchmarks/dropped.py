"""What the reconciler makes of messages that a log lost unread, on the embedded engine; prints one line of JSON.

    python -m tests.benchmarks.dropped --messages 200000 --ranges 1 --ranges 100 --ranges 5000 --json

For each number of ranges a ledger of its own: all messages lie in one partition, in no order of their ids. A group has
moved past the first half, in as many ranges, and retention took the second half, in as many; a pass of their own judges
these: `pass_s`. `refer_s` is what of it the reference took, with all that it reads and is held against.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from tests.benchmarks.watch import Watch, cpu_s, load, peak_rss_mb
from tests.benchmarks.workload import filled, texts, uuids
from tests.world.installation import T0, Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Range, Stage
from tracker.reconcile.hearing import Hearing

FLOW = "orders"
SPEC = f"""
flow: {FLOW}
checkpoints:
  - {{hop: kafka, stage: persist}}
  - {{hop: billing, stage: ack, after: kafka, within: 1h}}
"""
PARTITION = f"{FLOW}/0"
SECOND = 1_000_000


def measure(messages: int, ranges: int, folder: Path) -> dict[str, Any]:
    """One pass over the drop of half of `messages`, told as so many `ranges`."""
    half = messages // 2
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        origins = np.full(messages, T0, dtype=np.int64)
        ids = uuids(np.random.default_rng(5), origins, "uuid4")
        world.store.insert_events(filled(
            messages, flow=FLOW, message_id=texts(ids), hop="kafka", stage="persist", observed_at=origins,
            origin_at=origins, partition=PARTITION, offset=np.arange(messages), received_at=origins,
        ))  # fmt: skip
        world.move(_told(0, half, ranges, "billing", Stage.ack))
        _pass(world, 2)
        watch = Watch()
        watch.on(Hearing, "_refer", "refer_s")
        world.move(_told(half, messages, ranges, "kafka", Stage.drop, "expired"))
        cpu, started = cpu_s(), time.perf_counter()
        judged = _pass(world, 4)
        seconds, spent = time.perf_counter() - started, cpu_s() - cpu
        states = f"{world.store.engine.database}.states"
        rows = world.store.engine.rows(f"SELECT verdict, count() AS n FROM {states} FINAL GROUP BY verdict")
    found = {row["verdict"]: row["n"] for row in rows}
    if found != {"delivered": half, "lost": messages - half}:
        raise RuntimeError(f"of {messages} messages half were dropped, and {found} were found")
    taken = watch.taken()
    return {"ranges": ranges, "judged": judged, "pass_s": round(seconds, 2), "pass_cpu_s": round(spent, 2),
            "refer_s": round(taken["refer_s"], 2)}  # fmt: skip


def _told(low: int, high: int, count: int, hop: str, stage: Stage, reason: str = "") -> list[Range]:
    """The offsets from `low` up to, not including, `high`, in so many ranges, each of at least one."""
    cuts = np.linspace(low, high, min(count, high - low) + 1).astype(int).tolist()
    return [
        Range(
            flow=FLOW, hop=hop, stage=stage, reason=reason, log="kafka", partition=PARTITION, offset=begin,
            offset_to=end, observed_from=T0, observed_at=T0 + SECOND, evidence="range", group="billing",
        )
        for begin, end in itertools.pairwise(cuts)
    ]  # fmt: skip


def _pass(world: Installation, seconds: int) -> int:
    """A pass so many seconds after the first event; how many messages it judged."""
    world.now = T0 + seconds * SECOND
    world.vouch([
        SourceRef(FLOW, "kafka", "persist", "all"), SourceRef(FLOW, "billing", "ack", "group", evidence="range"),
    ])  # fmt: skip
    return world.run_pass().messages


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--ranges", type=int, action="append", help="of each half; may be repeated")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    before, runs = load(), []
    for ranges in asked.ranges or [1, 100, 5_000]:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(asked.messages, ranges, Path(folder)))
    found = {"messages": asked.messages, "runs": runs, "peak_rss_mb": peak_rss_mb(), "load_average": [before, load()]}
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
