"""What collectors vouch for: on the wire (`Report`) and as intervals (`Coverage`).

A report is dated by the tracker: its collector has seen all that happened up to `received_at - lag_ms`. Only a
contiguous sequence of reports counts; a gap in `sequence`, a new `epoch` or `dropped` events break the interval.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Literal

import msgspec

from tracker.model.units import SECOND

ASSUME_FOR = 15 * 60 * SECOND
"""How long assumed coverage vouches after the last thing that came from that hop and stage."""
GRACE = 2 * SECOND
"""Assumed coverage never vouches for the last moments before now: what was seen may still be on its way."""
SOURCE_TTL = 3600 * SECOND
"""A source that vanished ends after this long and leaves a permanent blind spot."""
FOREVER = (1 << 63) - 1
"""A time that never comes."""
ALWAYS = -(1 << 62)
"""A time before any other."""


class SourceRef(msgspec.Struct, frozen=True, order=True):
    """One thing a collector watches: a partition, a queue, a client process, at one (hop, stage) of one flow.

    `evidence` says what it gives: single messages, or only ranges (a group's committed offsets).
    """

    flow: str
    hop: str
    stage: str
    source: str
    evidence: Literal["message", "range"] = "message"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One coverage report: the `Tracker-Coverage` header of a batch, or the body of `POST /v1/coverage`.

    `epoch` grows at each start of the collector that lost something, `sequence` by one per report within an epoch,
    from 1. `events` is how many lines the batch carries, `dropped` how many the collector had to give up since the
    report before. `offset_us`: what to add to the wall clock that observed these lines to get the tracker's, measured
    as `tracker.model.clock` says, wrong by at most `error_us`; None where it was not measured or is not known.
    """

    collector: str
    epoch: int
    sequence: int
    events: int = 0
    lag_ms: int = 0
    backlog: int = 0
    dropped: int = 0
    offset_us: int | None = None
    error_us: int = 0
    sources: list[SourceRef] = msgspec.field(default_factory=list)
    signed_off: list[SourceRef] = msgspec.field(default_factory=list)


Interval = tuple[int, int]
"""A span that is vouched for: (from, to), microseconds of the tracker's clock, both ends included."""


@dataclass(frozen=True, slots=True)
class SourceCover:
    """What is vouched for on one source: disjoint intervals in order; `closed`: it signed off, or its ttl ended, or
    another kind of evidence, which is better, was announced. `evidence`: `message`, `range`, or `assumed`."""

    source: str
    intervals: tuple[Interval, ...]
    closed: int | None = None
    evidence: str = "message"

    @property
    def opened(self) -> int:
        """When it was first vouched for."""
        return self.intervals[0][0]

    @property
    def vanished(self) -> bool:
        """It ended without a word: closed by its time to live, later than anything that it vouched for."""
        return self.closed is not None and self.closed > self.intervals[-1][1]

    def until(self, moment: int) -> SourceCover:
        """As it counts when something better is there from `moment` on; it was opened before."""
        intervals = tuple((low, min(high, moment)) for low, high in self.intervals if low < moment)
        return replace(self, intervals=intervals, closed=moment if self.closed is None else min(self.closed, moment))

    def hole(self, start: int, end: int) -> Interval | None:
        """The first part of [start, end] for which this source was open and is not vouched for; a single moment, too,
        is vouched for or is not."""
        moment = start == end
        start = max(start, self.opened)
        end = end if self.closed is None else min(end, self.closed)
        vouched, until = False, end
        for n in range(bisect_left(self.intervals, start, key=itemgetter(1)), len(self.intervals)):
            low, high = self.intervals[n]
            if low > start:
                until = min(low, end)
                break
            vouched = vouched or high >= start
            start = max(start, high)
        return (start, until) if start < until or (moment and start == end and not vouched) else None


@dataclass(frozen=True, slots=True)
class Watched:
    """Who watches one (hop, stage): one cover per source, when the first of them opened, and the spans in which none is
    open because the last one before vanished, as (from, to, the one that vanished). Where every source signed off
    nothing runs, so nothing is missed."""

    covers: Sequence[SourceCover]
    opened: int
    deserted: Sequence[tuple[int, int, str]]

    @classmethod
    def of(cls, sources: Sequence[SourceCover]) -> Watched:
        """All of it in one go over the sources, for there may be thousands that are gone."""
        covers = merged(sources)
        ended = sorted(((s.closed, s) for s in covers if s.closed is not None), key=lambda pair: -pair[0])
        following = min((s.opened for s in covers if s.closed is None), default=FOREVER)
        deserted = []
        for closed, group in groupby(ended, key=lambda pair: pair[0]):
            some = [s for _, s in group]
            deserted += [(closed + 1, following, s.source) for s in some if s.vanished and following > closed + 1]
            following = min(following, *(s.opened for s in some))
        return cls(covers, min((s.opened for s in covers), default=FOREVER), sorted(deserted))

    def alone(self, start: int, end: int) -> tuple[int, int, str] | None:
        """The first part of [start, end] that is deserted."""
        for low, high, source in self.deserted:
            begin = max(start, low)
            if begin <= end and begin < high:
                return begin, min(end, high), source
        return None


@dataclass(frozen=True, slots=True)
class Hole:
    """Why a (hop, stage) is not covered from `start` to `end`."""

    hop: str
    stage: str
    start: int
    end: int
    cause: Literal["never_seen", "silent", "not_announced", "behind", "hole", "refused", "deaf"]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """All that is vouched for in one flow. `sources` by (hop, stage); `last_heard` is the newest receipt of anything
    from that (hop, stage), for coverage that is only assumed; `assumed` lists where the spec declares it so.
    `unannounced` is what `last_heard` was when the first source announced itself there: it says nothing of what was
    before, so that stays assumed.
    `refused`, by (hop, stage), either of them empty where it is not known: what happened in these spans, ends excluded,
    was told in lines that could not be used, whoever vouches for it. `unreadable` is the same of lines that do not even
    tell their flow; whoever reports answers for those himself. `deaf`: spans in which nobody could tell us anything;
    who reports answers for these, too.
    """

    sources: Mapping[tuple[str, str], Sequence[SourceCover]] = field(default_factory=dict)
    last_heard: Mapping[tuple[str, str], int] = field(default_factory=dict)
    assumed: frozenset[tuple[str, str]] = frozenset()
    assume_for: int = ASSUME_FOR
    grace: int = GRACE
    unannounced: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refused: Mapping[tuple[str, str], Sequence[Interval]] = field(default_factory=dict)
    unreadable: Mapping[tuple[str, str], Sequence[Interval]] = field(default_factory=dict)
    deaf: Sequence[Interval] = ()
    _counting: dict[tuple[str, str], Sequence[SourceCover]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _watched: dict[tuple[str, str], Watched] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lost: dict[tuple[str, str], tuple[Interval, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def of(self, hop: str, stage: str) -> Sequence[SourceCover]:
        """The sources that count at (hop, stage): those that see messages; until the first of them announced itself
        those that see ranges; until any did, what was assumed. Found once."""
        known = self._counting.get((hop, stage))
        if known is None:
            known = self._counting[hop, stage] = () if (hop, stage) in self.assumed else self._by_kind(hop, stage)
        return known

    def _by_kind(self, hop: str, stage: str) -> list[SourceCover]:
        every = self.sources.get((hop, stage), ())
        counting = [s for s in every if s.evidence == "message"]
        for worse in ([s for s in every if s.evidence != "message"], self._assumed_before(hop, stage, every)):
            first = min((s.opened for s in counting), default=FOREVER)
            counting += [s if first == FOREVER else s.until(first) for s in worse if s.opened < first]
        return counting

    def _assumed_before(self, hop: str, stage: str, announced: Sequence[SourceCover]) -> list[SourceCover]:
        heard = self.unannounced.get((hop, stage))
        return [SourceCover("", ((ALWAYS, heard + self.assume_for),), None, "assumed")] if heard and announced else []

    def watched(self, hop: str, stage: str) -> Watched:
        """What `of` gives, by source; found once."""
        known = self._watched.get((hop, stage))
        if known is None:
            known = self._watched[hop, stage] = Watched.of(self.of(hop, stage))
        return known

    def vouches(self, hop: str, stage: str) -> bool:
        """True when a source that sees single messages has ever announced itself for (hop, stage)."""
        return self.announced(hop, stage) is not None

    def announced(self, hop: str, stage: str) -> int | None:
        """From when on a source that sees single messages vouches for (hop, stage); None when there never was one."""
        return min((s.opened for s in self.of(hop, stage) if s.evidence == "message"), default=None)

    def reach(self, hops: Sequence[str], stage: str, now: int) -> int:
        """How far all who watch any of `hops` vouch so far; `now` where nobody does, or all of them have ended."""
        ends = [now]
        for hop in hops:
            covers = self.watched(hop, stage).covers
            ends += [s.intervals[-1][1] for s in covers if s.closed is None]
            assumed = None if covers else self.assumed_until(hop, stage, now)
            ends += [] if assumed is None else [assumed]
        return min(ends)

    def lost(self, hop: str, stage: str) -> tuple[Interval, ...]:
        """The spans, ends excluded, of which something of (hop, stage) was refused, or could not be told; disjoint, in
        order; found once."""
        known = self._lost.get((hop, stage))
        if known is None:
            places = ((hop, stage), (hop, ""), ("", stage), ("", ""))
            mine, anybodys = ([i for place in places for i in by.get(place, ())]
                              for by in (self.refused, self.unreadable))  # fmt: skip
            until = min((s.opened for s in self.of(hop, stage) if s.evidence != "assumed"), default=FOREVER)
            anybodys = [(low, min(high, until)) for low, high in (*anybodys, *self.deaf) if low < until]
            known = self._lost[hop, stage] = join(mine + anybodys)
        return known

    def hole(self, hop: str, stage: str, start: int, end: int, now: int) -> Hole | None:
        """The first part of [start, end] at (hop, stage) that nobody vouches for; None when it is covered."""
        holes = (self._refused_hole(hop, stage, start, end), self._unvouched(hop, stage, start, end, now))
        return min((hole for hole in holes if hole), key=lambda hole: hole.start, default=None)

    def _refused_hole(self, hop: str, stage: str, start: int, end: int) -> Hole | None:
        lost = self.lost(hop, stage)
        n = bisect_right(lost, start, key=itemgetter(1))
        if n == len(lost) or lost[n][0] >= end:
            return None
        low, high = max(start, lost[n][0]), min(end, lost[n][1])
        deaf = any(since < high and low < until for since, until in self.deaf)
        return Hole(hop, stage, low, high, "deaf" if deaf else "refused")

    def _unvouched(self, hop: str, stage: str, start: int, end: int, now: int) -> Hole | None:
        watched = self.watched(hop, stage)
        if not watched.covers:
            return self._assumed_hole(hop, stage, start, end, now)
        if start < watched.opened:
            return Hole(hop, stage, start, min(watched.opened, end), "not_announced")
        holes = [(span, s) for s in watched.covers if (span := s.hole(start, end))]
        (low, high), source = min(holes, key=lambda pair: (pair[0], pair[1].source), default=((end, end), None))
        deserted = watched.alone(start, end)
        if deserted and (source is None or deserted[0] < low):
            return Hole(hop, stage, deserted[0], deserted[1], "silent", deserted[2])
        if source is None:
            return None
        if source.evidence == "assumed":
            return Hole(hop, stage, low, high, "silent")
        behind = low >= source.intervals[-1][1] and source.closed is None  # a source that has ended never catches up
        return Hole(hop, stage, low, high, "behind" if behind else "hole", source.source)

    def assumed_until(self, hop: str, stage: str, now: int) -> int | None:
        """How far a (hop, stage) without sources is assumed to be vouched for; None when nothing ever came from it."""
        heard = self.last_heard.get((hop, stage))
        return None if heard is None else min(now - self.grace, heard + self.assume_for)

    def _assumed_hole(self, hop: str, stage: str, start: int, end: int, now: int) -> Hole | None:
        reach = self.assumed_until(hop, stage, now)
        if reach is None:
            return Hole(hop, stage, start, end, "never_seen")
        if end <= reach:
            return None
        heard = self.last_heard[hop, stage]
        return Hole(hop, stage, max(start, reach), end, "silent" if heard + self.assume_for < end else "behind")


def merged(sources: Sequence[SourceCover]) -> list[SourceCover]:
    """One cover per source, by name and evidence: of several collectors of one source, one suffices."""
    by_name: dict[tuple[str, str], list[SourceCover]] = {}
    for cover in sources:
        by_name.setdefault((cover.source, cover.evidence), []).append(cover)
    return [group[0] if len(group) == 1 else _union(group) for group in by_name.values()]


def _union(group: Sequence[SourceCover]) -> SourceCover:
    intervals = join([i for cover in group for i in cover.intervals])
    ends = [cover.closed for cover in group]
    closed = None if None in ends else max(end for end in ends if end is not None)
    return SourceCover(group[0].source, intervals, closed, group[0].evidence)


def join(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """The same spans as disjoint intervals in order."""
    joined: list[Interval] = []
    for low, high in sorted(intervals):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)
