"""Committed offsets of groups: other people's, to look at, and our own, where a collector's position is kept.

A position is kept in the cluster itself, under a group that nobody ever joins. Beside each offset stands the id of its
topic, so that a topic that was deleted and made again under its name is known for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from collectors.kafka.client import GONE, REQUEST_TIMEOUT, driver_errors, translated
from collectors.kafka.frontier import Slot

KEEP_EVERY_TICKS = 3_600_000_000
"""Offsets of a group without members expire (`offsets.retention.minutes`, a week by default): say them again hourly."""

MOVING = frozenset(
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)
"""Codes that say that a group's coordinator is being found or moved: a new group's first request may meet it."""


def _moving(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in MOVING


patiently = tenacity.retry(
    retry=tenacity.retry_if_exception(_moving),
    wait=tenacity.wait_random(0.05, 0.25),
    stop=tenacity.stop_after_delay(REQUEST_TIMEOUT),
    reraise=True,
)
"""Asks a coordinator again for a while, and then gives its answer up as it is."""


@patiently
def _ask(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition]:
    return consumer.committed(wanted, timeout=REQUEST_TIMEOUT)


@patiently
def _say(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition]:
    return consumer.commit(offsets=wanted, asynchronous=False)


class Committed(msgspec.Struct, frozen=True):
    """A group's offset in one partition, the next to be read, and the note that was left beside it. `epoch`: of the
    leader who appended the record before it, -1 where nobody said."""

    offset: int
    note: str = ""
    epoch: int = -1

    @property
    def by_reader(self) -> bool:
        """It came with the epoch of the record that was read last, as consumers say and tools do not."""
        return self.epoch >= 0


def committed(consumer: Consumer, what: str, slots: Iterable[Slot]) -> dict[Slot, Committed]:
    """What the consumer's group committed in `slots`; those without a commit are left out. `what` names the group in
    errors: `Unavailable`, `ConfigInvalid`.

    (A consumer that never joins its group, for the admin client's requests to a group's coordinator never recover
    from a broker's restart: seen with librdkafka 2.16.)
    """
    wanted = [TopicPartition(*slot) for slot in slots]
    if not wanted:
        return {}
    with driver_errors(what):
        found: list[Any] = _ask(consumer, wanted)  # Any: the stubs do not know that an epoch may be None
    for place in found:
        if place.error is not None and place.error.code() not in GONE:
            raise translated(place.error, f"{what}, {place.topic}/{place.partition}")
    return {
        (p.topic, p.partition): Committed(p.offset, p.metadata or "", -1 if p.leader_epoch is None else p.leader_epoch)
        for p in found
        if p.offset >= 0
    }


def commit(consumer: Consumer, what: str, offsets: Mapping[Slot, Committed]) -> set[Slot]:
    """Commit for the consumer's group, which nobody joins; gives the partitions that took it: those that are gone do
    not. Raises as `committed`."""
    wanted = [placed(slot, at.offset, at.epoch, at.note) for slot, at in offsets.items()]
    if not wanted:
        return set()
    with driver_errors(what):
        answers = _say(consumer, wanted)
    for answer in answers:
        if answer.error is not None and answer.error.code() not in GONE:
            raise translated(answer.error, f"{what}, {answer.topic}/{answer.partition}")
    return {(answer.topic, answer.partition) for answer in answers if answer.error is None}


def placed(slot: Slot, offset: int, epoch: int, note: str = "") -> TopicPartition:
    """A position as the driver takes it."""
    if epoch < 0:
        return TopicPartition(*slot, offset, metadata=note)
    return TopicPartition(*slot, offset, metadata=note, leader_epoch=epoch)


class Position(msgspec.Struct, frozen=True):
    """`offset` is the next to be read; `epoch` is that of the record before it, by which the next start finds out that
    the log was cut off meanwhile. -1: nothing was read yet."""

    offset: int
    epoch: int = -1


class Positions:
    """Where a tail stands: the offsets of its consumer's group. `kept`: next to be read, per partition. `reused`: the
    offset from which on a log was cut off, ever; it is kept in the note, beside the topic's id."""

    def __init__(self, consumer: Consumer, what: str) -> None:
        self.kept: dict[Slot, Position] = {}
        self.reused: dict[Slot, int] = {}
        self._consumer, self._what = consumer, what
        self._ids: dict[str, str] = {}
        self._said_at = 0

    def load(self, slots: Iterable[Slot], ids: Mapping[str, str]) -> set[str]:
        """Look up `slots`; what is found for the topics' present `ids` is in `kept`. Gives the names of the topics
        that were read under this name before, whatever their id was then."""
        self._ids |= ids
        found = committed(self._consumer, self._what, slots)
        for slot, at in found.items():
            topic_id, _, reused = at.note.partition(" ")
            if topic_id in ("", ids[slot[0]]):
                self.kept[slot] = Position(at.offset, at.epoch)
                if reused:
                    self.reused[slot] = int(reused)
        return {topic for topic, _ in found}

    def keep(self, ahead: Mapping[Slot, Position]) -> None:
        """Remember these offsets for the next start. A partition that is gone is passed over."""
        offsets = {slot: Committed(at.offset, self._note(slot), at.epoch) for slot, at in ahead.items()}
        for slot in commit(self._consumer, self._what, offsets):
            self.kept[slot] = ahead[slot]

    def _note(self, slot: Slot) -> str:
        topic_id = self._ids.get(slot[0], "")
        return f"{topic_id} {self.reused[slot]}" if slot in self.reused else topic_id

    def back(self, slot: Slot, to: Position) -> None:
        """The log was cut off here: no position lies behind. That is remembered with the next `keep_alive`; a start
        before that finds out by the epoch."""
        if slot in self.kept and self.kept[slot].offset > to.offset:
            self.kept[slot] = to
        self.reused[slot] = min(to.offset, self.reused.get(slot, to.offset))
        self._said_at = -KEEP_EVERY_TICKS

    def keep_alive(self, now: int) -> None:
        """Say all offsets again when it is time, so that those of quiet partitions do not expire. `now` in ticks."""
        if now - self._said_at >= KEEP_EVERY_TICKS:
            self._said_at = now
            self.keep(self.kept)

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are no longer read."""
        for slot in slots:
            self.kept.pop(slot, None)
            self.reused.pop(slot, None)
