"""Kafka: range evidence of consumer groups, by following their committed offsets.

A commit says "moved past", not "processed": a consumer that skips a record commits past it all the same. So these
ranges count only where nothing tells of single messages. What a group was moved past while nobody could read, and what
was deleted before it came there, is told as dropped, and so is what it had moved past in a log that was cut off
(`collectors.kafka.moves`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from pydantic import Field

from collectors.base import NOTHING_YET_MS, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import Unavailable, Undecodable
from collectors.kafka.client import ADVICE, REQUEST_TIMEOUT, Cluster, driver_errors
from collectors.kafka.cuts import Cuts
from collectors.kafka.frontier import Slot
from collectors.kafka.members import members
from collectors.kafka.moves import How, Mark, Members, Seen, moved
from collectors.kafka.notes import mark_of, note_of, standing
from collectors.kafka.offsets import beginnings, first_records
from collectors.kafka.positions import KEEP_EVERY_TICKS, Committed, Position, commit, committed
from collectors.kafka.watch import View, Watch
from collectors.part import Part, settings
from tracker.model.coverage import SourceRef
from tracker.model.event import Range, Stage

Key = tuple[str, Slot]
"""A group and a partition."""
NOWHERE = Committed(-1)
"""Where a group stands that has committed nothing."""


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
    rebalance_delay: float = Field(3.0, ge=0)
    node: str = ""


class Moved(msgspec.Struct, frozen=True):
    """A group moved past `start` up to `end`, not included, after the poll at `since` (us), and `how`. `kept`: what to
    remember when it was told."""

    followed: Followed
    partition: int
    start: int
    end: int
    since: int
    topic_id: str
    how: How
    kept: Committed


def groups(name: str, config: Mapping[str, Any]) -> KafkaGroups:
    """A follower as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return KafkaGroups(name, settings(GroupsConfig, config, f"collector {name}"))


