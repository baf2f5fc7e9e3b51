"""A token bucket: so many messages a second to one target, in the long run and without a burst at the start."""

from __future__ import annotations

from collections.abc import Callable

BURST_S = 1.0
"""How much unused rate is kept: what a bucket holds at most, in seconds of its rate."""


class Bucket:
    """Ask `room`, send at most that, `take` what was sent. One thread uses it.

    `rate` in messages per second, above 0; `clock` gives seconds that never jump. A bucket holds one message at least,
    so that a rate below one per `BURST_S` still moves.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = rate
        self._tokens = 1.0
        self._at = clock()

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self._rate

    def set_rate(self, rate: float) -> None:
        """From now on; what has gathered so far is kept as far as the new rate may hold it."""
        self._refill()
        self._rate = rate
        self._tokens = min(self._tokens, self._capacity)

    def room(self) -> int:
        """How many messages may be sent now."""
        self._refill()
        return int(self._tokens + 1e-9)

    def take(self, count: int) -> None:
        """So many were sent. More than `room` makes the next ones wait longer."""
        self._refill()
        self._tokens -= count

    def wait(self) -> float:
        """Seconds until there is room for one."""
        self._refill()
        return max(0.0, (1.0 - self._tokens) / self._rate)

    @property
    def _capacity(self) -> float:
        return max(1.0, self._rate * BURST_S)

    def _refill(self) -> None:
        now = self._clock()
        gathered = max(0.0, now - self._at) * self._rate
        self._tokens = min(self._capacity, self._tokens + gathered)
        self._at = now
