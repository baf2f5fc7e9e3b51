"""A consumer is too slow for its queue, which has a TTL and a length. RabbitMQ confirms every publish, and forgets what
nobody took in time and what there is no room for.

    python -m tests.drills.queue_overflown --json
    python -m tests.drills.queue_overflown --kill --json
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import channel_to, scene, started_rabbitmq
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit,  stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: rabbit, within: 2m, coverage: watermark}
"""
MESSAGES, LENGTH, TTL = 3000, 400, 2000
"""How many are published, how many the queue keeps, for how many milliseconds."""
SOURCES = 3
"""`persist` and `drop` of the queue, `ack` of the consumer."""


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what was confirmed, was not acked by the application's own list, and is not in the queue."""
    with started_rabbitmq(folder / "rabbitmq") as broker:
        queues = [{"queue": "billing", "flow": "orders", "hop": "rabbit"}]
        gone = [{"exchange": "orders.gone", "means": "dropped"}]
        collectors: list[dict[str, Any]] = [
            {"name": "rabbit", "kind": "rabbitmq", "url": broker.url, "queues": queues},
            {
                "name": "dead",
                "kind": "rabbitmq-dead-letters",
                "url": broker.url,
                "queues": queues,
                "dead_letters": gone,
            },
        ]
        with channel_to(broker.url) as channel:
            channel.exchange_declare("orders.gone", "fanout", durable=True)
            arguments = {"x-max-length": LENGTH, "x-message-ttl": TTL, "x-dead-letter-exchange": "orders.gone"}
            channel.queue_declare("billing", durable=True, arguments=arguments)
            channel.confirm_delivery()
            with scene(folder, SPEC, collectors) as made:
                emitter = Emitter(made.service.url, "", collector="billing-1", spool=folder / "billing")
                observer = Observer(emitter, "orders", "billing", stages=[Stage.ack])
                made.watch(sources=SOURCES)
                done, acked = threading.Event(), set[str]()
                consumer = threading.Thread(target=_consume, args=(broker.url, observer, done, acked))
                consumer.start()
                for number in range(MESSAGES):
                    if kill and number == MESSAGES // 2:
                        made.kill_collectors()
                    channel.basic_publish("", "billing", b"{}", pika.BasicProperties(message_id=f"m-{number}"))
                if kill:
                    made.watch(sources=SOURCES)
                made.until(lambda: channel.queue_declare("billing", passive=True).method.message_count == 0, "the end")
                done.set()
                consumer.join()
                lost = {f"m-{number}" for number in range(MESSAGES)} - acked - truth.in_queue(broker.url, "billing")
                made.settled(MESSAGES)
                emitter.close()
                return made.result("queue_overflown", sorted(lost), killed=kill)


def _consume(url: str, observer: Observer, done: threading.Event, acked: set[str]) -> None:
    """An application that takes one message after the other, slowly, and notes what it acked."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = instrument.channel(connection.channel(), observer)
        channel.basic_qos(prefetch_count=1)
        for method, properties, _ in channel.consume("billing", inactivity_timeout=0.2):
            if method is not None:
                time.sleep(0.01)
                channel.basic_ack(method.delivery_tag)
                acked.add(str(properties.message_id))
            elif done.is_set():
                return


if __name__ == "__main__":
    end(main(drill, __doc__))
