"""The two clocks of a replay; both come in as arguments wherever they are used."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since 1970-01-01 UTC: for claims and all that is stored or compared with coverage. It may jump."""
Steady = Callable[[], float]
"""Seconds from some beginning that never jump: for rates and pauses."""


def now_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


def steady_s() -> float:
    """The monotonic clock."""
    return time.monotonic()
