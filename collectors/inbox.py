"""What a system pushed, in its order, and between the records what is known to be complete. For a collector that
vouches for all of its sources or for none."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from collectors.base import NOTHING_YET_MS, Lag, Raw
from collectors.clock import Clock
from tracker.model.coverage import SourceRef


class _Mark(NamedTuple):
    reached: int | None
    hole: bool


class Inbox:
    """Answers `sources` and `lag` of a collector as far as `take` has come. `clock`: that of all moments here (µs)."""

    def __init__(self, refs: Sequence[SourceRef], clock: Clock) -> None:
        self._refs, self._clock = refs, clock
        self._came: deque[Raw | _Mark] = deque()
        self._waiting = 0
        self._reached: int | None = None
        self._hole = False

    def __bool__(self) -> bool:
        return bool(self._came)

    def put(self, raw: Raw) -> None:
        """A record."""
        self._came.append(raw)
        self._waiting += 1

    def complete(self, reached: int, hole: bool = False) -> None:
        """All that happened until `reached` was put before. `hole`: but for what may be missing since the time before
        at which that was so."""
        self._came.append(_Mark(reached, hole))

    def hole(self) -> None:
        """Something may be missing from here on, until it is `complete` again."""
        self._came.append(_Mark(None, True))

    def take(self, limit: int) -> list[Raw]:
        """The oldest records."""
        raws: list[Raw] = []
        while self._came and len(raws) < limit:
            first = self._came.popleft()
            if isinstance(first, Raw):
                raws.append(first)
            else:
                self._reached, self._hole = first.reached, self._hole or first.hole
        self._waiting -= len(raws)
        return raws

    def sources(self) -> Sequence[SourceRef] | None:
        """None until something was complete. A hole is one empty answer, which the runner is sure to get."""
        if self._hole:
            self._hole = False
            return []
        return None if self._reached is None else self._refs

    def lag(self) -> Lag:
        """Since it was complete; the backlog is what lies here."""
        behind = NOTHING_YET_MS if self._reached is None else -((self._reached - self._clock()) // 1000)
        return Lag(max(0, behind), self._waiting)
