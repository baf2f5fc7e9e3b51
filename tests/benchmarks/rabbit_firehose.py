"""The RabbitMQ firehose: messages per second of one process, from the trace queue to the tracker's yes. One JSON line.

    python -m tests.benchmarks.rabbit_firehose --records 100000 --json           # into a real tracker
    python -m tests.benchmarks.rabbit_firehose --records 100000 --sink --json    # into something that says yes at once

A real node on the same machine holds the traces before the clock starts. Of `--runs` the one is told in which the
collector took the least processor time per message.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pika

from collectors.carried import new_message_id
from collectors.rabbitmq.firehose import firehose
from tests.benchmarks import collecting
from tests.drills.scene import started_rabbitmq
from tests.servers.rabbitmq import RabbitMQ
from tracker.model.carry import ORIGIN_AT

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit-eu, stage: produce}
  - {hop: rabbit-eu, stage: persist, after: rabbit-eu:produce, within: 1h, coverage: watermark}
"""


def described(node: RabbitMQ, number: int) -> dict[str, Any]:
    """A collector with a trace queue of its own."""
    return {
        "name": f"firehose-{number}", "url": node.url,
        "exchanges": [{"exchange": "orders", "flow": "orders"}],
        "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit-eu"}],
    }  # fmt: skip


def fill(node: RabbitMQ, number: int, options: argparse.Namespace) -> None:
    """So many messages published while nobody reads their traces."""
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare("billing", durable=True)
        channel.queue_bind("billing", "orders", "#")
        collector = firehose(described(node, number))
        while not any(source.stage == "persist" for source in collector.sources() or ()):
            collector.read(10, 0.1)
        collector.close()
        payload = os.urandom(options.size)
        for _ in range(options.records):
            at = time.time_ns() // 1000
            about = pika.BasicProperties(message_id=new_message_id(at), headers={ORIGIN_AT: str(at)})
            channel.basic_publish("orders", "new", payload, about)
        channel.queue_purge("billing")  # answered behind all of them


def run(node: RabbitMQ, number: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run."""
    fill(node, number, options)
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, options.sink)
        process = collecting.collecting(stack, folder, told, {"kind": "rabbitmq", **described(node, number)})
        result = collecting.measured(told, process, options.records, {"broker": node.process})
    node.ctl("delete_queue", f"tracker.trace.firehose-{number}")
    return result


def main() -> None:
    """Print the best run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=300, help="bytes of a payload")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sink", action="store_true", help="no tracker: what the collector alone comes to")
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="firehose-") as name:
        folder = Path(name)
        with started_rabbitmq(folder / "rabbitmq") as node:
            runs = [run(node, number, options, folder / f"run-{number}") for number in range(options.runs)]
    result = {
        "system": "rabbitmq", "into": "sink" if options.sink else "tracker", "size": options.size, "runs": len(runs),
        "rates": [one["records_per_s"] for one in runs], **collecting.best(runs),
    }  # fmt: skip
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
