"""The two clocks of a collector. Both give microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]


def now_micros() -> int:
    """The wall clock: for what is observed. It may be set and jump."""
    return time.time_ns() // 1000


def steady() -> Clock:
    """A clock that starts at the wall clock and never jumps: for lags and ages, which must not change when somebody
    sets the time."""
    offset = time.time_ns() - time.monotonic_ns()

    def now() -> int:
        return (time.monotonic_ns() + offset) // 1000

    return now
