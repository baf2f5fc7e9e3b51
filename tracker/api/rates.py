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
    """At most `limit` of something per second and sender, unless a sender has a limit of its own; 0: no limit. `clock`
    gives seconds."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self.limit, self._clock = limit, clock
        self._own: dict[str, float] = {}
        self._buckets: dict[str, _Bucket] = {}

    def of(self, who: str) -> float:
        """The limit that holds for `who`."""
        return self._own.get(who, self.limit)

    def allow(self, who: str, limit: float | None) -> None:
        """From now on `who` has this limit of its own; None: that of all. What it owes lasts as long as before."""
        before = self.of(who)
        if limit is None:
            self._own.pop(who, None)
        else:
            self._own[who] = limit
        now = self.of(who)
        if not (now and before):
            self._buckets.pop(who, None)
        elif now != before and who in self._buckets:  # it waits as long as it had to, not for what it owes anew
            self._bucket(who, before).left *= now / before

    def wait(self, who: str) -> int:
        """Whole seconds until `who` may send again; 0 now."""
        limit = self.of(who)
        left = self._bucket(who, limit).left if limit else 1.0
        return 0 if left > 0 else max(1, math.ceil(-left / limit))

    def charge(self, who: str, amount: float) -> None:
        """`who` has sent so much. It may fall below zero: the next request waits until that is made up for."""
        if limit := self.of(who):
            self._bucket(who, limit).left -= amount

    def _bucket(self, who: str, limit: float) -> _Bucket:
        now, full = self._clock(), limit * BURST_S
        bucket = self._buckets.setdefault(who, _Bucket(full, now))
        bucket.left = min(full, bucket.left + (now - bucket.at) * limit)
        bucket.at = now
        return bucket
