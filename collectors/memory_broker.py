"""A log broker in memory: topics, partitions, offsets, consumer groups. For the demo, for tests, for trying things out.

It behaves as a log does: records stay until retention takes them, a group's progress is one offset per partition,
and a partition belongs to one member of a group at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import xxhash

from collectors.clock import Clock, now_micros


class Slot(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """As in `Event.partition`: `topic/3`."""
        return f"{self.topic}/{self.partition}"

    @classmethod
    def parse(cls, name: str) -> Slot:
        """The slot that `topic/3` names. Raises ValueError."""
        topic, _, partition = name.rpartition("/")
        return cls(topic, int(partition))


class Stored(msgspec.Struct, frozen=True):
    """A record as the log keeps it. `timestamp` is the producer's, `appended_at` the broker's (epoch µs)."""

    slot: Slot
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    timestamp: int
    appended_at: int


class _Log:
    def __init__(self, retention: int) -> None:
        self.records: deque[Stored] = deque(maxlen=retention)
        self.end = 0

    @property
    def begin(self) -> int:
        return self.end - len(self.records)


class _Group:
    def __init__(self) -> None:
        self.committed: dict[Slot, int] = {}
        self.members: dict[str, frozenset[str]] = {}
        self.generation = 0


class MemoryBroker:
    """Thread-safe. A topic comes into being with its first record or with `create`; each partition keeps its last
    `retention` records."""

    def __init__(self, *, partitions: int = 1, retention: int = 100_000, clock: Clock = now_micros) -> None:
        self._partitions, self._retention, self._clock = partitions, retention, clock
        self._logs: dict[Slot, _Log] = {}
        self._groups: dict[str, _Group] = {}
        self._cursors: dict[tuple[str, str], int] = {}
        self._changed = threading.Condition(threading.RLock())

    def create(self, topic: str, partitions: int = 0) -> None:
        """Make a topic with `partitions` (default: the broker's); one that is there only grows."""
        with self._changed:
            for partition in range(partitions or self._partitions):
                self._logs.setdefault(Slot(topic, partition), _Log(self._retention))

    def slots(self, topics: Sequence[str]) -> list[Slot]:
        """The partitions of these topics, in order; of those that exist."""
        with self._changed:
            return sorted(slot for slot in self._logs if slot.topic in topics)

    def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        *,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Stored:
        """Persist one record. Without `partition` the key chooses it, without a key the shortest log."""
        with self._changed:
            slots = self.slots([topic])
            if not slots:
                self.create(topic, (partition or 0) + 1 if partition else 0)
                slots = self.slots([topic])
            slot = Slot(topic, partition) if partition is not None else self._chosen(slots, key)
            log, now = self._logs[slot], self._clock()
            stored = Stored(slot, log.end, key, value, dict(headers or {}), timestamp or now, now)
            log.records.append(stored)
            log.end += 1
            self._changed.notify_all()
            return stored

    def _chosen(self, slots: Sequence[Slot], key: bytes | None) -> Slot:
        if key is None:
            return min(slots, key=lambda slot: self._logs[slot].end)
        return slots[xxhash.xxh3_64_intdigest(key) % len(slots)]

    def fetch(self, slot: Slot, offset: int, limit: int) -> list[Stored]:
        """At most `limit` records from `offset` on; from the oldest one left where retention took that."""
        with self._changed:
            log = self._logs.get(slot)
            if log is None:
                return []
            start = max(0, offset - log.begin)
            return [log.records[i] for i in range(start, min(start + limit, len(log.records)))]

    def bounds(self, slot: Slot) -> tuple[int, int]:
        """(oldest offset left, offset of the next record)."""
        with self._changed:
            log = self._logs[slot]
            return log.begin, log.end

    def wait(self, known: Mapping[Slot, int], timeout: float) -> None:
        """Until some slot of `known` has more than the offset given there, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._logs[s].end > at for s, at in known.items()), timeout)

    # -- consumer groups -----------------------------------------------------------------------------------------

    def join(self, group: str, member: str, topics: Sequence[str]) -> None:
        """A member joins (or comes back); partitions are shared out anew."""
        with self._changed:
            found = self._groups.setdefault(group, _Group())
            found.members[member] = frozenset(topics)
            found.generation += 1

    def leave(self, group: str, member: str) -> None:
        """A member is gone; its partitions go to the others."""
        with self._changed:
            found = self._groups[group]
            found.generation += found.members.pop(member, None) is not None

    def assignment(self, group: str, member: str) -> tuple[int, list[Slot]]:
        """(generation, the member's partitions)."""
        with self._changed:
            found = self._groups[group]
            mine = []
            for slot in self.slots(sorted({t for topics in found.members.values() for t in topics})):
                sharing = sorted(m for m, topics in found.members.items() if slot.topic in topics)
                if sharing[slot.partition % len(sharing)] == member:
                    mine.append(slot)
            return found.generation, mine

    def commit(self, group: str, slot: Slot, offset: int) -> None:
        """The group's next record in this partition is `offset`."""
        with self._changed:
            self._groups.setdefault(group, _Group()).committed[slot] = offset
            self._changed.notify_all()

    def skip(self, group: str, slot: Slot, count: int) -> list[Stored]:
        """Commit past the next `count` records without reading them, as a consumer gone wrong does; which they were."""
        with self._changed:
            start = self.committed(group).get(slot, self.bounds(slot)[0])
            skipped = self.fetch(slot, start, count)
            self.commit(group, slot, start + len(skipped))
            return skipped

    def committed(self, group: str) -> dict[Slot, int]:
        """The group's committed offsets."""
        with self._changed:
            return dict(self._groups[group].committed) if group in self._groups else {}

    # -- cursors: positions of readers that are no group ---------------------------------------------------------

    def cursor(self, reader: str, of: str) -> int:
        """How far `reader` came in `of`; 0 at first."""
        with self._changed:
            return self._cursors.get((reader, of), 0)

    def move(self, reader: str, of: str, offset: int) -> None:
        """Keep a reader's position; it never goes back."""
        with self._changed:
            self._cursors[reader, of] = max(offset, self._cursors.get((reader, of), 0))
