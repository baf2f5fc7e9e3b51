"""Kafka: taking messages from a topic as an application does. Implements `Receiver` of `tracker.model.carry`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from pydantic import Field

from collectors.carried import carried, headers_of
from collectors.kafka.client import PASSING, Cluster, driver_errors, translated
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, Received

MOST = 500
"""Records of one call."""


class ReceiverConfig(Cluster):
    """The `config` of a Kafka receiver: which topic, in which consumer group."""

    topic: str
    group: str
    identity_header: str = MESSAGE_ID
    timeout: float = Field(30.0, gt=0)


def receiver(config: Mapping[str, Any]) -> KafkaReceiver:
    """A receiver as configured. Raises `ConfigInvalid`."""
    return KafkaReceiver(settings(ReceiverConfig, config, "Kafka receiver"))


class KafkaReceiver:
    """A member of its group that commits what it is told to. Where the group is new it begins at the beginning."""

    def __init__(self, config: ReceiverConfig) -> None:
        self._config = config
        self._what = f"Kafka {config.servers}"
        self._session = f"{uuid.uuid4().hex[:12]}.0"
        self._assigned = 0
        with driver_errors(self._what):
            self._consumer = Consumer(
                config.driver(group_id=config.group, enable_auto_commit=False, auto_offset_reset="earliest")
            )
            self._consumer.subscribe([config.topic], on_assign=self._begin)

    def receive(self, wait: float) -> list[Received]:
        """What has come. Records without an id of the flow are left out: they are nobody's canary. Raises
        `Unavailable`, and `ConfigInvalid` where trying again would not help."""
        with driver_errors(self._what):
            messages = self._consumer.consume(MOST, wait)
        taken = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.code() in PASSING:
                    continue
                raise translated(error, self._what)
            if (one := self._received(message)) is not None:
                taken.append(one)
        return taken

    def settle(self, received: Sequence[Received]) -> None:
        """Commit behind the last of each partition. Raises `Unavailable`."""
        ends: dict[int, int] = {}
        for one in received:
            number, offset = one.position
            ends[number] = max(ends.get(number, 0), offset + 1)
        places = [TopicPartition(self._config.topic, number, offset) for number, offset in ends.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise translated(error, self._what) from None

    def close(self) -> None:
        """Leave the group."""
        with driver_errors(self._what):
            self._consumer.close()

    def _begin(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._assigned += 1
        self._session = f"{self._session.partition('.')[0]}.{self._assigned}"

    def _received(self, message: Any) -> Received | None:
        try:
            headers = dict(headers_of(message) or ())
        except ValueError:
            return None
        if not (name := carried(headers, self._config.identity_header).message_id):
            return None
        where = {"partition": f"{message.topic()}/{message.partition()}", "offset": message.offset(),
                 "group": self._config.group, "session": self._session}  # fmt: skip
        return Received(name, headers, message.value() or b"", where, (message.partition(), message.offset()))
