"""How far a node's wall clock is from the tracker's: measured with a request and its answer, never by one-way passages.

The four timestamps and their arithmetic are those of NTP (RFC 5905, section 8): sent at `t0` and answered at `t3` by
the node's clock, received at `t1` and answered at `t2` by the tracker's. Whatever the two ways took, the true offset
lies between t2 - t3 and t1 - t0, so the middle is wrong by at most half the round trip without the time in between.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ANSWER_HEADER = "Tracker-Clock"
"""Header of every answer of a tracker: `t1 t2`, epoch microseconds, decimal digits."""
MOST = 10 * 365 * 86_400_000_000
"""A larger offset (µs, ten years) is taken for a mistake of whoever sent it."""
_ANSWER = re.compile(r"(\d{1,18}) (\d{1,18})")


class Offset(NamedTuple):
    """Microseconds to add to a clock to get the tracker's, and by how much that is wrong at most."""

    offset: int
    error: int

    @property
    def correction(self) -> int:
        """What to add: nothing where the offset is not larger than its own error."""
        return self.offset if abs(self.offset) > self.error else 0


def measured(t0: int, t1: int, t2: int, t3: int) -> Offset | None:
    """The offset that one request and its answer show (µs); None where a clock was set in between."""
    low, high = t2 - t3, t1 - t0
    if t3 < t0 or t2 < t1 or low > high:
        return None
    return Offset((low + high) // 2, (high - low + 1) // 2)


def answered(text: str) -> tuple[int, int] | None:
    """`t1` and `t2` of an answer's header; None when it is absent or says something else."""
    found = _ANSWER.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


def unbelievable(offset: int, error: int) -> str:
    """Why an offset that somebody sent is not used; empty when it may be."""
    if abs(offset) > MOST:
        return f"offset_us {offset} is more than ten years: is it microseconds? It is not used."
    if not 0 <= error <= MOST:
        return f"error_us {error} is no error: half a round trip in microseconds is expected. It is not used."
    return ""
