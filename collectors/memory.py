"""The in-memory log as a system to watch, to fetch copies from and to replay into."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from collectors.base import Content, Lag, Observation, Raw
from collectors.carried import carried, digest_of, text
from collectors.clock import Clock, now_micros
from collectors.errors import ConfigInvalid, Undecodable
from collectors.memory_broker import MemoryBroker, Slot, Stored
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing, Sent
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Range, Stage

__all__ = ["Followed", "MemoryBroker", "MemoryCollector", "MemoryPublisher", "MemorySource", "Slot", "Stored", "Tailed"]


class Tailed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic to tail: each record is a `persist` at `hop`."""

    topic: str
    flow: str
    hop: str


class Followed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A consumer group to follow: what it committed in `topic` (the log of hop `log`) is range evidence of `ack`."""

    group: str
    topic: str
    flow: str
    hop: str
    log: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a `memory` collector."""

    topics: list[Tailed] = []
    groups: list[Followed] = []
    identity_header: str = MESSAGE_ID


class Read(NamedTuple):
    """Position of a tailed record."""

    tailed: Tailed
    slot: Slot
    offset: int


class Moved(NamedTuple):
    """Position of a committed range: from `offset` up to, not including, `offset_to`, since `since` (epoch µs)."""

    followed: Followed
    slot: Slot
    offset: int
    offset_to: int
    since: int


def tail(name: str, config: Mapping[str, Any], broker: MemoryBroker | None = None) -> MemoryCollector:
    """A collector as the configuration file describes it; with a broker of its own when none is given. Raises
    `ConfigInvalid`."""
    try:
        wanted = msgspec.convert(config, Config)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"collector {name}: {error}") from None
    return MemoryCollector(name, wanted, broker or MemoryBroker())


