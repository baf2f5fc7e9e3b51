"""What is known of this node's wall clock: how far it is from the tracker's, and whether somebody set it.

Requests are timed by a clock that never jumps (`ticks`), so the tracker's clock is known as an offset to that one; the
wall clock is read against it when it is needed. Setting the time shows as a jump between the two, at once.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from collectors.clock import Clock, now_micros
from tracker.model.clock import Offset, measured

KEPT = 8
"""Round trips that are remembered; the shortest counts (RFC 5905, section 10: the clock filter)."""
DRIFT = 100e-6
"""How fast two clocks may part while nobody measures: 100 ppm, more than a quartz in a server strays."""
STEP = 20_000
"""A difference (µs) between wall clock and ticks that changes by more than this was a step: somebody set the time."""


def ticks() -> int:
    """Microseconds of a clock that never jumps and begins anywhere."""
    return time.monotonic_ns() // 1000


class Exchange(NamedTuple):
    """A request and its answer, µs: `sent` and `back` by `ticks`, `received` and `answered` by the tracker's clock."""

    sent: int
    received: int
    answered: int
    back: int


class NodeClock:
    """Used by one thread. `wall` is the clock that dates observations."""

    def __init__(self, wall: Clock = now_micros, steady: Clock = ticks) -> None:
        self._wall, self._ticks = wall, steady
        self._kept: list[tuple[int, Offset]] = []
        self.base, self._fuzz = self._read()
        """Wall clock minus ticks, µs: the same for as long as nobody sets the time or starts the host anew."""

    @property
    def known(self) -> bool:
        """Whether there is a measurement."""
        return bool(self._kept)

    def heard(self, exchange: Exchange) -> None:
        """Take a round trip into account. Older ones that contradict it are forgotten: a clock was set."""
        found = measured(*exchange)
        if found is None:
            return
        agreeing = [(at, old) for at, old in self._kept if self._agree(old, found, exchange.back - at)]
        self._kept = [*agreeing[1 - KEPT :], (exchange.back, found)]

    def offset(self, age: int = 0) -> Offset | None:
        """What to add to times that the wall clock showed up to `age` µs ago; None while nothing was measured, or
        after the time was set."""
        if not self._kept:
            return None
        now = self._ticks()
        error, best = min((old.error + _strayed(now - at), old.offset) for at, old in self._kept)
        return Offset(best - self.base, error + _strayed(age) + self._fuzz)

    def stepped(self) -> bool:
        """Whether the time was set since this was last asked; measurements are forgotten then, because a host that
        slept looks the same."""
        base, self._fuzz = self._read()
        moved = abs(base - self.base) > STEP
        self.base = base
        if moved:
            self._kept = []
        return moved

    def _read(self) -> tuple[int, int]:
        """(wall clock minus ticks, by how much that may be wrong): the quickest of three looks."""
        looks = [(self._ticks(), self._wall(), self._ticks()) for _ in range(3)]
        before, wall, after = min(looks, key=lambda look: look[2] - look[0])
        return wall - (before + after) // 2, (after - before + 1) // 2

    @staticmethod
    def _agree(old: Offset, new: Offset, apart: int) -> bool:
        return abs(old.offset - new.offset) <= old.error + new.error + _strayed(apart)


def _strayed(span: int) -> int:
    return -int(-max(span, 0) * DRIFT // 1)
