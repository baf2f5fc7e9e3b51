"""The Kafka tail: records per second of one process, from the broker to the tracker's yes. One line of JSON.

    python -m tests.benchmarks.kafka_tail --records 1000000 --json           # into a real tracker
    python -m tests.benchmarks.kafka_tail --records 1000000 --sink --json    # into something that says yes at once

A real broker on the same machine holds the records before the clock starts; `collectors run` reads them from their
beginning. Of `--runs` the one is told in which the collector took the least processor time per record. Before each run
the client library reads the same records by itself, with the tail's own settings, and lets go of them (`bare`): no
collector can be quicker than that in the same minute.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from collectors.carried import new_message_id
from collectors.kafka.reader import AT_ONCE, driver
from collectors.kafka.tail_config import TailConfig
from collectors.part import settings
from tests.benchmarks import collecting
from tests.drills.scene import started_kafka
from tests.servers.kafka import Kafka
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT

SPEC = """flow: orders
checkpoints:
  - {hop: kafka-eu, stage: produce}
  - {hop: kafka-eu, stage: persist, after: kafka-eu:produce, within: 1h, coverage: watermark}
"""


def create(node: Kafka, topic: str, partitions: int) -> None:
    """The topic, empty."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


def fill(node: Kafka, topic: str, options: argparse.Namespace) -> None:
    """So many records: an id and an origin time as headers, random bytes as the payload."""
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


def bare(node: Kafka, number: int, options: argparse.Namespace) -> dict[str, float]:
    """What librdkafka and its Python client come to, in this process, from the first records to the last."""
    route = {"topic": "orders", "flow": "orders", "hop": "kafka-eu"}
    config = settings(TailConfig, {"url": f"kafka://{node.bootstrap}", "topics": [route]}, "bare")
    with closing(Consumer(driver(config, f"bare-{number}", config.isolation))) as consumer:
        consumer.assign([TopicPartition("orders", each, OFFSET_BEGINNING) for each in range(options.partitions)])
        count = _taken(consumer)
        began, spent, first = time.perf_counter(), time.process_time(), count
        while count < options.records:
            count += _taken(consumer)
        seconds, used = time.perf_counter() - began, time.process_time() - spent
    return {"records_per_s": round((count - first) / seconds), "cpu_us_per_record": round(used / count * 1e6, 2)}


def _taken(consumer: Consumer) -> int:
    """How many records the next call gives."""
    return sum(message.error() is None for message in consumer.consume(AT_ONCE, 1.0))


def run(node: Kafka, number: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run, with a name and so a position of its own."""
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, options.sink)
        topics = [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}]
        described = {"name": f"tail-{number}", "kind": "kafka", "url": f"kafka://{node.bootstrap}", "topics": topics}
        alone = bare(node, number, options)
        process = collecting.collecting(stack, folder, told, described)
        measured = collecting.measured(told, process, options.records, {"broker": node.process})
        return {**measured, "bare": alone, "of_bare": round(measured["records_per_s"] / alone["records_per_s"], 2)}


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
            create(node, "orders", options.partitions)
            fill(node, "orders", options)
            runs = [run(node, number, options, folder / f"run-{number}") for number in range(options.runs)]
    result = {
        "system": "kafka", "into": "sink" if options.sink else "tracker", "size": options.size, "runs": len(runs),
        "rates": [one["records_per_s"] for one in runs], **collecting.best(runs),
    }  # fmt: skip
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