class MemoryCollector:
    """Tails topics and follows groups of one `MemoryBroker`, with cursors of its own named `name`."""

    def __init__(self, name: str, config: Config, broker: MemoryBroker, clock: Clock = now_micros) -> None:
        self._name, self._config, self._broker, self._clock = name, config, broker, clock
        self._next: dict[str, int] = {}
        self._polled = clock()

    def read(self, limit: int, wait: float) -> list[Raw]:
        """Records and committed ranges not read yet."""
        deadline = time.monotonic() + wait
        while True:
            raws = self._records(limit)
            raws += self._ranges(limit - len(raws))
            left = deadline - time.monotonic()
            if raws or left <= 0:
                return raws
            self._broker.wait({slot: self._at(str(slot)) for _, slot in self._tailed()}, min(left, 0.02))

    def decode(self, raw: Raw) -> list[Observation]:
        """One `persist` for a record, one `Range` of `ack` for a commit."""
        at = raw.observed_at if raw.observed_at is not None else 0
        if isinstance(raw.position, Moved):
            return [_range(raw.position, at)]
        if not isinstance(raw.position, Read):
            raise Undecodable("neither a record nor a range of the in-memory broker")
        return [self._persist(raw, raw.position, at)]

    def content(self, raw: Raw, event: Event) -> Content:
        """The record."""
        return Content(raw.key, raw.value, raw.headers)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Move the cursors past these."""
        for raw in raws:
            place = raw.position
            if isinstance(place, Read):
                self._broker.move(self._name, str(place.slot), place.offset + 1)
            else:
                self._broker.move(self._name, _range_name(place.followed, place.slot), place.offset_to)

    def sources(self) -> list[SourceRef]:
        """Each partition tailed, and each partition of each group followed."""
        tailed = [SourceRef(t.flow, t.hop, Stage.persist.value, str(slot)) for t, slot in self._tailed()]
        return tailed + [
            SourceRef(f.flow, f.hop, Stage.ack.value, f"{f.group}@{slot}", "range") for f, slot in self._followed()
        ]

    def lag(self) -> Lag:
        """By the oldest record not read; for groups by the last look at them."""
        now, oldest, backlog = self._clock(), None, 0
        for _, slot in self._tailed():
            unread = self._broker.bounds(slot)[1] - self._at(str(slot))
            backlog += max(0, unread)
            for stored in self._broker.fetch(slot, self._at(str(slot)), 1):
                oldest = min(oldest or stored.appended_at, stored.appended_at)
        reached = min(oldest or now, self._polled if self._config.groups else now)
        return Lag(max(0, -(-(now - reached) // 1000)), backlog)

    def close(self) -> None:
        """Nothing to let go of."""

    def _records(self, limit: int) -> list[Raw]:
        raws: list[Raw] = []
        for tailed, slot in self._tailed():
            for stored in self._broker.fetch(slot, self._at(str(slot)), limit - len(raws)):
                self._next[str(slot)] = stored.offset + 1
                place = Read(tailed, slot, stored.offset)
                raws.append(Raw(stored.value, stored.headers, stored.key, place, stored.appended_at))
        return raws

    def _ranges(self, limit: int) -> list[Raw]:
        raws: list[Raw] = []
        since, now = self._polled, self._clock()
        for followed, slot in self._followed():
            name = _range_name(followed, slot)
            start, end = self._at(name), self._broker.committed(followed.group).get(slot, 0)
            if end > start and len(raws) < limit:
                self._next[name] = end
                raws.append(Raw(b"", {}, None, Moved(followed, slot, start, end, since), now))
        if limit > 0:
            self._polled = now
        return raws

    def _persist(self, raw: Raw, place: Read, at: int) -> Event:
        said = carried(raw.headers, self._config.identity_header)
        if not said.message_id:
            raise Undecodable(f"{place.slot} offset {place.offset}: no header {self._config.identity_header}")
        return said.event(
            flow=place.tailed.flow,
            hop=place.tailed.hop,
            stage=Stage.persist,
            observed_at=at,
            digest=digest_of(raw.value),
            size=len(raw.value),
            key=text(raw.key),
            partition=str(place.slot),
            offset=place.offset,
        )

    def _tailed(self) -> list[tuple[Tailed, Slot]]:
        return [(tailed, slot) for tailed in self._config.topics for slot in self._broker.slots([tailed.topic])]

    def _followed(self) -> list[tuple[Followed, Slot]]:
        return [(followed, slot) for followed in self._config.groups for slot in self._broker.slots([followed.topic])]

    def _at(self, name: str) -> int:
        if name not in self._next:
            self._next[name] = self._broker.cursor(self._name, name)
        return self._next[name]


def _range_name(followed: Followed, slot: Slot) -> str:
    return f"{followed.group}@{slot}"


def _range(place: Moved, at: int) -> Range:
    followed = place.followed
    return Range(
        flow=followed.flow,
        hop=followed.hop,
        stage=Stage.ack,
        log=followed.log,
        partition=str(place.slot),
        offset=place.offset,
        offset_to=place.offset_to,
        observed_from=min(place.since, at),
        observed_at=at,
        evidence="range",
        group=followed.group,
    )


class MemorySource:
    """Fetches copies from a `MemoryBroker` by partition and offset."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """A copy each, or why it is gone."""
        return [self._fetched(locator) for locator in locators]

    def close(self) -> None:
        """Nothing to let go of."""

    def _fetched(self, locator: Locator) -> Copy | Missing:
        try:
            slot = Slot.parse(locator.partition)
            begin, _ = self._broker.bounds(slot)
        except (ValueError, KeyError):
            return Missing(locator, f"no partition {locator.partition!r}")
        if locator.offset < begin:
            return Missing(locator, "retention took it")
        found = self._broker.fetch(slot, locator.offset, 1)
        if not found:
            return Missing(locator, f"offset {locator.offset} is beyond the end of {slot}")
        return Copy(locator, found[0].key, found[0].value, found[0].headers, digest_of(found[0].value))


class MemoryPublisher:
    """Appends copies to `topic`; without one, to the topic and partition that each came from."""

    def __init__(self, broker: MemoryBroker, topic: str = "") -> None:
        self._broker, self._topic = broker, topic

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """Headers and key as given; one answer per copy."""
        return [self._published(copy) for copy in copies]

    def close(self) -> None:
        """Nothing to let go of."""

    def _published(self, copy: Copy) -> Sent:
        try:
            slot = None if self._topic else Slot.parse(copy.locator.partition)
        except ValueError:
            return Sent(copy.locator, f"no partition {copy.locator.partition!r}")
        self._broker.append(
            self._topic or (slot.topic if slot else ""),
            copy.value,
            copy.key,
            copy.headers,
            partition=slot.partition if slot else None,
        )
        return Sent(copy.locator)
