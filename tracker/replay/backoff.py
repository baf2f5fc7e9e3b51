"""When a message is tried again: exponential backoff with full jitter.

Full jitter draws from the whole span, so that many messages that failed together do not come back together
(M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Callable

from tracker.model.units import SECOND

BASE = 5 * SECOND
LONGEST = 300 * SECOND


def delay(attempt: int, uniform: Callable[[float, float], float]) -> int:
    """Microseconds to wait after attempt number `attempt` (from 1)."""
    bound = min(LONGEST, BASE * 2 ** min(attempt - 1, 16))
    return round(uniform(0, bound))
