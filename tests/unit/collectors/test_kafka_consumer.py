"""What an instrumented consumer records of many messages at once, without a broker."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message, TopicPartition

from collectors.instrument.confluent_kafka import ObservedConsumer
from collectors.instrument.observe import Observer
from tests.unit.collectors.test_kafka_producer import Kept
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Stage


class Broker:
    """A consumer that is given three messages at a time, and a session of its own."""

    def __init__(self) -> None:
        self.next = 0

    def consume(self, count: int, timeout: float) -> list[Message]:
        """The next three."""
        self.next += 3
        return [
            Message(topic="orders", partition=0, offset=n, value=b"x", headers=[(MESSAGE_ID, b"m-%d" % n)])
            for n in range(self.next - 3, self.next)
        ]

    def commit(self, **_: Any) -> None:
        """Taken."""

    def assign(self, _: list[TopicPartition]) -> None:
        """Taken."""

    def memberid(self) -> str:
        """None: partitions are assigned by hand."""
        return ""

    def consumer_group_metadata(self) -> None:
        """None."""


def test_an_ack_is_of_the_delivery_that_was_handed_over() -> None:
    """Also of one of many, and when another session has begun meanwhile: the ack names the delivery that was seen."""
    kept, broker = Kept(), Broker()
    consumer: Any = ObservedConsumer(broker, Observer(kept, "orders", "billing"), None, False)  # type: ignore[arg-type]
    consumer.assign([TopicPartition("orders", 0)])
    first, second, third = consumer.consume(3, 1.0)
    delivered = [event.delivery for event in kept.events]
    consumer.assign([TopicPartition("orders", 0)])
    for message in (second, first, third):
        consumer.commit(message=message)
    acks = [event for event in kept.events if event.stage is Stage.ack]
    assert [event.message_id for event in acks] == ["m-1", "m-0", "m-2"]
    assert sorted(event.delivery for event in acks) == sorted(delivered)


def test_no_more_is_kept_than_was_asked_for() -> None:
    """The next messages take the place of these; a late ack is made of the message itself."""
    kept, broker = Kept(), Broker()
    consumer: Any = ObservedConsumer(broker, Observer(kept, "orders", "billing"), None, False)  # type: ignore[arg-type]
    first, *_ = consumer.consume(3, 1.0)
    consumer.consume(3, 1.0)
    assert len(consumer._batch) == 3
    consumer.commit(message=first)
    assert (kept.events[-1].stage, kept.events[-1].message_id) == (Stage.ack, "m-0")
