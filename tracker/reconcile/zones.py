"""Where nobody vouches, as columns: the same question as `Coverage.hole`, asked for many spans at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracker.model.coverage import FOREVER as NEVER
from tracker.model.coverage import Coverage, SourceCover

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LONG_AGO = -(1 << 62)


@dataclass(frozen=True)
class Zones:
    """Disjoint zones without coverage, in order: a span [start, end] has a hole where start < `highs` and end > `lows`
    of some zone. `ends`: moments at which a source was closed by its time to live; a span of that single moment, which
    is no zone, is uncovered, too."""

    lows: Ints
    highs: Ints
    ends: Ints

    def touch(self, start: Ints, end: Ints) -> Bools:
        """Which of the spans [start, end], start <= end, have a hole."""
        first = np.searchsorted(self.highs, start, side="right")
        lows = np.append(self.lows, NEVER)
        hole: Bools = (lows[first] < end) | ((start == end) & np.isin(start, self.ends))
        return hole


def zones(coverage: Coverage, hop: str, stage: str, now: int) -> Zones:
    """The zones of one (hop, stage)."""
    watched = coverage.watched(hop, stage)
    if not watched.covers:
        reach = coverage.assumed_until(hop, stage, now)
        return _zones([*coverage.lost(hop, stage), (LONG_AGO if reach is None else reach, NEVER)])
    found = [
        *coverage.lost(hop, stage),
        (LONG_AGO, watched.opened),
        *((low - 1, high) for low, high, _ in watched.deserted),
    ]
    for cover in watched.covers:
        found += _gaps(cover)
    return _zones(found, [s.closed for s in watched.covers if s.vanished and s.closed is not None])


def _gaps(cover: SourceCover) -> Iterable[tuple[int, int]]:
    """Between what a source vouches for, and after that while it is open."""
    highs = [high for _, high in cover.intervals]
    lows = [low for low, _ in cover.intervals[1:]]
    return zip(highs, [*lows, NEVER if cover.closed is None else cover.closed], strict=True)


def _zones(found: Iterable[tuple[int, int]], ends: Sequence[int] = ()) -> Zones:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(span for span in found if span[0] < span[1]):
        if joined and low < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    lows, highs = (np.array([span[n] for span in joined], dtype=np.int64) for n in (0, 1))
    return Zones(lows, highs, np.array(ends, dtype=np.int64))
