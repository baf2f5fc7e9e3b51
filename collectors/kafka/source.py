"""Kafka: copies of messages from the log, for a replay. Implements `Source` of `tracker.model.carry`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import Field

from collectors.carried import carried, digest_of, headers_of
from collectors.errors import Unavailable
from collectors.kafka.client import GONE, REQUEST_TIMEOUT, Cluster, driver_errors
from collectors.kafka.frontier import Slot, slot_of
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

READ_THROUGH = 2_000
"""A gap of up to so many records between two wanted ones is read; over a longer one the reader jumps."""

BATCH = 1_000

Found = tuple[Slot, int, Any]
"""A partition, an offset, and the message there or (`str`) why there is none."""


class SourceConfig(Cluster):
    """The `config` of a Kafka source. `timeout` (s): how long without any progress until it gives up."""

    id: Literal["header", "offset"] = "header"
    identity_header: str = MESSAGE_ID
    timeout: float = Field(30.0, gt=0)


def source(config: Mapping[str, Any]) -> KafkaSource:
    """A source as configured: `{url, client, id, identity_header, timeout}`. Raises `ConfigInvalid`."""
    return KafkaSource(settings(SourceConfig, config, "Kafka source"))


class KafkaSource:
    """Fetches records by partition (`topic/3`) and offset. Joins no group and commits nothing. One thread at a time."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._what = f"Kafka {config.servers}"
        with driver_errors(self._what):
            self._consumer = Consumer(self._driver())

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """One answer per locator; all partitions are read at once. Raises `Unavailable` when the cluster stops
        answering on the way."""
        wanted: dict[Slot, dict[int, list[Locator]]] = {}
        answers: list[Copy | Missing] = []
        for locator in locators:
            slot = slot_of(locator.partition)
            if slot is None:
                answers.append(Missing(locator, f"{locator.partition!r} is no Kafka partition; it reads topic/number"))
            else:
                wanted.setdefault(slot, {}).setdefault(locator.offset, []).append(locator)
        with driver_errors(self._what):
            for slot, offset, found in self._found({slot: sorted(by, reverse=True) for slot, by in wanted.items()}):
                answers += [self._answer(locator, found) for locator in wanted[slot][offset]]
        return answers

    def close(self) -> None:
        """Close the connections."""
        with driver_errors(self._what):
            self._consumer.close()

    def _driver(self) -> dict[str, Any]:
        return self._config.member(
            "tracker.replay",  # the driver wants one; it is neither joined nor committed to
            enable_partition_eof=True,
            auto_offset_reset="error",
            isolation_level="read_committed",  # what a transaction took back must not be sent
            queued_max_messages_kbytes=32_768,
            fetch_wait_max_ms=10,  # a broker answers nothing else of ours while a fetch waits at the end of a log
        )

    def _answer(self, locator: Locator, message: Any) -> Copy | Missing:
        if isinstance(message, str):
            return Missing(locator, message)
        value = message.value()
        if value is None:
            return Missing(locator, "a tombstone: it carries no payload to send again")
        try:
            headers = dict(headers_of(message) or ())
        except ValueError as error:  # without them it would be another message
            return Missing(locator, str(error))
        said = carried(headers, self._config.identity_header)
        if self._config.id == "header" and said.message_id != locator.message_id:
            return Missing(locator, f"another message is there now: {said.message_id!r}; the topic was made again")
        return Copy(locator, message.key(), value, headers, digest_of(value))

    def _found(self, left: dict[Slot, list[int]]) -> Iterator[Found]:
        """Each of these offsets (descending, of each partition) with its message, or with the reason why there is
        none."""
        for slot in self._missing(left):
            yield from ((slot, offset, "the topic or partition no longer exists") for offset in left.pop(slot))
        target = {slot: offsets[-1] for slot, offsets in left.items()}
        self._consumer.assign([TopicPartition(*slot, offset) for slot, offset in target.items()])
        try:
            while left:
                here: dict[Slot, int] = {}
                for message in self._batch(left):
                    slot = message.topic(), message.partition()
                    if slot in left:  # else it is one more than was asked for
                        yield from self._passed(slot, left[slot], message)
                        here[slot] = message.offset() if message.error() is None else target[slot]
                for slot, offset in here.items():
                    if not left[slot]:
                        del left[slot]
                        self._consumer.incremental_unassign([TopicPartition(*slot)])
                    elif left[slot][-1] - offset > READ_THROUGH and target[slot] != left[slot][-1]:
                        target[slot] = left[slot][-1]
                        self._consumer.seek(TopicPartition(*slot, target[slot]))
        finally:
            self._consumer.unassign()

    def _passed(self, slot: Slot, left: list[int], message: Any) -> Iterator[Found]:
        """What this message, or end, of the partition says of the offsets that are `left`; they are taken out."""
        error, here = message.error(), message.offset()
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
            yield from self._out_of_range(slot, left)
            return
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        while left and left[-1] < here:
            yield slot, left.pop(), "compacted, or taken back by its transaction"
        if error is not None:
            while left:
                yield slot, left.pop(), f"the log ends at {here}"
        elif left and left[-1] == here:
            yield slot, left.pop(), message

    def _out_of_range(self, slot: Slot, left: list[int]) -> Iterator[Found]:
        """The log does not reach to the next offset: which of those that are `left` it does not; on from the others."""
        place = TopicPartition(*slot)
        first, end = self._consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT)
        while left and left[-1] < first:
            yield slot, left.pop(), f"expired: the log begins at {first}"
        while left and left[0] >= end:
            yield slot, left.pop(0), f"the log ends at {end}"
        if left:
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([TopicPartition(*slot, left[-1])])

    def _missing(self, slots: Iterable[Slot]) -> list[Slot]:
        """Those that the cluster does not have."""
        there: set[Slot] = set()
        slots = list(slots)
        for topic in {topic for topic, _ in slots}:
            known = self._consumer.list_topics(topic, timeout=REQUEST_TIMEOUT).topics[topic]
            if known.error is not None and known.error.code() not in GONE:
                raise KafkaException(known.error)
            there.update((topic, number) for number in known.partitions)
        return [slot for slot in slots if slot not in there]

    def _jump(self, slot: Slot, offset: int) -> None:
        self._consumer.assign([TopicPartition(*slot, offset)])

    def _batch(self, slots: Iterable[Slot]) -> list[Any]:
        """The next records, or ends, of these partitions; never empty."""
        until = time.monotonic() + self._config.timeout
        while time.monotonic() < until:
            messages = self._consumer.consume(1, 0.5)
            if messages:
                return messages + self._consumer.consume(BATCH, 0)
        named = ", ".join(f"{topic}/{number}" for topic, number in sorted(slots)[:3])
        raise Unavailable(f"{self._what}: nothing came of {named} for {self._config.timeout:.0f} s")
