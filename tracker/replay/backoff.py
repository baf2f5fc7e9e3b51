"""When a message is tried again: exponential backoff with full jitter, within a budget.

Full jitter draws from the whole span, so that many messages that failed together do not come back together
(M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The budget bounds retries as a whole:
jitter spreads them, but where all fails each message still comes three times. (Finagle's `RetryBudget` bounds them so,
too: a share of what was sent for the first time, and a few a second.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tracker.model.units import SECOND

BASE = 5 * SECOND
LONGEST = 300 * SECOND
SHARE = 0.1
"""Retries by first attempts, over the span: a target that refuses all gets a tenth more than it was to get."""
SPAN_S = 10.0
FLOOR = 10.0
"""Retries a second that are always allowed, or else the last messages of a replay, all retries, would never go; but
at most `SHARE` of the target's rate."""


def delay(attempt: int, uniform: Callable[[float, float], float]) -> int:
    """Microseconds to wait after attempt number `attempt` (from 1)."""
    bound = min(LONGEST, BASE * 2 ** min(attempt - 1, 16))
    return round(uniform(0, bound))


class Budget:
    """How many retries one target gets, by the last `SPAN_S`. `clock` gives seconds that never jump. One thread uses
    it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent = deque[tuple[float, int, int]]()

    def room(self, rate: float) -> int:
        """How many retries may be sent now, to a target that may get `rate` messages a second: one at least while none
        was sent."""
        since = self._clock() - SPAN_S
        while self._sent and self._sent[0][0] <= since:
            self._sent.popleft()
        first, again = sum(one[1] for one in self._sent), sum(one[2] for one in self._sent)
        allowed = SHARE * first + min(FLOOR, SHARE * rate) * SPAN_S
        return max(0, int(max(1.0, allowed)) - again)

    def take(self, first: int, again: int) -> None:
        """So many were sent for the first time, and again."""
        self._sent.append((self._clock(), first, again))
