"""What a tail reported, for as long as it may have to take it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from collectors.base import Raw
from collectors.clock import Clock
from collectors.kafka.aborted import Aborts
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.gone import Gone, Unnamed, seen
from collectors.kafka.records import Place
from collectors.kafka.truncated import Cut, Newest
from tracker.model.event import Event


class Recall:
    """`remember`: so many records, for a log that is cut off. `aborts` follows transactions, None: nobody does. `clock`
    dates what is taken back."""

    def __init__(self, remember: int, aborts: Aborts | None, clock: Clock) -> None:
        self._newest, self._aborts, self._clock = Newest(remember), aborts, clock
        self._cuts: dict[Slot, Cut] = {}
        self._back: deque[Raw] = deque()

    def begin(self, slot: Slot, position: int) -> None:
        """Reading of `slot` begins here, or begins here again."""
        self._newest.begin(slot, position)
        if self._aborts:
            self._aborts.begin(slot)

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are gone."""
        for slot in slots:
            self._newest.forget(slot)
            self._cuts.pop(slot, None)
            if self._aborts:
                self._aborts.forget(slot)

    def add_all(self, raws: Iterable[Raw], events: Iterable[Event]) -> None:
        """These were reported. (Those that take something back are not to be taken back.)"""
        reported = [
            seen(raw.position, event)
            for raw, event in zip(raws, events, strict=True)
            if isinstance(raw.position, Place)
        ]
        self._newest.add_all(reported)
        if self._aborts:
            for record in reported:
                self._aborts.add(record)

    def cut(self, slot: Slot, cut: Cut, position: int) -> None:
        """The log was cut off; it had been read up to `position`."""
        self._cuts[slot] = cut
        self._take_back(self._newest.cut(slot, cut, position))
        if self._aborts:
            self._aborts.cut(slot, cut)

    def step(self, now: int, frontier: Frontier) -> None:
        """See which transactions ended, if they are followed; raises as `Aborts.step`. `now` in ticks."""
        if self._aborts:
            self._take_back(self._aborts.step(now, frontier))

    @property
    def full(self) -> bool:
        """So many records wait for the end of their transactions that no more may be read for now."""
        return self._aborts is not None and self._aborts.full

    def wait(self, seconds: float) -> None:
        """Until something shows of the records that wait, or for so long."""
        if self._aborts:
            self._aborts.wait(seconds)

    def gone(self, place: Place) -> bool:
        """Whether the log was cut off before it since it was read."""
        cut = self._cuts.get(place.slot)
        return cut is not None and cut.off(place)

    def decided(self, place: Place) -> Place | None:
        """The newest record up to `place` that need not be read again: all up to it will stay, or was taken back."""
        return self._aborts.decided(place) if self._aborts else place

    def back(self, limit: int) -> list[Raw]:
        """What has to be taken back, at most `limit` at a time; each is given once."""
        return [self._back.popleft() for _ in range(min(limit, len(self._back)))]

    def close(self) -> None:
        """Close the connection of the second reader."""
        if self._aborts:
            self._aborts.close()

    def _take_back(self, gone: Iterable[Gone | Unnamed]) -> None:
        now = self._clock()
        self._back.extend(Raw(b"", position=one, observed_at=now) for one in gone)
