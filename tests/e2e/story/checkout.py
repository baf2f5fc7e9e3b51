"""Sends orders into a Kafka topic: `python -m tests.e2e.story.checkout SETTINGS`."""

from __future__ import annotations

import sys

from confluent_kafka import Producer

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from tests.e2e.story.orders import order
from tests.e2e.story.running import paced
from tests.e2e.story.settings import Settings, told
from tests.e2e.story.truth import Truth
from tracker.model.event import Stage


def main(settings: Settings) -> int:
    """0 when the brokers confirmed every order and the tracker has every observation."""
    emitter = Emitter(settings.tracker, settings.token, collector=settings.name, spool=settings.file("spool"))
    observer = Observer(
        emitter, settings.flow, settings.hop, stages=[Stage.produce], node=settings.name, source=settings.name
    )
    producer = instrument.producer(Producer({"bootstrap.servers": settings.broker, "linger.ms": 5}), observer)
    truth = Truth(settings.file("truth"))
    for number in paced(settings.count, settings.rate):
        name = order(number)
        truth.write("sent", name)
        body = f'{{"order": {number}}}'.encode()
        producer.produce(settings.topic, body, key=name.encode(), headers=[("x-message-id", name.encode())])
        producer.poll(0)
    unconfirmed = producer.flush(60)
    observer.close()
    return 0 if emitter.close(60) and not unconfirmed and not observer.counts.errors else 1


if __name__ == "__main__":
    sys.exit(main(told()))
