"""Instrumented clients of the in-memory broker: a producer and a group consumer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from collectors.instrument.observe import Observer
from collectors.memory_broker import MemoryBroker, Slot, Stored


class MemoryProducer:
    """Sends and records `produce`. `close` signs off the observer."""

    def __init__(self, broker: MemoryBroker, observer: Observer) -> None:
        self._broker, self._observer = broker, observer

    def send(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Mapping[str, bytes] | None = None
    ) -> Stored:
        """Message id and origin time are added to the headers where absent. The record as persisted."""
        stored = self._broker.append(topic, value, key, self._observer.stamp(headers))
        self._observer.produce(
            stored.headers, value, partition=str(stored.slot), offset=stored.offset, key=key, delivery=_place(stored)
        )
        return stored

    def close(self) -> None:
        """No more will be sent."""
        self._observer.close()


class MemoryConsumer:
    """A member of a consumer group. Records `deliver` when it hands a record out, `ack`, `nack` and `dead_letter`
    before it commits.

    After `nack`, and when partitions are shared out anew, records from the committed offset on come again, in another
    session: another delivery of the same message.
    """

    def __init__(
        self, broker: MemoryBroker, group: str, topics: Sequence[str], observer: Observer, *, member: str = "member"
    ) -> None:
        self._broker, self._group, self._member, self._observer = broker, group, member, observer
        self._next: dict[Slot, int] = {}
        self._generation, self._rewinds = 0, itertools.count(1)
        self._session = ""
        broker.join(group, member, topics)

    def poll(self, limit: int = 100, wait: float = 0.0) -> list[Stored]:
        """At most `limit` records of the partitions assigned, waiting at most `wait` seconds for the first."""
        self._assigned()
        self._broker.wait(self._next, wait)
        taken: list[Stored] = []
        for slot, offset in self._next.items():
            taken += self._broker.fetch(slot, offset, limit - len(taken))
        for stored in taken:
            self._next[stored.slot] = stored.offset + 1
            self._observer.deliver(stored.headers, stored.value, **self._where(stored))
        return taken

    def ack(self, stored: Stored) -> None:
        """Processed: recorded first, then committed, so that a crash between the two is a redelivery, not a hole."""
        self._observer.ack(stored.headers, stored.value, **self._where(stored))
        self._broker.commit(self._group, stored.slot, stored.offset + 1)

    def nack(self, stored: Stored) -> None:
        """Not processed: it and what follows it in its partition come again."""
        self._observer.nack(stored.headers, stored.value, **self._where(stored))
        self._next[stored.slot] = stored.offset
        self._session = f"{self._member}-{self._generation}.{next(self._rewinds)}"

    def dead_letter(self, stored: Stored, topic: str, reason: str) -> Stored:
        """Park it in `topic` and commit past it; `reason="retry"` says that somebody will take it from there."""
        parked = self._broker.append(topic, stored.value, stored.key, stored.headers)
        self._observer.dead_letter(stored.headers, stored.value, reason, **self._where(stored))
        self._broker.commit(self._group, stored.slot, stored.offset + 1)
        return parked

    def skip(self, slot: Slot, count: int) -> list[Stored]:
        """Commit past `count` records without processing them and without a word: the fault that a tracker finds."""
        skipped = self._broker.skip(self._group, slot, count)
        self._next[slot] = max(self._next.get(slot, 0), self._broker.committed(self._group)[slot])
        return skipped

    def close(self) -> None:
        """Leave the group and sign off."""
        self._broker.leave(self._group, self._member)
        self._observer.close()

    def _assigned(self) -> None:
        generation, slots = self._broker.assignment(self._group, self._member)
        if generation == self._generation and set(slots) == set(self._next):
            return
        committed = self._broker.committed(self._group)
        self._next = {slot: committed.get(slot, self._broker.bounds(slot)[0]) for slot in slots}
        self._generation = generation
        self._session = f"{self._member}-{generation}"

    def _where(self, stored: Stored) -> dict[str, object]:
        return {
            "partition": str(stored.slot),
            "offset": stored.offset,
            "group": self._group,
            "session": self._session,
            "key": stored.key,
        }


def _place(stored: Stored) -> str:
    return f"{stored.slot}:{stored.offset}"
