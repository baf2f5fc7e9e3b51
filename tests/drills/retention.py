"""A consumer is away for longer than its topic keeps records. What was deleted meanwhile nobody has; when it comes back
its client goes on where the log begins now, and says nothing.

    python -m tests.drills.retention --json
    python -m tests.drills.retention --kill --json
"""

from __future__ import annotations

from pathlib import Path

from tests.drills import truth
from tests.drills.reading import produce, reading
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_kafka

SPEC = """flow: orders
checkpoints:
  - {hop: kafka, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: kafka, within: 60s, coverage: watermark}
"""
KEPT_MS = "12000"
READ, UNREAD, AFTER = range(1000), range(1000, 1700), range(1700, 3000)


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the brokers had confirmed between where the group stood and where the log began when it came
    back, by their own offsets."""
    often = {"log_retention_check_interval_ms": "500", "log_initial_task_delay_ms": "500"}
    with started_kafka(folder / "kafka", **often) as broker:
        url = f"kafka://{broker.bootstrap}"
        collectors = [
            {"name": "kafka", "kind": "kafka", "url": url,
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}]},
            {"name": "groups", "kind": "kafka-groups", "url": url,
             "groups": [{"group": "billing", "topic": "orders", "flow": "orders", "hop": "billing", "log": "kafka"}]},
        ]  # fmt: skip
        broker.create_topic("orders", 2, {"retention.ms": KEPT_MS})
        with scene(folder, SPEC, collectors) as made:
            made.watch(sources=4)
            with reading(broker.bootstrap, "billing", "orders") as before:
                produce(broker.bootstrap, "orders", [f"m-{n}" for n in READ])
                made.until(lambda: len(before) == len(READ), "the application")
            placed = produce(broker.bootstrap, "orders", [f"m-{n}" for n in UNREAD])
            made.until(lambda: _persisted(made.books()) >= UNREAD.stop, "the tail")
            if kill:
                made.kill_collectors()
            ends = truth.ends(broker.bootstrap, "orders")
            made.until(lambda: truth.begins(broker.bootstrap, "orders") == ends, "retention")
            stood, begins = truth.committed(broker.bootstrap, "billing", "orders"), ends
            lost = {one for one, (part, at) in placed.items() if stood[part] <= at < begins[part]}
            if kill:
                made.watch(sources=4)
            with reading(broker.bootstrap, "billing", "orders") as after:
                produce(broker.bootstrap, "orders", [f"m-{n}" for n in AFTER])
                made.until(lambda: len(after) == len(AFTER), "the application")
            made.decided(AFTER.stop)
            found = made.findings()
            assert all("(expired)" in one["why"] and one["held_by"] == [] for one in found), found[:3]
            assert lost.isdisjoint(before | after)
            return made.result("retention", sorted(lost), blind=made.unknown(lost), killed=kill)


def _persisted(books: dict[str, dict[str, int]]) -> int:
    return sum(books["verdicts"].values())


if __name__ == "__main__":
    end(main(drill, __doc__))
