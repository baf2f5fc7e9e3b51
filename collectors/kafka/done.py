"""Which records the tracker has, and when the cluster is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from collectors.clock import Clock
from collectors.errors import CollectorError
from collectors.kafka.frontier import Slot
from collectors.kafka.positions import Position, Positions
from collectors.kafka.records import Place

SHARE = 20
"""A position goes to the group's coordinator and back, some milliseconds in which nothing is read. At most one part in
so many of the time goes into that: what comes sooner waits, and comes again after a SIGKILL."""


class Done:
    """The newest record in each partition that the tracker has and that no kept position lies behind.

    `decided` gives the newest record up to one that need not be read again, None where there is none. `ticks`: µs.
    """

    def __init__(self, positions: Positions, decided: Callable[[Place], Place | None], ticks: Clock) -> None:
        self._positions, self._decided, self._ticks = positions, decided, ticks
        self._newest: dict[Slot, Place] = {}
        self._keep_at = 0
        self._refused = False

    def add(self, place: Place) -> None:
        """The tracker has this one, and all before it."""
        kept, known = self._positions.kept.get(place.slot), self._newest.get(place.slot)
        if (kept is None or kept.offset <= place.offset) and (known is None or known.offset < place.offset):
            self._newest[place.slot] = place

    def forget(self, slots: Iterable[Slot]) -> None:
        """These are read no longer, or from somewhere else."""
        for slot in slots:
            self._newest.pop(slot, None)

    def keep_soon(self) -> None:
        """Keep positions, unless that was done a moment ago. Raises as `keep`."""
        if self._ticks() >= self._keep_at:
            self.keep()

    def keep_last(self) -> None:
        """Keep what waits, unless nobody took it the last time: then it comes again."""
        if not self._refused:
            with suppress(CollectorError):
                self.keep()

    def keep(self) -> None:
        """Keep a position behind each of these, never one before what is kept. What waits for the end of its
        transaction is kept when that is known. Raises `Unavailable`, `ConfigInvalid`."""
        kept, ahead = self._positions.kept, dict[Slot, Position]()
        for slot, newest in self._newest.items():
            place = self._decided(newest)
            if place and (slot not in kept or kept[slot].offset <= place.offset):
                ahead[slot] = Position(place.offset + 1, place.epoch)
        if ahead:
            began, self._refused = self._ticks(), True
            self._positions.keep(ahead)
            self._keep_at, self._refused = (now := self._ticks()) + SHARE * (now - began), False
        for slot in ahead:
            if slot in kept and kept[slot].offset > self._newest[slot].offset:
                del self._newest[slot]
