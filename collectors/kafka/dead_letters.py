"""Kafka: a topic of dead letters, for a replay. Implements `Source` and `Finder` of `tracker.model.carry`.

Where a consumer puts what it cannot handle is its own business (Spring's `.DLT`, Connect's `errors.deadletterqueue`),
so nobody else says at which offset a message lies there: this reads the topic and keeps the newest place of each id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from pydantic import Field

from collectors.carried import carried
from collectors.errors import Unavailable
from collectors.kafka.client import REQUEST_TIMEOUT, driver_errors
from collectors.kafka.frontier import Slot
from collectors.kafka.records import headers_of
from collectors.kafka.source import KafkaSource, SourceConfig
from collectors.part import settings
from tracker.model.carry import Locator


class DeadLettersConfig(SourceConfig):
    """As of a Kafka source, and `topic`. `remember`: so many ids, those that came last."""

    topic: str
    remember: int = Field(1_000_000, ge=1)


def source(config: Mapping[str, Any]) -> KafkaDeadLetters:
    """A source as configured. Raises `ConfigInvalid`."""
    return KafkaDeadLetters(settings(DeadLettersConfig, config, "Kafka dead letters"))


class KafkaDeadLetters(KafkaSource):
    """Reads the topic on from where it was read the last time it was asked. One thread at a time."""

    def __init__(self, config: DeadLettersConfig) -> None:
        super().__init__(config)
        self._topic, self._most = config.topic, config.remember
        self._read_to: dict[Slot, int] = {}
        self._places: OrderedDict[str, tuple[Slot, int]] = OrderedDict()

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """The newest dead letter of each. Raises `Unavailable`."""
        with driver_errors(self._what):
            for slot in self._slots():
                self._catch_up(slot)
        found = ((one, self._places.get(one)) for one in message_ids)
        return [Locator(one, "", f"{place[0][0]}/{place[0][1]}", place[1]) for one, place in found if place]

    def _slots(self) -> list[Slot]:
        known = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT).topics[self._topic]
        if known.error is not None:
            raise Unavailable(f"{self._what}: topic {self._topic}: {known.error.str()}")
        return [(self._topic, number) for number in sorted(known.partitions)]

    def _catch_up(self, slot: Slot) -> None:
        """Up to where the log ends now. One that is shorter than what was read was made again: from its beginning."""
        first, end = self._consumer.get_watermark_offsets(TopicPartition(*slot), timeout=REQUEST_TIMEOUT)
        at = self._read_to.get(slot, first)
        if at > end:
            at = first
        self._read_to[slot] = max(at, first)
        for message in self._records(slot, end):
            if message_id := carried(headers_of(message), self._config.identity_header).message_id:
                self._places[message_id] = slot, message.offset()
                self._places.move_to_end(message_id)
                if len(self._places) > self._most:
                    self._places.popitem(last=False)

    def _records(self, slot: Slot, end: int) -> Iterable[Any]:
        """What lies there before `end` and is not part of an open transaction: that is read the next time."""
        if self._read_to[slot] >= end:
            return
        self._jump(slot, self._read_to[slot])
        while True:
            for message in self._batch([slot]):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is not None or message.offset() >= end:
                    self._read_to[slot] = message.offset()
                    return
                yield message
                self._read_to[slot] = message.offset() + 1
                if message.offset() == end - 1:
                    return
