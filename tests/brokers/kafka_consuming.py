"""A consuming application, to be killed: `python -m tests.brokers.kafka_consuming SERVERS TOPIC GROUP SPOOL`.

It acks each message for itself, and says on stdout how many it has processed. It dies by the hand of the test.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from tracker.model.event import Stage

NOBODY = "http://127.0.0.1:1"


def main(servers: str, topic: str, group: str, spool: str) -> None:
    """Consume until killed. The tracker is away: all that is observed stays in the spool."""
    emitter = Emitter(NOBODY, collector="billing", spool=spool)
    observer = Observer(emitter, "orders", "billing", stages=[Stage.deliver, Stage.ack], source="app")
    settings = {
        "bootstrap.servers": servers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = instrument.consumer(Consumer(settings), observer)
    consumer.subscribe([topic])
    processed = 0
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            processed += 1
            consumer.commit(message=message, asynchronous=False)
            print(processed, message.offset(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
