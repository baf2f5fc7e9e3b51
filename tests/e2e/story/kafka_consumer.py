"""Billing and inventory: `python -m tests.e2e.story.kafka_consumer SETTINGS`. Acks each order, commits each batch."""

from __future__ import annotations

import os
import signal
import sys

from confluent_kafka import Consumer

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from tests.e2e.story.orders import skipped
from tests.e2e.story.running import Stopping
from tests.e2e.story.settings import Settings, told
from tests.e2e.story.truth import Truth
from tracker.model.carry import MESSAGE_ID, REPLAY_ID
from tracker.model.event import Stage

BATCH = 200


def main(settings: Settings) -> int:
    """Until SIGTERM; 0 when the tracker has every observation."""
    stopping = Stopping()
    emitter = Emitter(settings.tracker, settings.token, collector=settings.name, spool=settings.file("spool"))
    stages = [Stage.deliver, Stage.ack]
    observer = Observer(emitter, settings.flow, settings.hop, stages=stages, node=settings.name, source=settings.name)
    consumer = instrument.consumer(Consumer(_client(settings)), observer)
    consumer.subscribe([settings.topic])
    truth = Truth(settings.file("truth"))
    done = 0
    while not stopping:
        batch = consumer.consume(BATCH, 0.5)
        for message in batch:
            if message.error() is not None:
                raise RuntimeError(message.error())
            headers = dict(message.headers() or ())
            name, replay = headers[MESSAGE_ID].decode(), headers.get(REPLAY_ID, b"").decode()
            if settings.skips and skipped(name):
                truth.write("skipped", name, replay)
                continue
            truth.write("processed", name, replay)
            consumer.ack(message)
            done += 1
            if done == settings.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)  # observed, not committed: the brokers hand it out again
        if batch:
            consumer.commit(asynchronous=False)
    consumer.close()
    observer.close()
    return 0 if emitter.close(60) and not observer.counts.errors else 1


def _client(settings: Settings) -> dict[str, object]:
    """A static member: the process that takes over after a kill need not wait for the dead one's session to end."""
    return {
        "bootstrap.servers": settings.broker,
        "group.id": settings.group,
        "group.instance.id": settings.name,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }


if __name__ == "__main__":
    sys.exit(main(told()))
