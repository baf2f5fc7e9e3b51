"""Kafka: range evidence of consumer groups, by following their committed offsets.

A commit says "moved past", not "processed": a consumer that skips a record commits past it all the same. So these
ranges count only where nothing tells of single messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from pydantic import Field

from collectors.base import NOTHING_YET_MS, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import Unavailable, Undecodable
from collectors.kafka_client import ADVICE, REQUEST_TIMEOUT, Cluster, driver_errors
from collectors.kafka_frontier import Slot
from collectors.kafka_positions import Committed, commit, committed
from collectors.kafka_watch import View, Watch
from collectors.part import Part, settings
from tracker.model.coverage import SourceRef
from tracker.model.event import Range, Stage


class Followed(Part):
    """A consumer group, the hop `hop`, that reads `topic`, which is the log of the hop `log`."""

    group: str
    topic: str
    flow: str
    hop: str
    log: str


class GroupsConfig(Cluster):
    """The `config` of a `kafka-groups` collector; `docs/collectors/kafka.md` explains each key."""

    groups: tuple[Followed, ...] = Field(min_length=1)
    poll_every: float = Field(1.0, gt=0)
    node: str = ""


class Mark(msgspec.Struct, frozen=True):
    """A group stood at or before `offset` when it was polled at `at` (us); all before was reported."""

    offset: int
    at: int


class Moved(msgspec.Struct, frozen=True):
    """A group moved past `start` up to `end`, not included, after the poll at `since` (us)."""

    followed: Followed
    partition: int
    start: int
    end: int
    since: int
    topic_id: str


def groups(name: str, config: Mapping[str, Any]) -> KafkaGroups:
    """A follower as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return KafkaGroups(name, settings(GroupsConfig, config, f"collector {name}"))


