"""The records of partitions as the driver hands them out: assigned, never subscribed to, so that no group is joined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from collectors.base import Raw
from collectors.clock import Clock
from collectors.errors import CollectorError
from collectors.kafka.client import PASSING, REQUEST_TIMEOUT, translated
from collectors.kafka.consumers import Consumers
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.positions import Position, placed
from collectors.kafka.records import Place, ends_of, raw_of
from collectors.kafka.tail_config import TailConfig

AT_ONCE = 200
"""Records of one read: what becomes of so many stays in a processor's cache on its way to the spool. Of a thousand each
took half as long again, or longer."""


def driver(config: TailConfig, group: str, isolation: str, of: int = 1) -> dict[str, Any]:
    """Settings of a consumer, one `of` so many, that reads what a tail reads. (A queue that was full is filled again
    after 20 ms: with the driver's second it runs empty before.)"""
    return config.member(
        group,
        enable_partition_eof=True,
        auto_offset_reset="error",  # a position that is gone means lost records: never pass over it in silence
        isolation_level=isolation,
        queued_max_messages_kbytes=max(1024, config.memory_kb // of),
        fetch_wait_max_ms=100,
        fetch_queue_backoff_ms=20,
    )


class Reader:
    """Moves `frontier` along. `stopped`: partitions whose position is gone, and the driver's words on it. `trouble`:
    the newest error that does not mend itself. `clock` (µs) dates records without a timestamp. Raises the driver's
    errors."""

    def __init__(self, config: TailConfig, group: str, what: str, frontier: Frontier, clock: Clock) -> None:
        self.stopped: dict[Slot, str] = {}
        self.trouble: CollectorError | None = None
        self._what, self._frontier, self._clock = what, frontier, clock
        self._settings = config, group, config.isolation
        self.consumer = Consumers(self._one)

    def cluster_id(self, topics: Set[str]) -> str:
        """The cluster's id, from a look at these topics, which are to be read."""
        return self.consumer.know(topics, REQUEST_TIMEOUT).cluster_id or ""

    def begin(self, positions: Mapping[Slot, Position]) -> None:
        """Read from there. The `seek` asks whether the log before is still the one that was read: with an assignment
        alone librdkafka 2.16 does not compare epochs."""
        self.consumer.incremental_assign([placed(slot, at.offset, at.epoch) for slot, at in positions.items()])
        for slot, at in positions.items():
            self._frontier.follow(slot, max(at.offset, 0))
            if at.epoch >= 0:
                self.consumer.seek(placed(slot, at.offset, at.epoch))

    def again(self, slot: Slot, position: Position) -> None:
        """Go on there in a partition that was stopped."""
        del self.stopped[slot]
        self.consumer.incremental_unassign([TopicPartition(*slot)])
        self.begin({slot: position})
        self._frontier.again(slot, max(position.offset, 0))

    def leave(self, slots: Collection[Slot]) -> None:
        """Read these no longer."""
        self.consumer.incremental_unassign([TopicPartition(*slot) for slot in slots])
        self._frontier.forget(slots)
        for slot in slots:
            self.stopped.pop(slot, None)

    def read(self, limit: int, wait: float, topics: Mapping[str, tuple[str, str]]) -> list[Raw]:
        """At most `limit` records, waiting at most `wait` seconds for the first, as `raw_of` makes them of `topics`; of
        what else the driver hands out (ends of partitions, errors) note is taken."""
        messages: list[Any] = self.consumer.consume(1, wait)
        if messages and limit > 1:  # a single call would wait its full time for all `limit`
            messages += self.consumer.consume(min(limit, AT_ONCE) - 1, 0)
        raws: list[Raw] = []
        now = self._clock()
        for message in messages:
            error = message.error()
            if error is None:
                raws.append(raw_of(message, topics, now))
            else:
                self._note(error, (message.topic(), message.partition()), message.offset())
        for raw in ends_of(raws):
            place: Place = raw.position
            self._frontier.passed(place.slot, place.offset + 1)
        self._frontier.settle()
        return raws

    def fail(self, error: KafkaError) -> None:
        """Kept until a read has nothing to return: an exception now would lose the records beside it."""
        if error.code() not in PASSING:
            self.trouble = translated(error, self._what)

    def close(self) -> None:
        """Close the connection."""
        self.consumer.close()

    def _one(self, of: int) -> Consumer:
        return Consumer({**driver(*self._settings, of), "error_cb": self.fail})

    def _note(self, error: KafkaError, slot: Slot, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._frontier.passed(slot, offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self.stopped[slot] = error.str()
        else:
            self.fail(error)
