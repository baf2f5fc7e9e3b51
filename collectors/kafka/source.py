"""Kafka: copies of messages from the log, for a replay. Implements `Source` of `tracker.model.carry`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
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
        """One answer per locator, in the order of partition and offset. Raises `Unavailable` when the cluster stops
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
            for slot, by_offset in sorted(wanted.items()):
                answers += self._fetched(slot, by_offset, self._first(slot))
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
        )

    def _first(self, slot: Slot) -> int | None:
        """Where the log begins; None when the partition is gone."""
        try:
            return self._consumer.get_watermark_offsets(TopicPartition(*slot), timeout=REQUEST_TIMEOUT)[0]
        except KafkaException as error:
            if error.args[0].code() in GONE:
                return None
            raise

    def _fetched(self, slot: Slot, wanted: dict[int, list[Locator]], first: int | None) -> Iterable[Copy | Missing]:
        """Answers for one partition."""
        gone = "the topic or partition no longer exists" if first is None else f"expired: the log begins at {first}"
        for offset in [o for o in wanted if first is None or o < first]:
            yield from (Missing(locator, gone) for locator in wanted.pop(offset))
        if not wanted:
            return
        for offset, message in self._read(slot, sorted(wanted)):
            for locator in wanted[offset]:
                yield self._answer(locator, message)

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

    def _read(self, slot: Slot, offsets: list[int]) -> Iterable[tuple[int, Any]]:
        """Each of `offsets` (ascending) with its message, or with the reason why there is none."""
        nothing = "compacted, or taken back by its transaction"
        self._jump(slot, offsets[0])
        left, here = offsets[::-1], offsets[0]
        while left:
            if left[-1] - here > READ_THROUGH:
                self._jump(slot, left[-1])
            for message in self._batch(slot):
                here, error = message.offset(), message.error()
                while left and left[-1] < here:
                    yield left.pop(), nothing
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    yield from ((offset, f"the log ends at {here}") for offset in left[::-1])
                    return
                if left and left[-1] == here:
                    yield left.pop(), message

    def _jump(self, slot: Slot, offset: int) -> None:
        self._consumer.assign([TopicPartition(*slot, offset)])

    def _batch(self, slot: Slot) -> list[Any]:
        """The next records or the end of the partition; never empty."""
        until = time.monotonic() + self._config.timeout
        while time.monotonic() < until:
            messages = self._consumer.consume(1, 0.5)
            if messages:
                return messages + self._consumer.consume(BATCH, 0)
        raise Unavailable(f"{self._what}: nothing came of {slot[0]}/{slot[1]} for {self._config.timeout:.0f} s")
