"""The Kafka tail: records per second of one process, from the broker to the tracker's yes. One line of JSON.

    python -m tests.benchmarks.kafka_tail --records 1000000 --json           # into a real tracker
    python -m tests.benchmarks.kafka_tail --records 1000000 --sink --json    # into something that says yes at once

A real broker on the same machine holds the records before the clock starts; `collectors run` reads them from their
beginning. Of `--runs` the one is told in which the collector took the least processor time per record.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from collectors.carried import new_message_id
from tests.benchmarks import collecting
from tests.drills.scene import started_kafka
from tests.servers.kafka import Kafka
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT

SPEC = """flow: orders
checkpoints:
  - {hop: kafka-eu, stage: produce}
  - {hop: kafka-eu, stage: persist, after: kafka-eu:produce, within: 1h, coverage: watermark}
"""


def fill(node: Kafka, topic: str, options: argparse.Namespace) -> None:
    """The topic with so many records: an id and an origin time as headers, random bytes as the payload."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, options.partitions, 1)])[topic].result(30)
    producer = Producer({
        "bootstrap.servers": node.bootstrap, "linger.ms": 50, "batch.size": 1_000_000, "log_level": 0,
        "queue.buffering.max.messages": 1_000_000,
    })  # fmt: skip
    payload = os.urandom(options.size)
    for number in range(options.records):
        at = time.time_ns() // 1000
        headers: list[tuple[str, str | bytes | None]] = [
            (MESSAGE_ID, new_message_id(at).encode()),
            (ORIGIN_AT, b"%d" % at),
        ]
        while True:
            try:
                producer.produce(topic, payload, headers=headers, partition=number % options.partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise SystemExit("the broker did not take all records")


def run(node: Kafka, number: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run, with a name and so a position of its own."""
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, options.sink)
        topics = [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}]
        described = {"name": f"tail-{number}", "kind": "kafka", "url": f"kafka://{node.bootstrap}", "topics": topics}
        process = collecting.collecting(stack, folder, told, described)
        return collecting.measured(told, process, options.records, {"broker": node.process})


def main() -> None:
    """Print the best run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=300, help="bytes of a payload")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sink", action="store_true", help="no tracker: what the collector alone comes to")
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tail-") as name:
        folder = Path(name)
        with started_kafka(folder / "kafka") as node:
            fill(node, "orders", options)
            runs = [run(node, number, options, folder / f"run-{number}") for number in range(options.runs)]
    result = {
        "system": "kafka", "into": "sink" if options.sink else "tracker", "size": options.size, "runs": len(runs),
        "rates": [one["records_per_s"] for one in runs], **collecting.best(runs),
    }  # fmt: skip
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
