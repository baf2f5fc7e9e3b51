"""Which of the records that a tail reported belonged to transactions that were aborted.

Neither the markers that end a transaction nor the list of aborted ones comes out of librdkafka. But a marker takes an
offset that no reader is ever given. So:

- The transaction of a record before the last stable offset has ended, and its marker stands behind that record. Where
  all has been read that the log held when the stable offset was known, and from the record on no offset was missing,
  there is no marker: nothing is read twice.
- Where more records wait than can be remembered, reading goes no further until these are decided. Then it is not known
  whether a marker stands behind them.
- There, and where offsets are missing, the offsets are read again, `read_committed`. A record that is passed over then
  was aborted, or deleted meanwhile. Retention shows as an error. Compaction does not, so of topics that are compacted
  nothing is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from collectors.kafka.client import PASSING, REQUEST_TIMEOUT, driver_errors
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.gone import Gone, Seen
from collectors.kafka.positions import placed
from collectors.kafka.records import Place
from collectors.kafka.truncated import Cut
from collectors.kafka.watch import Watch

AT_ONCE = 1000
"""Records of a second reading that are taken at a time."""
MOMENT = 0.05
"""Seconds to wait for it at a time, while reading goes no further."""


class Span(msgspec.Struct):
    """Of one partition: the records of which it is not known whether they will stay, in order; the last of which it
    is; and up to which offset they are being read again (-1: they are not)."""

    records: deque[Seen] = msgspec.field(default_factory=deque)
    last: Place | None = None
    until: int = -1

    def passed(self, offset: int) -> list[Seen]:
        """Take out those before `offset`."""
        found: list[Seen] = []
        while self.records and self.records[0].place.offset < offset:
            found.append(self.records.popleft())
        if found:
            self.last = found[-1].place
        return found


class Aborts:
    """The records that wait, at most `most` and those of one read. `consumer` reads `read_committed` and is ours,
    `look_every` in ticks."""

    def __init__(
        self, what: str, consumer: Consumer, admin: AdminClient, topics: Iterable[str], most: int, look_every: int
    ) -> None:
        self._what, self._consumer, self._admin, self._most = what, consumer, admin, most
        self._look_every, self._look_at = look_every, 0
        self._watch = Watch(what, admin, topics, committed_only=True)
        self._stable: tuple[int, dict[Slot, int]] | None = None
        self._spans: dict[Slot, Span] = {}
        self._waiting = 0
        self._ahead: list[Any] = []

    @property
    def full(self) -> bool:
        """More wait than are to be remembered: no more may be read before some of them are decided."""
        return self._waiting > self._most

    def begin(self, slot: Slot) -> None:
        """Reading of `slot` begins, or begins again somewhere else."""
        self.forget(slot)
        self._spans[slot] = Span()

    def forget(self, slot: Slot) -> None:
        """It is no longer read."""
        span = self._spans.pop(slot, None)
        if span is not None:
            self._waiting -= len(span.records)
            self._stop(slot, span)

    def cut(self, slot: Slot, cut: Cut) -> None:
        """The end of the log was cut off: what stood there is not waited for."""
        span = self._spans[slot]
        self._stop(slot, span)
        stay = deque(one for one in span.records if not cut.off(one.place))
        self._waiting -= len(span.records) - len(stay)
        span.records = stay
        if span.last and cut.off(span.last):
            span.last = None
        if self._stable:
            self._stable[1].pop(slot, None)

    def add(self, record: Seen) -> None:
        """This one was reported."""
        span = self._spans.get(record.slot)
        if span is not None:
            span.records.append(record)
            self._waiting += 1

    def decided(self, place: Place) -> Place | None:
        """The newest record up to `place` before which nothing is undecided."""
        span = self._spans.get(place.slot)
        if span is None or not span.records or place.offset < span.records[0].place.offset:
            return place
        return span.last

    def step(self, now: int, frontier: Frontier) -> list[Gone]:
        """Go on, without waiting; what turned out to be aborted. `now` in ticks; all that was read up to the reach of
        `frontier` has been added. Raises `Unavailable`, `ConfigInvalid`."""
        self._ask(now)
        if self._stable:
            at, ends = self._stable
            whole = frontier.complete_to is not None and frontier.complete_to >= at
            if whole or self.full:
                compacted: dict[str, bool] = {}
                for slot, end in ends.items():
                    self._settle(slot, end, frontier.reach.get(slot, 0), whole, compacted)
                self._stable = None
        return self._read_again()

    def wait(self, seconds: float) -> None:
        """Until the second reading goes on, for a moment; then `step` goes on with it."""
        with driver_errors(self._what):
            self._ahead += self._consumer.consume(1, min(seconds, MOMENT))

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _ask(self, now: int) -> None:
        """Where the stable part of the logs ends; known at the tick of the answer."""
        if self._stable:
            return
        if not self._watch.asking and now >= self._look_at and self._waiting:
            self._look_at = now + self._look_every
            self._watch.ask(now)
        view = self._watch.answer(0.0) if self._watch.asking else None
        if view is not None:
            self._stable = (now, view.ends)

    def _settle(self, slot: Slot, stable: int, reach: int, whole: bool, compacted: dict[str, bool]) -> None:
        """What stands before `stable` is decided, or is read again; the log has been read up to `reach`, and when this
        is the `whole` of what it held when `stable` was known, a marker would show as a missing offset. `compacted`:
        what is known of topics, asked once."""
        span, end = self._spans.get(slot), min(stable, reach)
        if span is None or span.until >= 0 or not span.records or span.records[0].place.offset >= end:
            return
        first = span.records[0].place.offset
        if (whole and len(span.records) == reach - first) or self._is_compacted(slot[0], compacted):
            self._past(span, end)
        else:
            self._consumer.incremental_assign([placed(slot, first, -1)])
            span.until = end

    def _is_compacted(self, topic: str, known: dict[str, bool]) -> bool:
        if topic not in known:
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
            with driver_errors(f"{self._what}, cleanup.policy of {topic}"):
                found = self._admin.describe_configs([resource], request_timeout=REQUEST_TIMEOUT)[resource].result()
            known[topic] = "compact" in str(found["cleanup.policy"].value)
        return known[topic]

    def _read_again(self) -> list[Gone]:
        """What the second reader hands out; also when nothing is to be read, or its notices would pile up."""
        with driver_errors(self._what):
            messages = self._ahead + self._consumer.consume(AT_ONCE, 0)
        self._ahead = []
        missing: list[Seen] = []
        for message in messages:
            slot: Slot = message.topic(), message.partition()
            span = self._spans.get(slot)
            if span is not None and span.until >= 0:
                missing += self._passed(slot, span, message)
        return [Gone(one, "aborted") for one in missing]

    def _passed(self, slot: Slot, span: Span, message: Any) -> list[Seen]:
        """The records that are not there any more, by what the second reading came to."""
        error, offset = message.error(), message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.code() not in PASSING:  # deleted, cut off or refused: nothing can be said of them
                self._stop(slot, span, span.until)
            return []
        missing = self._past(span, min(offset, span.until))
        if error is None and span.records and span.records[0].place.offset == offset < span.until:
            if span.records[0].place.epoch != message.leader_epoch():  # cut off, and others have the offsets
                self._stop(slot, span, span.until)
                return []
            self._past(span, offset + 1)
        if offset + (error is None) >= span.until:
            self._stop(slot, span)
        return missing

    def _past(self, span: Span, offset: int) -> list[Seen]:
        """Those before `offset` wait no longer."""
        found = span.passed(offset)
        self._waiting -= len(found)
        return found

    def _stop(self, slot: Slot, span: Span, passed: int = 0) -> None:
        """Read no more of it; of what stands before `passed` nothing is said."""
        self._past(span, passed)
        if span.until >= 0:
            span.until = -1
            self._consumer.incremental_unassign([TopicPartition(*slot)])
