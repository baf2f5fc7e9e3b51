"""What ought to be found: by what the world did, who reported it when, and what the words of a verdict mean.

The order of the statuses and verdicts is that of docs/verdicts.md. All of it is arrays over messages, at one moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from tracker.simulate.case import Case, either
from tracker.simulate.flags import flags_of
from tracker.simulate.route import Place
from tracker.simulate.watchers import Watcher
from tracker.simulate.world import NEVER, Bools, Ints, World

VERDICTS = ("divergent", "lost", "unacknowledged", "under_replicated", "dead_lettered", "blind", "in_flight",
            "explained", "late", "delivered")  # fmt: skip
FLAGS = ("gap", "orphan", "duplicated", "replayed", "skewed", "reordered", "reused_id")
WORST = {"lost": 3, "unacknowledged": 2, "under_replicated": 1}
Spot = tuple[str, str]
"""(hop, stage) of a place, as findings name it: alternatives joined by `|`."""


@dataclass
class Truth:
    """Verdict and flags by message, for those that the tracker has heard of.

    `findings`: by place and kind, the messages that somebody has to see to. `known`: by place, when an overdue one
    could first be known.
    """

    heard: Bools
    verdict: np.ndarray[tuple[int], np.dtype[np.object_]]
    flags: dict[str, Bools]
    findings: dict[tuple[str, str, str], Bools] = field(default_factory=dict)
    known: dict[Spot, Ints] = field(default_factory=dict)


def truth(world: World, watching: dict[str, list[Watcher]], now: int) -> Truth:
    """What is true of every message at `now`."""
    case = Case(world, watching, now)
    ruling = _Ruling(case)
    return Truth(case.heard, ruling.verdict(), flags_of(case), ruling.findings, ruling.known)


class _Ruling:
    """Statuses of the required places, in order, and what they come to."""

    def __init__(self, case: Case) -> None:
        self.case, self.count = case, case.count
        self.kinds: dict[int, np.ndarray[tuple[int], np.dtype[np.object_]]] = {}
        self.pending, self.unknown, self.dead, self.design, self.late = (np.zeros(case.count, bool) for _ in range(5))
        self.known: dict[Spot, Ints] = {}
        self.findings: dict[tuple[str, str, str], Bools] = {}
        self.missing: dict[int, Bools] = {}
        self.dropped: dict[int, Bools] = {}
        self.parked: dict[int, Bools] = {}
        for place in case.places:
            self.dropped[place.index] = self._dropped(place)
            if place.required:
                self._rule(place)
        self.divergent = either((self._differs(place) for place in case.places if place.same_payload), case.count)

    def _rule(self, place: Place) -> None:
        case, i = self.case, place.index
        short = case.short(place)
        there = (case.seen[i] | case.implied[i]) & ~short
        dead, design = self._closed(place)
        lacking = ~there & (short | ~(dead | design)) & case.heard
        due = lacking & (case.now >= case.deadline[i])
        start = case.passed_before(place)
        covered = case.covered(place, start, np.maximum(case.deadline[i], start))
        overdue = (due & covered) | (lacking & self.dropped[i])
        self.unknown |= due & ~overdue
        self.pending |= lacking & ~due & ~overdue
        closed = ~there & ~short & case.heard
        self.parked[i] = closed & (dead | design)
        before = either((self.parked[a] for a in place.ancestors if a in self.parked), self.count)
        put_aside = closed & dead & (self._at(place, case.dead) | ~before)
        self.dead |= put_aside
        self._found(place, "dead_lettered", put_aside)
        self.design |= closed & design & ~dead
        self.late |= case.seen[i] & (case.observed[i] > case.limit[i])
        self._kind(place, overdue, short)
        for kind in WORST:
            self._found(place, kind, self.kinds[i] == kind)
        known = np.max([w.known(case.deadline[i]) for hop in place.hops for w in case.watching.get(hop, [])]
                       or [np.full(self.count, NEVER)], axis=0)  # fmt: skip
        known = np.where(overdue & ~self.dropped[i], np.maximum(known, case.deadline[i]), NEVER)
        self.known[spot(place)] = known

    def _found(self, place: Place, kind: str, messages: Bools) -> None:
        self.findings[(*spot(place), kind)] = messages

    def _differs(self, place: Place) -> Bools:
        differs = _divergent(self.case, place)
        self._found(place, "divergent", differs)
        return differs

    def _kind(self, place: Place, overdue: Bools, short: Bools) -> None:
        case, replica = self.case, place.stage == "replicate"
        kind = np.full(self.count, "", dtype=object)
        held = either((case.holds[hop] for a in place.ancestors for hop in case.places[a].hops), self.count)
        own = np.where(self.dropped[place.index] | (place.stage in ("produce", "persist")), ~held, False)
        kind[:] = "under_replicated" if replica else "unacknowledged"
        kind[own] = "lost"
        cause = np.full(self.count, "", dtype=object)
        for a in reversed([p.index for p in case.places if p.index in place.ancestors and p.index in self.missing]):
            cause = np.where(self.missing[a], self.kinds[a], cause)
        if not replica:
            cause[cause == "under_replicated"] = "unacknowledged"
        kind = np.where(cause != "", cause, kind)
        kind = np.where(short, "under_replicated", kind)
        self.kinds[place.index] = np.where(overdue, kind, "")
        self.missing[place.index] = overdue & ~short

    def _at(self, place: Place, said: dict[str, Bools]) -> Bools:
        """Every alternative that had the message says so."""
        had = either((self.case.touched[hop] for hop in place.hops), self.count)
        return had & reduce(np.logical_and, (said[hop] | ~self.case.touched[hop] for hop in place.hops))

    def _closed(self, place: Place) -> tuple[Bools, Bools]:
        """(by a dead letter, by design), at the place or before it."""
        case = self.case
        way = [place, *(case.places[a] for a in place.ancestors)]
        ended = {hop: case.dead[hop] | case.designed[hop] for hop in case.dead}
        dead = either((self._at(p, case.dead) for p in way), self.count)
        return dead, either((self._at(p, ended) for p in way), self.count) & ~dead

    def _dropped(self, place: Place) -> Bools:
        case = self.case
        emptied = {hop: case.lossy[hop] & ~case.holds[hop] for hop in case.lossy}
        result = self._at(place, emptied)
        for p in place.before:
            gone = ~case.seen[p] & ~case.implied[p] & self.dropped[p]
            result = result | self._at(case.places[p], emptied) | gone
        return result

    def verdict(self) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
        """The first line that matches."""
        kinds = [np.vectorize(lambda k: WORST.get(k, 0), otypes=[int])(kind) for kind in self.kinds.values()]
        worst = np.max(kinds, axis=0)
        lines = [(self.divergent, "divergent"), (worst == 3, "lost"), (worst == 2, "unacknowledged"),
                 (worst == 1, "under_replicated"), (self.dead, "dead_lettered"), (self.unknown, "blind"),
                 (self.pending, "in_flight"), (self.design, "explained"), (self.late, "late")]  # fmt: skip
        return np.select([line for line, _ in lines], [name for _, name in lines], "delivered").astype(object)


def spot(place: Place) -> Spot:
    """A place as findings name it."""
    return "|".join(place.hops), place.stage


def _divergent(case: Case, place: Place) -> Bools:
    joined = [place, *(case.places[p] for p in place.before)]
    mine = [t for t in case.told for j in joined if t.chunk.hop in j.hops and t.chunk.stage == j.stage]
    low = case.least((t.message, t.digest) for t in mine)
    high = -case.least((t.message, -t.digest) for t in mine)
    differs: Bools = (low < NEVER) & (low != high)
    return differs
