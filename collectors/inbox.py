"""What a system pushed, in its order, and between the records what is known to be complete. For a collector that
vouches for all of its sources or for none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
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
        self.size = 0
        """Bytes of the records here, without their headers."""
        self.untold = 0
        """Holes that nobody has asked for yet."""
        self._reached: int | None = None
        self._holes = 0  # of these, what `take` came to

    def __bool__(self) -> bool:
        return bool(self._came)

    def put(self, raw: Raw) -> None:
        """A record."""
        self._came.append(raw)
        self._waiting += 1
        self.size += len(raw.value)

    def complete(self, reached: int, hole: bool = False) -> None:
        """All that happened until `reached` was put before. `hole`: but for what may be missing since the time before
        at which that was so."""
        self._mark(_Mark(reached, hole))

    def hole(self) -> None:
        """Something may be missing from here on, until it is `complete` again."""
        self._mark(_Mark(None, True))

    def read(self, limit: int, wait: float, pump: Callable[[float], bool]) -> list[Raw]:
        """As `Collector.read`: `pump` waits at most so many seconds for something to `put`; False: there will be no
        more."""
        until = time.monotonic() + wait
        raws: list[Raw] = []
        while len(raws) < limit:
            more = bool(self) or pump(0.0 if raws else max(0.0, until - time.monotonic()))
            if self:
                raws += self.take(limit - len(raws))
            elif raws or not more or time.monotonic() >= until:
                break
        return raws

    def take(self, limit: int) -> list[Raw]:
        """The oldest records."""
        raws: list[Raw] = []
        while self._came and len(raws) < limit:
            first = self._came.popleft()
            if isinstance(first, Raw):
                raws.append(first)
                self.size -= len(first.value)
            else:
                self._reached, self._holes = first.reached, self._holes + first.hole
        self._waiting -= len(raws)
        return raws

    def sources(self) -> Sequence[SourceRef] | None:
        """None until something was complete. A hole is one empty answer, which the runner is sure to get."""
        if self._holes:
            self.untold -= self._holes
            self._holes = 0
            return []
        return None if self._reached is None else self._refs

    def lag(self) -> Lag:
        """Since it was complete; the backlog is what lies here."""
        behind = NOTHING_YET_MS if self._reached is None else -((self._reached - self._clock()) // 1000)
        return Lag(max(0, behind), self._waiting)

    def _mark(self, mark: _Mark) -> None:
        self._came.append(mark)
        self.untold += mark.hole
