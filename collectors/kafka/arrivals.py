"""When a copy came into its log, as far as that can be told. Pure: no I/O, time comes in as an argument.

A mirror gives the copy its original's timestamp, so the record itself says nothing about it (docs/adr/0025). The looks
at the logs' ends do: what lies behind an end that was found after T had not been copied at T.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import structs

from collectors.base import Raw
from collectors.kafka.frontier import Slot
from collectors.kafka.records import Place

KEPT = 1_000
"""Looks remembered of each partition: with two a second some eight minutes of a backlog that grows."""


class Arrivals:
    """What the looks at the logs' ends say of records that are read later, in each partition in their order."""

    def __init__(self) -> None:
        self._looks: dict[Slot, deque[tuple[int, int]]] = {}

    def found(self, at: int, ends: Mapping[Slot, int]) -> None:
        """The logs ended at `ends` at some moment after `at`."""
        for slot, end in ends.items():
            looks = self._looks.setdefault(slot, deque(maxlen=KEPT))
            if looks and looks[-1][0] == end:
                looks[-1] = (end, at)
            elif not looks or looks[-1][0] < end:  # of a log that was cut the older looks stay true
                looks.append((end, at))

    def after(self, slot: Slot, offset: int) -> int | None:
        """The newest moment at which the record at `offset` was not there yet; None where nobody looked in time."""
        looks = self._looks.get(slot) or deque()
        while len(looks) > 1 and looks[1][0] <= offset:
            looks.popleft()
        return looks[0][1] if looks and looks[0][0] <= offset else None

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are left; whoever begins there again may begin with other records."""
        for slot in slots:
            self._looks.pop(slot, None)

    def dated(self, raw: Raw, now: int) -> Raw:
        """The record, read at `now`, with the time at which it came: the earliest that is possible, no earlier than the
        look and its own timestamp. Where nobody looked in time, and the timestamp is the original's: the span between
        that and `now`."""
        place: Place = raw.position
        stamp = min(raw.observed_at or now, now)
        look = self.after((place.topic, place.partition), place.offset)
        earliest = max(stamp, min(look or stamp, now))
        came = (earliest, now if look is None and place.created else earliest)
        return structs.replace(raw, position=structs.replace(place, came=came))
