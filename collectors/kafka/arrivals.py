"""When a copy came into its log, as far as that can be told. Pure: no I/O, time comes in as an argument.

A mirror gives the copy its original's timestamp, so the record itself says nothing about it (docs/adr/0025). The looks
at the logs' ends do: what lies behind an end that was found after T had not been copied at T, and what lies before an
end that was known at U had been copied by U.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from collectors.base import Raw
from collectors.kafka.frontier import Slot
from collectors.kafka.records import Place

KEPT = 1_000
"""Looks remembered of each partition: with two a second some eight minutes of a backlog that grows."""


class Look(msgspec.Struct, gc=False):
    """The log ended here: at some moment before `by`, and still at some moment after `at` (µs)."""

    end: int
    by: int
    at: int


class Arrivals:
    """What the looks at the logs' ends say of records that are read later, in each partition in their order. `apart`:
    µs between two looks up to which the first of them dates what came in between."""

    def __init__(self, apart: int) -> None:
        self._apart = apart
        self._looks: dict[Slot, deque[Look]] = {}

    def found(self, at: int, by: int, ends: Mapping[Slot, int]) -> None:
        """The logs ended at `ends` at some moment after `at` and before `by`."""
        for slot, end in ends.items():
            looks = self._looks.setdefault(slot, deque(maxlen=KEPT))
            self.cut(slot, end)
            if looks and looks[-1].end == end:
                looks[-1].at = at
            else:
                looks.append(Look(end, by, at))

    def cut(self, slot: Slot, end: int) -> None:
        """The log was cut off here at the latest: what had been found behind was not what stands there since."""
        looks = self._looks.get(slot) or deque()
        while looks and looks[-1].end > end:
            looks.pop()

    def between(self, slot: Slot, offset: int, now: int) -> tuple[int, int] | None:
        """The newest moment at which the record at `offset`, read at `now`, was not there yet, and the oldest at which
        it was; None where nobody looked in time."""
        looks = self._looks.get(slot) or deque()
        while len(looks) > 1 and looks[1].end <= offset:
            looks.popleft()
        if not looks or looks[0].end > offset:
            return None
        return looks[0].at, min(looks[1].by, now) if len(looks) > 1 else now

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are left; whoever begins there again may begin with other records."""
        for slot in slots:
            self._looks.pop(slot, None)

    def dated(self, raw: Raw, now: int) -> Raw:
        """The record, read at `now`, with the time at which it came: the earliest that is possible, no earlier than the
        look and its own timestamp. Where nobody looked in time, or not for long, and the timestamp is the original's: a
        span, in which it came."""
        place: Place = raw.position
        stamp = min(raw.observed_at or now, now)
        look = self.between(place.slot, place.offset, now)
        since = max(stamp, min(look[0] if look else stamp, now))
        by = max(look[1], since) if look else now
        moment = not place.created or (look is not None and by - since <= self._apart)
        came = since, since if moment else by
        return msgspec.structs.replace(raw, position=msgspec.structs.replace(place, came=came))