class KafkaGroups:
    """Polls what groups have committed and says which ranges of a log they moved past.

    What was reported is kept in groups of our own, `tracker.<name>.<group>`, so that a restart neither repeats a range
    with a wider span of time nor leaves one out. Going back (a reset) reports nothing until the group is past the old
    place again. `clock` dates the polls, `ticks` (never jumping) measures the lag.
    """

    def __init__(self, name: str, config: GroupsConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        self._what = f"Kafka {config.servers}"
        with driver_errors(self._what):
            self._admin = AdminClient(config.driver())
            names = dict.fromkeys(f.group for f in config.groups)
            self._theirs = {group: Consumer(config.member(group)) for group in names}
            self._ours = {group: Consumer(config.member(f"tracker.{name}.{group}")) for group in names}
        self._watch = Watch(self._what, self._admin, sorted({f.topic for f in config.groups}), committed_only=False)
        self._node = config.node
        self._marks: dict[tuple[str, Slot], Mark] = {}
        self._ids: dict[str, str] = {}
        self._partitions: frozenset[Slot] = frozenset()
        self._ready: deque[Raw] = deque()
        self._poll_at = 0
        self._polled: int | None = None
        self._complete_to: int | None = None
        self._closed = False

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`: one record per partition that a group moved in since the poll before."""
        if not self._ready:
            time.sleep(min(wait, max(0, self._poll_at - self._ticks()) / 1e6))
            now = self._ticks()
            if now >= self._poll_at:
                self._poll_at = now + int(self._config.poll_every * 1e6)
                self._poll(now)
        found = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        if not self._ready:
            self._complete_to = self._polled
        return found

    def decode(self, raw: Raw) -> tuple[Range]:
        """The range, as having been passed some time between two polls."""
        moved = raw.position
        if not isinstance(moved, Moved) or raw.observed_at is None:
            raise Undecodable("a record that is no move of a consumer group")
        followed = moved.followed
        found = Range(
            flow=followed.flow,
            hop=followed.hop,
            stage=Stage.ack,
            log=followed.log,
            partition=f"{followed.topic}/{moved.partition}",
            offset=moved.start,
            offset_to=moved.end,
            observed_from=min(moved.since, raw.observed_at),
            observed_at=raw.observed_at,
            evidence="range",
            group=followed.group,
            node=self._node,
        )
        return (found,)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep that these ranges were reported."""
        ahead: dict[str, dict[Slot, Committed]] = {}
        for raw in raws:
            moved: Moved = raw.position
            slot = (moved.followed.topic, moved.partition)
            if self._ids.get(slot[0]) == moved.topic_id:
                ahead.setdefault(moved.followed.group, {})[slot] = Committed(
                    moved.end, f"{moved.topic_id} {raw.observed_at}"
                )
        for group, offsets in ahead.items():
            commit(self._ours[group], f"{self._what}, positions of group {group}", offsets)

    def sources(self) -> list[SourceRef]:
        """One per group and partition: `group@topic/p`, with range evidence."""
        return [
            SourceRef(f.flow, f.hop, Stage.ack.value, f"{f.group}@{topic}/{number}", "range")
            for f in self._config.groups
            for topic, number in sorted(self._partitions)
            if topic == f.topic
        ]

    def lag(self) -> Lag:
        """The age of the last poll whose findings `read` has returned."""
        if self._complete_to is None:
            return Lag(NOTHING_YET_MS)
        return Lag(-((self._complete_to - self._ticks()) // 1000), len(self._ready))

    def close(self) -> None:
        """Close the connections. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            with driver_errors(self._what):
                for consumer in (*self._theirs.values(), *self._ours.values()):
                    consumer.close()

    def _poll(self, now: int) -> None:
        """Ask for all groups' offsets; what moved goes to `_ready`. Raises `Unavailable` or `ConfigInvalid`."""
        view = self._view(now)
        before = self._clock()
        for group, consumer in self._theirs.items():
            topics = {f.topic for f in self._config.groups if f.group == group}
            slots = {slot for slot in view.partitions if slot[0] in topics}
            self._learn(group, {slot for slot in slots if (group, slot) not in self._marks}, view, before)
            at = committed(consumer, f"{self._what}, group {group}", slots)
            consumer.poll(0)  # nothing is read; it takes the driver's notices, which would pile up
            for slot in slots:
                self._moved(group, slot, at[slot].offset if slot in at else 0, before)
        self._polled = now

    def _view(self, now: int) -> View:
        """The topics' partitions. What is known of a topic that was deleted, or made again, is forgotten."""
        self._watch.ask(now)
        view = self._watch.answer(REQUEST_TIMEOUT)
        if view is None:
            raise Unavailable(f"{self._what} does not answer within {REQUEST_TIMEOUT:.0f} s; {ADVICE}")
        if not self._node:
            with driver_errors(self._what):
                cluster: Any = self._admin.list_topics("", timeout=REQUEST_TIMEOUT)
            self._node = cluster.cluster_id or ""
        gone = {topic for topic, known in self._ids.items() if view.topics.get(topic) != known}
        self._marks = {key: mark for key, mark in self._marks.items() if key[1][0] not in gone}
        self._ids, self._partitions = view.topics, view.partitions
        return view

    def _learn(self, group: str, slots: set[Slot], view: View, now: int) -> None:
        """Where to go on in partitions seen for the first time: where we were, else at the beginning of the log."""
        for slot, kept in committed(self._ours[group], f"{self._what}, positions of group {group}", slots).items():
            topic_id, _, at = kept.note.partition(" ")
            if topic_id == self._ids[slot[0]] and at.isdigit():
                self._marks[group, slot] = Mark(kept.offset, int(at))
        fresh = {slot for slot in slots if (group, slot) not in self._marks}
        first = self._first(fresh)
        for slot in fresh:
            self._marks[group, slot] = first.get(slot) or Mark(view.ends.get(slot, 0), now)

    def _first(self, slots: set[Slot]) -> dict[Slot, Mark]:
        """The first record that each log holds, with its timestamp: no group moved past it before that. Empty logs are
        left out."""
        if not slots:
            return {}
        oldest = OffsetSpec.for_timestamp(0)
        with driver_errors(self._what):
            asked = self._admin.list_offsets(
                {TopicPartition(*slot): oldest for slot in slots}, request_timeout=REQUEST_TIMEOUT
            )
            found = {(place.topic, place.partition): future.result() for place, future in asked.items()}
        return {slot: Mark(at.offset, at.timestamp * 1000) for slot, at in found.items() if at.offset >= 0}

    def _moved(self, group: str, slot: Slot, offset: int, before: int) -> None:
        mark = self._marks[group, slot]
        if offset > mark.offset:
            now = self._clock()
            self._ready.extend(
                Raw(b"", position=Moved(f, slot[1], mark.offset, offset, mark.at, self._ids[slot[0]]), observed_at=now)
                for f in self._config.groups
                if f.group == group and f.topic == slot[0]
            )
        self._marks[group, slot] = Mark(max(offset, mark.offset), before)
