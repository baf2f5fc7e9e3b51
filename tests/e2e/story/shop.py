"""Publishes parcels to a RabbitMQ exchange, some under a misspelt key: `python -m tests.e2e.story.shop SETTINGS`."""

from __future__ import annotations

import sys

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tests.e2e.story.orders import misrouted, parcel
from tests.e2e.story.running import paced
from tests.e2e.story.settings import Settings, told
from tests.e2e.story.truth import Truth
from tracker.model.event import Stage


def main(settings: Settings) -> int:
    """0 when the broker confirmed every parcel (the misrouted ones, too) and the tracker has every observation."""
    emitter = Emitter(settings.tracker, settings.token, collector=settings.name, spool=settings.file("spool"))
    observer = Observer(
        emitter, settings.flow, settings.hop, stages=[Stage.produce], node=settings.name, source=settings.name
    )
    connection = pika.BlockingConnection(pika.URLParameters(settings.broker))
    channel = instrument.channel(connection.channel(), observer)
    channel.confirm_delivery()
    truth = Truth(settings.file("truth"))
    for number in paced(settings.count, settings.rate):
        name, wrong = parcel(number), misrouted(number)
        truth.write("misrouted" if wrong else "sent", name)
        properties = pika.BasicProperties(message_id=name, delivery_mode=2)
        key = "parcel.nwe" if wrong else "parcel.new"
        channel.basic_publish(settings.exchange, key, f'{{"parcel": {number}}}'.encode(), properties)
    connection.close()
    observer.close()
    return 0 if emitter.close(60) and not observer.counts.errors else 1


if __name__ == "__main__":
    sys.exit(main(told()))
