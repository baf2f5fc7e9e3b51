"""A binding is removed in mid-stream. RabbitMQ goes on confirming every publish, and drops what it cannot route.

python -m tests.drills.binding_removed --json
python -m tests.drills.binding_removed --kill --json
"""

from __future__ import annotations

import time
from pathlib import Path

import pika

from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import channel_to, scene, started_rabbitmq

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit, stage: persist, coverage: watermark}
"""
MESSAGES, UNBOUND = 3000, range(1000, 1700)


def drill(folder: Path, kill: bool) -> Result:
    """Publishes to an exchange; the truth is what was confirmed and is not in the queue."""
    with started_rabbitmq(folder / "rabbitmq") as broker:
        collector = {
            "name": "rabbit", "kind": "rabbitmq", "url": broker.url,
            "exchanges": [{"exchange": "orders", "flow": "orders", "unroutable_hop": "rabbit"}],
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit"}],
        }  # fmt: skip
        with channel_to(broker.url) as channel:
            channel.exchange_declare("orders", "topic", durable=True)
            channel.queue_declare("billing", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("billing", "orders", "order.#")
            channel.confirm_delivery()
            with scene(folder, SPEC, [collector]) as made:
                made.watch(sources=1)
                for number in range(MESSAGES):
                    if number == UNBOUND.start:
                        channel.queue_unbind("billing", "orders", "order.#")
                    if number == UNBOUND.stop:
                        channel.queue_bind("billing", "orders", "order.#")
                    if kill and number == UNBOUND.start + len(UNBOUND) // 2:
                        made.kill_collectors()
                    properties = pika.BasicProperties(message_id=f"m-{number}", delivery_mode=2)
                    channel.basic_publish("orders", "order.new", b"{}", properties)
                if kill:
                    time.sleep(3)
                    made.watch(sources=1)
                made.settled(MESSAGES)
                confirmed = {f"m-{number}" for number in range(MESSAGES)}
                lost = confirmed - truth.in_queue(broker.url, "billing")
                return made.result("binding_removed", sorted(lost), killed=kill)


if __name__ == "__main__":
    end(main(drill, __doc__))
