"""Where a collector of ours stands, kept in the cluster itself: committed offsets of a group that nobody ever joins.

Beside each offset stands the id of its topic, so that a topic that was deleted and made again under its name is known
for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from collectors.kafka_client import REQUEST_TIMEOUT, driver_errors, translated
from collectors.kafka_frontier import Slot
from collectors.kafka_watch import GONE

KEEP_EVERY_TICKS = 3_600_000_000
"""Offsets of a group without members expire (`offsets.retention.minutes`, a week by default): say them again hourly."""


class Positions:
    """The offsets of group `group`: next to be read, per partition. Raises `Unavailable` or `ConfigInvalid`."""

    def __init__(self, admin: AdminClient, group: str) -> None:
        self.kept: dict[Slot, int] = {}
        self._admin, self._group = admin, group
        self._ids: dict[str, str] = {}
        self._said_at = 0

    def load(self, slots: Iterable[Slot], ids: Mapping[str, str]) -> set[str]:
        """Look up `slots`; what is found for the topics' present `ids` is in `kept`. Gives the names of the topics
        that were read under this name before, whatever their id was then."""
        self._ids |= ids
        wanted = [TopicPartition(*slot) for slot in slots]
        with driver_errors(f"group {self._group}"):
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(self._group, wanted)], request_timeout=REQUEST_TIMEOUT
            )
            found = asked[self._group].result().topic_partitions
        known = {place.topic for place in found if place.offset >= 0}
        for place in found:
            if place.offset >= 0 and place.metadata in (None, "", ids[place.topic]):
                self.kept[place.topic, place.partition] = place.offset
        return known

    def keep(self, ahead: Mapping[Slot, int]) -> None:
        """Remember these offsets for the next start. A partition that is gone is passed over."""
        offsets = [
            TopicPartition(topic, number, offset, metadata=self._ids.get(topic, ""))
            for (topic, number), offset in ahead.items()
        ]
        if not offsets:
            return
        with driver_errors(f"group {self._group}"):
            asked = self._admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(self._group, offsets)], request_timeout=REQUEST_TIMEOUT
            )
            answers = asked[self._group].result().topic_partitions
        for answer in answers:
            if answer.error is None:
                self.kept[answer.topic, answer.partition] = answer.offset
            elif answer.error.code() not in GONE:
                raise translated(answer.error, f"group {self._group}, {answer.topic}/{answer.partition}")

    def keep_alive(self, now: int) -> None:
        """Say all offsets again when it is time, so that those of quiet partitions do not expire. `now` in ticks."""
        if now - self._said_at >= KEEP_EVERY_TICKS:
            self._said_at = now
            self.keep(self.kept)

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are no longer read."""
        for slot in slots:
            self.kept.pop(slot, None)
