"""Takes parcels from a RabbitMQ queue: `python -m tests.e2e.story.packing SETTINGS`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tests.e2e.story.settings import Settings, told
from tests.e2e.story.truth import Truth
from tracker.model.event import Stage

PREFETCH = 200


def main(settings: Settings) -> int:
    """Until SIGTERM; 0 when the tracker has every observation."""
    emitter = Emitter(settings.tracker, settings.token, collector=settings.name, spool=settings.file("spool"))
    stages = [Stage.deliver, Stage.ack]
    observer = Observer(emitter, settings.flow, settings.hop, stages=stages, node=settings.name, source=settings.name)
    connection = pika.BlockingConnection(pika.URLParameters(settings.broker))
    channel = instrument.channel(connection.channel(), observer)
    channel.basic_qos(prefetch_count=PREFETCH)
    truth = Truth(settings.file("truth"))

    def pack(_: Any, method: Any, properties: Any, _body: bytes) -> None:
        truth.write("processed", properties.message_id)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(settings.queue, pack)
    signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
    channel.start_consuming()
    connection.close()
    observer.close()
    return 0 if emitter.close(60) and not observer.counts.errors else 1


if __name__ == "__main__":
    sys.exit(main(told()))
