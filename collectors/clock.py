"""The two clocks of a collector. Both give microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]


def now_micros() -> int:
    """The wall clock: for what is observed. It may be set and jump."""
    return time.time_ns() // 1000


def elapsed_ns() -> int:
    """Nanoseconds since some moment, whatever becomes of the wall clock. Also those in which the host slept, where the
    system counts them (Linux: clock_gettime(2), CLOCK_BOOTTIME): nobody has read meanwhile, and a lag has to say so."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns()


def elapsed() -> float:
    """The same in seconds."""
    return elapsed_ns() / 1e9


def steady(base: int = 0) -> Clock:
    """A clock that starts at the wall clock and never jumps: for lags and ages, which must not change when somebody
    sets the time. `base`: that of a clock before it in the same run of the host, ns (`base_of`). Where the wall clock
    was set back since, that one goes on, or what was noted by it would look younger than it is."""
    offset = max(base, time.time_ns() - elapsed_ns())

    def now() -> int:
        return (elapsed_ns() + offset) // 1000

    return now


def base_of(clock: Clock) -> int:
    """What `steady` takes: the clock minus the time since the host began to run, ns."""
    return clock() * 1000 - elapsed_ns()