class KafkaGroups:
    """Polls what groups have committed and says which ranges of a log they moved past.

    What was reported is kept in groups of our own, `tracker.<name>.<group>`, so that a restart neither repeats a range
    with a wider span of time nor leaves one out. Going back (a reset) reports nothing until the group is past the old
    place again, but for what it skipped there. Where nobody can tell whether a group has read what it moved past, its
    partition is left out of `sources` first; only when the runner has asked for these, so that the hole lies in the
    spool, is that stretch given up. `clock` dates the polls, `ticks` (never jumping) measures the lag.
    """

    def __init__(self, name: str, config: GroupsConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        self._what = f"Kafka {config.servers}"
        with driver_errors(self._what):
            self._admin = AdminClient(config.driver())
            names = dict.fromkeys(f.group for f in config.groups)
            self._topics = {group: {f.topic for f in config.groups if f.group == group} for group in names}
            self._theirs = {group: Consumer(config.member(group)) for group in names}
            self._ours = {group: Consumer(config.member(f"tracker.{name}.{group}")) for group in names}
        self._watch = Watch(self._what, self._admin, sorted({f.topic for f in config.groups}), committed_only=False)
        self._cuts = Cuts(config, self._what)
        self._leaders: dict[Slot, int] = {}  # their epochs, when logs were last known to be as they were
        self._node = config.node
        self._marks: dict[Key, Mark] = {}
        self._unsure: set[Key] = set()
        self._given_up: list[Raw] = []
        self._deleted: list[Raw] = []
        self._kept: dict[Key, Committed] = {}
        self._asked = False
        self._ids: dict[str, str] = {}
        self._partitions: frozenset[Slot] = frozenset()
        self._ready: deque[Raw] = deque()
        self._poll_at = self._said_at = 0
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

    def decode(self, raw: Raw) -> tuple[Range, ...]:
        """The range, as having been passed, or dropped, some time between two polls; none where nobody can tell."""
        found = raw.position
        if not isinstance(found, Moved) or raw.observed_at is None:
            raise Undecodable("a record that is no move of a consumer group")
        if found.how is How.unknown:
            return ()
        followed, lost = found.followed, found.how is not How.read
        told = Range(
            flow=followed.flow,
            hop=followed.log if found.how is How.expired else followed.hop,
            stage=Stage.drop if lost else Stage.ack,
            reason=found.how.value if lost else "",
            log=followed.log,
            partition=f"{followed.topic}/{found.partition}",
            offset=found.start,
            offset_to=found.end,
            observed_from=min(found.since, raw.observed_at),
            observed_at=raw.observed_at,
            evidence="range",
            group=followed.group,
            node=self._node,
        )
        return (told,)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep that these ranges were reported."""
        ahead: dict[str, dict[Slot, Committed]] = {}
        for raw in raws:
            found: Moved = raw.position
            group, slot = found.followed.group, (found.followed.topic, found.partition)
            kept = self._kept.get((group, slot), NOWHERE)
            if self._ids.get(slot[0]) == found.topic_id and found.kept.offset >= kept.offset:
                ahead.setdefault(group, {})[slot] = found.kept
        for group, offsets in ahead.items():
            self._keep(group, offsets)

    def sources(self) -> list[SourceRef]:
        """One per group and partition: `group@topic/p`, with range evidence."""
        self._asked = True
        return [
            SourceRef(f.flow, f.hop, Stage.ack.value, f"{f.group}@{topic}/{number}", "range")
            for f in self._config.groups
            for topic, number in sorted(self._partitions)
            if topic == f.topic and (f.group, (topic, number)) not in self._unsure
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
        if self._asked:
            self._ready.extend(self._given_up)
            self._given_up, self._unsure = [], set()
        self._asked = False
        view = self._view(now)
        begins = beginnings(self._admin, self._what, view.partitions)  # asked before what is committed
        slots = begins.keys() & view.ends.keys()
        for group, topics in self._topics.items():
            new = {slot for slot in slots if slot[0] in topics and (group, slot) not in self._marks}
            self._learn(group, new, view, self._clock())
        cuts, silent = self._cut_off(view, slots)
        slots -= silent
        whole = slots == view.partitions
        try:
            for group, topics in self._topics.items():
                mine = {slot: begins[slot] for slot in slots if slot[0] in topics}
                whole &= self._poll_group(group, mine, view, cuts)
            self._leaders |= {slot: view.epochs[slot] for slot in slots}
        finally:
            self._ready.extend(self._deleted)  # behind what all have read: one may have read what another had not
            self._deleted = []
        if whole:
            self._polled = now
        if now - self._said_at >= KEEP_EVERY_TICKS:
            self._said_at = now
            for group in self._ours:
                self._keep(group, {slot: kept for (name, slot), kept in self._kept.items() if name == group})

    def _cut_off(self, view: View, slots: Set[Slot]) -> tuple[dict[Slot, int], set[Slot]]:
        """Where logs end that are known further, of those that have other leaders than before; and those of which
        nobody said it."""
        changed = {slot for slot in slots if view.epochs[slot] != self._leaders.get(slot)}
        known: dict[Slot, Position] = {}
        for (_, slot), mark in self._marks.items():
            if slot in changed and mark.epoch >= 0 and mark.known > max(0, known.get(slot, NOWHERE).offset):
                known[slot] = Position(mark.known, mark.epoch)
        return self._cuts.of(known) if known else ({}, set())

    def _poll_group(self, group: str, begins: Mapping[Slot, int], view: View, cuts: Mapping[Slot, int]) -> bool:
        """Take note of where one group stands in these partitions; whether it could in all."""
        began, tick = self._clock(), self._ticks()
        there, named = members(self._admin, group)
        at = committed(self._theirs[group], f"{self._what}, group {group}", begins)
        for consumer in (self._theirs[group], self._ours[group]):
            consumer.poll(0)  # nothing is read; it takes the driver's notices, which would pile up
        # A commit of a newer leader's: whether the log is as it was has not been asked yet.
        slots = {slot for slot in begins if at.get(slot, NOWHERE).epoch <= view.epochs[slot]}
        for slot in slots:
            place, cut = at.get(slot, NOWHERE), cuts.get(slot)
            if cut is not None and cut >= self._marks[group, slot].known:
                cut = None
            seen = Seen(began, tick, self._ticks(), begins[slot], there, place.offset, place.by_reader, named,
                        place.epoch, view.epochs[slot], view.ends[slot], cut)  # fmt: skip
            self._moved((group, slot), seen)
        marks = {slot: self._marks[group, slot] for slot in slots}
        told = {slot: mark for slot, mark in marks.items() if self._is_told((group, slot), mark)}
        fresh = {slot: self._where(slot, self._as_told((group, slot), mark), mark.at) for slot, mark in told.items()}
        self._keep(group, {s: new for s, new in fresh.items() if standing(new) != standing(self._kept[group, s])})
        return slots == begins.keys()

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
        self._kept = {key: kept for key, kept in self._kept.items() if key[1][0] not in gone}
        self._ids, self._partitions = view.topics, view.partitions
        return view

    def _learn(self, group: str, slots: set[Slot], view: View, now: int) -> None:
        """Where to go on in partitions seen for the first time: where we were, else at the beginning of the log."""
        for slot, kept in committed(self._ours[group], f"{self._what}, positions of group {group}", slots).items():
            mark = mark_of(kept, self._ids[slot[0]])
            if mark is not None:
                self._marks[group, slot], self._kept[group, slot] = mark, kept
        fresh = {slot for slot in slots if (group, slot) not in self._marks}
        first = first_records(self._admin, self._what, fresh)
        begin = {slot: Mark(*first.get(slot, (view.ends.get(slot, 0), now)), Members.first) for slot in fresh}
        self._keep(group, {slot: self._where(slot, mark, mark.at) for slot, mark in begin.items()})
        self._marks |= {(group, slot): mark for slot, mark in begin.items()}

    def _where(self, slot: Slot, mark: Mark, at: int) -> Committed:
        return _kept(mark.offset, mark, note_of(mark, self._ids[slot[0]], at))

    def _is_told(self, key: Key, mark: Mark) -> bool:
        """All up to the mark was stored, and that the log was cut off below."""
        kept = self._kept[key]
        return mark.offset == kept.offset and (mark.known >= mark.offset or kept.epoch < 0)

    def _as_told(self, key: Key, mark: Mark) -> Mark:
        """The mark without what the group has read once more and nobody has stored yet: as far as it was set back."""
        kept = mark_of(self._kept[key], self._ids[key[1][0]]) if mark.unread else None
        if kept is None or kept.stood is None or mark.stood is None:
            return mark
        return msgspec.structs.replace(mark, stood=min(mark.stood, kept.stood))

    def _keep(self, group: str, where: Mapping[Slot, Committed]) -> None:
        """Remember for the next start where a group was, and who was in it."""
        commit(self._ours[group], f"{self._what}, positions of group {group}", where)
        self._kept |= {(group, slot): kept for slot, kept in where.items()}

    def _moved(self, key: Key, seen: Seen) -> None:
        """Take note of what one poll shows of a group in one partition."""
        (group, slot), before, now = key, self._marks[key], self._clock()
        stretches, mark = moved(before, seen, int(self._config.rebalance_delay * 1e6))
        self._marks[key] = mark
        unsure = any(stretch.how is How.unknown for stretch in stretches)
        self._unsure |= {key} if unsure else set()
        for stretch in stretches:
            kept = _kept(max(stretch.end, before.offset), mark, note_of(mark, self._ids[slot[0]], now))
            # What is told between this poll and the next one counts again.
            at = seen.at - 1 if stretch.how is How.truncated else now
            told = self._given_up if unsure else self._deleted if stretch.how is How.expired else self._ready
            told.extend(
                Raw(b"", observed_at=at, position=Moved(
                    f, slot[1], stretch.start, stretch.end, before.at, self._ids[slot[0]], stretch.how, kept))
                for f in self._config.groups
                if f.group == group and f.topic == slot[0]
            )  # fmt: skip


def _kept(offset: int, mark: Mark, note: str) -> Committed:
    """What to remember, with the epoch where that is of the record before."""
    return Committed(offset, note, mark.epoch if mark.known == offset else -1)
