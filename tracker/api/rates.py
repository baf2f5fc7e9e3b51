"""How much one sender may send: token buckets, paid afterwards, since what a body holds is known when it is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

BURST_S = 5.0
"""A sender that was quiet may send so many seconds' worth at once."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Rate:
    """At most `limit` of something per second and sender; 0: no limit. `clock` gives seconds."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self.limit, self._clock = limit, clock
        self._buckets: dict[str, _Bucket] = {}

    def wait(self, who: str) -> int:
        """Whole seconds until `who` may send again; 0 now."""
        left = self._bucket(who).left if self.limit else 1.0
        return 0 if left > 0 else max(1, math.ceil(-left / self.limit))

    def charge(self, who: str, amount: float) -> None:
        """`who` has sent so much. It may fall below zero: the next request waits until that is made up for."""
        if self.limit:
            self._bucket(who).left -= amount

    def _bucket(self, who: str) -> _Bucket:
        now, full = self._clock(), self.limit * BURST_S
        bucket = self._buckets.setdefault(who, _Bucket(full, now))
        bucket.left = min(full, bucket.left + (now - bucket.at) * self.limit)
        bucket.at = now
        return bucket
