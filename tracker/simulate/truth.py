"""What ought to be found: by what the world did, who reported it when, and what the words of a verdict mean.

The order of the statuses and verdicts is that of docs/verdicts.md. All of it is arrays over messages, at one moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from tracker.simulate.route import Place
from tracker.simulate.scenario import Fault
from tracker.simulate.watchers import Watcher, receipts
from tracker.simulate.world import NEVER, Bools, Chunk, Ints, World

SECOND = 1_000_000
DESIGNED = ("filtered", "aborted", "compacted", "merged")
VERDICTS = ("divergent", "lost", "unacknowledged", "under_replicated", "dead_lettered", "blind", "in_flight",
            "explained", "late", "delivered")  # fmt: skip
FLAGS = ("gap", "orphan", "duplicated", "replayed", "skewed", "reordered", "reused_id")
WORST = {"lost": 3, "unacknowledged": 2, "under_replicated": 1}


@dataclass
class Told:
    """A chunk as the tracker knows it: the rows it heard of by now, `observed` by clocks as they are corrected."""

    chunk: Chunk
    message: Ints
    receipt: Ints
    observed: Ints
    digest: Ints
    delivery: Ints
    node: Ints
    origin: Ints


@dataclass
class Truth:
    """Verdict and flags by message, for those that the tracker has heard of, and when each could first be known."""

    heard: Bools
    verdict: np.ndarray[tuple[int], np.dtype[np.object_]]
    flags: dict[str, Bools]
    known: Ints
    kinds: dict[int, np.ndarray[tuple[int], np.dtype[np.object_]]] = field(default_factory=dict)


class Case:
    """The facts of all messages at `now`, place by place."""

    def __init__(self, world: World, watching: dict[str, list[Watcher]], now: int) -> None:
        self.world, self.watching, self.now, self.count = world, watching, now, world.count
        self.told = [t for chunk in world.chunks if (t := _told(world, watching, chunk, now)) is not None]
        self.places = world.route.places
        self.seen: dict[int, Bools] = {}
        self.observed: dict[int, Ints] = {}
        self.receipt: dict[int, Ints] = {}
        for place in self.places:
            mine = [t for t in self.told if t.chunk.hop in place.hops and t.chunk.stage == place.stage]
            self.observed[place.index] = self._least((t.message, t.observed) for t in mine)
            self.receipt[place.index] = self._least((t.message, t.receipt) for t in mine)
            self.seen[place.index] = self.receipt[place.index] < NEVER
        self.first_receipt = self._least((t.message, t.receipt) for t in self.told)
        self.first_seen = self._least((t.message, np.minimum(t.observed, t.receipt)) for t in self.told)
        self.heard: Bools = self.first_receipt < NEVER
        self.touched = {hop: self._any(t for t in self.told if t.chunk.hop == hop) for hop in world.route.hops}
        self.dead = {hop: self._said(hop, "dead_letter") for hop in world.route.hops}
        self.designed = {hop: self._said(hop, "drop", DESIGNED) for hop in world.route.hops}
        self.lossy = {hop: self._said(hop, "drop") & ~self.designed[hop] for hop in world.route.hops}
        dropped = {hop: self._said(hop, "drop") for hop in world.route.hops}
        acked = {hop: self._said(hop, "ack") for hop in world.route.hops}
        outboxes = {hop for p in self.places if p.outbox for hop in p.hops}
        kept = {hop: self._said(hop, "persist") | self._said(hop, "replicate") for hop in world.route.hops}
        kept |= {hop: kept[hop] | self._said(hop, "produce") for hop in outboxes}
        self.holds = {hop: kept[hop] & ~dropped[hop] & ~acked[hop] for hop in world.route.hops}
        self.implied = {p.index: self._implied(p) for p in self.places}
        self.deadline: dict[int, Ints] = {}
        self.limit: dict[int, Ints] = {}
        for place in self.places:
            self.deadline[place.index], self.limit[place.index] = self._deadlines(place)

    # --- facts ----------------------------------------------------------------------------------------------------

    def _least(self, parts: Iterable[tuple[Ints, Ints]]) -> Ints:
        least = np.full(self.count, NEVER)
        for message, value in parts:
            np.minimum.at(least, message, value)
        return least

    def _any(self, told: Iterable[Told]) -> Bools:
        held = np.zeros(self.count, dtype=bool)
        for one in told:
            held[one.message] = True
        return held

    def _said(self, hop: str, stage: str, reasons: tuple[str, ...] = ()) -> Bools:
        return self._any(t for t in self.told if t.chunk.hop == hop and t.chunk.stage == stage
                         and (not reasons or t.chunk.reason in reasons))  # fmt: skip

    def _implied(self, place: Place) -> Bools:
        passed = [self.seen[d.index] for d in self.world.route.descendants(place.index)]
        passed += [self.touched[hop] for hop in self.world.route.only_behind(place.index)]
        return ~self.seen[place.index] & _or(passed, self.count)

    def _deadlines(self, place: Place) -> tuple[Ints, Ints]:
        """For absence by receipts, and for lateness by observed times."""
        none = np.full(self.count, NEVER)
        if place.within is None:
            return none, none
        if not place.before:
            return self.first_receipt + place.within, none
        starts, limits = [], []
        for p in place.before:
            begins = self.places[p].within is None
            otherwise = self.first_receipt if begins else self.deadline[p]
            starts.append(np.where(self.seen[p], self.receipt[p], otherwise))
            limits.append(np.where(self.seen[p], self.observed[p], np.where(self.limit[p] < NEVER, self.limit[p], -1)))
        latest = np.max(limits, axis=0)
        return np.max(starts, axis=0) + place.within, np.where(latest > 0, latest + place.within, NEVER)

    def passed_before(self, place: Place) -> Ints:
        """When the last place before it was passed, as the tracker knows it."""
        last = np.full(self.count, -1, dtype=np.int64)
        for a in place.ancestors:
            at = np.minimum(self.observed[a], self.receipt[a])
            last = np.where(self.seen[a], np.maximum(last, at), last)
        return np.where(last < 0, self.first_seen, last)

    def covered(self, place: Place, start: Ints, end: Ints) -> Bools:
        """Everybody who watches the place vouches for [start, end]."""
        held = np.ones(self.count, dtype=bool)
        for hop in place.hops:
            if hop not in self.watching:
                held &= self._assumed(hop, place.stage, end)
            for watcher in self.watching.get(hop, []):
                held &= watcher.covers(start, end, self.now)
        return held

    def _assumed(self, hop: str, stage: str, end: Ints) -> Bools:
        """Nobody announced to watch: 15 minutes after the last word from there it is silent, and the last two seconds
        are still on their way."""
        words = [t.receipt.max() for t in self.told if t.chunk.hop == hop and t.chunk.stage == stage]
        until = min(max(words) + 900 * SECOND, self.now - 2 * SECOND) if words else -1
        return end <= until

    def short(self, place: Place) -> Bools:
        """Passed on fewer nodes than the quorum asks for; implied counts as one."""
        if place.quorum < 2:
            return np.zeros(self.count, dtype=bool)
        pairs = [np.stack([t.message, t.node]) for t in self.told
                 if t.chunk.hop in place.hops and t.chunk.stage == place.stage]  # fmt: skip
        distinct = np.unique(np.concatenate(pairs, axis=1), axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
        nodes = np.bincount(distinct[0], minlength=self.count)
        return (self.seen[place.index] & (nodes < place.quorum)) | self.implied[place.index]


def truth(world: World, watching: dict[str, list[Watcher]], now: int) -> Truth:
    """What is true of every message at `now`."""
    case = Case(world, watching, now)
    ruling = _Ruling(case)
    return Truth(case.heard, ruling.verdict(), _flags(case), ruling.known, ruling.kinds)


class _Ruling:
    """Statuses of the required places, in order, and what they come to."""

    def __init__(self, case: Case) -> None:
        self.case, self.count = case, case.count
        self.kinds: dict[int, np.ndarray[tuple[int], np.dtype[np.object_]]] = {}
        self.pending, self.unknown, self.dead, self.design, self.late = (np.zeros(case.count, bool) for _ in range(5))
        self.known = np.full(case.count, NEVER)
        self.missing: dict[int, Bools] = {}
        self.dropped: dict[int, Bools] = {}
        self.parked: dict[int, Bools] = {}
        for place in case.places:
            self.dropped[place.index] = self._dropped(place)
            if place.required:
                self._rule(place)

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
        before = _or((self.parked[a] for a in place.ancestors if a in self.parked), self.count)
        self.dead |= closed & dead & (self._at(place, case.dead) | ~before)
        self.design |= closed & design & ~dead
        self.late |= case.seen[i] & (case.observed[i] > case.limit[i])
        self._kind(place, overdue, short)
        known = np.max([w.known(case.deadline[i]) for hop in place.hops for w in case.watching.get(hop, [])]
                       or [np.full(self.count, NEVER)], axis=0)  # fmt: skip
        known = np.where(overdue & ~self.dropped[i], np.maximum(known, case.deadline[i]), NEVER)
        self.known = np.minimum(self.known, known)

    def _kind(self, place: Place, overdue: Bools, short: Bools) -> None:
        case, replica = self.case, place.stage == "replicate"
        kind = np.full(self.count, "", dtype=object)
        held = _or((case.holds[hop] for a in place.ancestors for hop in case.places[a].hops), self.count)
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
        had = _or((self.case.touched[hop] for hop in place.hops), self.count)
        return had & reduce(np.logical_and, (said[hop] | ~self.case.touched[hop] for hop in place.hops))

    def _closed(self, place: Place) -> tuple[Bools, Bools]:
        """(by a dead letter, by design), at the place or before it."""
        case = self.case
        way = [place, *(case.places[a] for a in place.ancestors)]
        ended = {hop: case.dead[hop] | case.designed[hop] for hop in case.dead}
        dead = _or((self._at(p, case.dead) for p in way), self.count)
        return dead, _or((self._at(p, ended) for p in way), self.count) & ~dead

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
        lines = [(_divergent(self.case), "divergent"), (worst == 3, "lost"), (worst == 2, "unacknowledged"),
                 (worst == 1, "under_replicated"), (self.dead, "dead_lettered"), (self.unknown, "blind"),
                 (self.pending, "in_flight"), (self.design, "explained"), (self.late, "late")]  # fmt: skip
        return np.select([line for line, _ in lines], [name for _, name in lines], "delivered").astype(object)


def _divergent(case: Case) -> Bools:
    result = np.zeros(case.count, dtype=bool)
    for place in case.places:
        if place.same_payload:
            joined = [place, *(case.places[p] for p in place.before)]
            mine = [t for t in case.told for j in joined if t.chunk.hop in j.hops and t.chunk.stage == j.stage]
            low = case._least((t.message, t.digest) for t in mine)
            high = -case._least((t.message, -t.digest) for t in mine)
            result |= (low < NEVER) & (low != high)
    return result


# --- flags ----------------------------------------------------------------------------------------------------------


def _flags(case: Case) -> dict[str, Bools]:
    roots = [p for p in case.places if not p.after]
    return {
        "gap": _gap(case),
        "orphan": case.heard & ~_or((case.seen[p.index] for p in roots), case.count),
        "duplicated": _duplicated(case),
        "replayed": case._any(t for t in case.told if t.chunk.replay),
        "skewed": _skewed(case),
        "reordered": _reordered(case),
        "reused_id": _reused(case),
    }


def _gap(case: Case) -> Bools:
    result = np.zeros(case.count, dtype=bool)
    for place in case.places:
        if not place.required:
            continue
        behind = case.world.route.descendants(place.index)
        hops = case.world.route.only_behind(place.index)
        points = {(hop, d.stage) for d in behind for hop in d.hops}
        telling = [t for t in case.told if t.chunk.hop in hops or (t.chunk.hop, t.chunk.stage) in points]
        end = np.minimum(case._least((t.message, t.receipt) for t in telling), case.now)
        start = case.passed_before(place)
        result |= case.implied[place.index] & case.covered(place, start, np.maximum(start, end))
    return result & case.heard


def _duplicated(case: Case) -> Bools:
    result = np.zeros(case.count, dtype=bool)
    for place in case.places:
        if place.at_most:
            pairs = [np.stack([t.message, t.delivery]) for t in case.told if not t.chunk.replay
                     and t.chunk.hop in place.hops and t.chunk.stage == place.stage]  # fmt: skip
            if pairs:
                distinct = np.unique(np.concatenate(pairs, axis=1), axis=1)
                result |= np.bincount(distinct[0], minlength=case.count) > place.at_most
    return result


def _skewed(case: Case) -> Bools:
    both = ((p.index, b) for p in case.places for b in p.before)
    return _or((case.seen[i] & case.seen[b] & (case.observed[i] + SECOND < case.observed[b]) for i, b in both),
               case.count)  # fmt: skip


def _reused(case: Case) -> Bools:
    made = [t for t in case.told if t.chunk.stage == "produce" and not t.chunk.replay]
    low = case._least((t.message, t.origin) for t in made)
    high = -case._least((t.message, -t.origin) for t in made)
    return (low < NEVER) & (high - low > max(case.world.route.longest, SECOND))


def _reordered(case: Case) -> Bools:
    """Somebody of the same partition who was produced later was seen there earlier, beyond what clocks leave open."""
    result = np.zeros(case.count, dtype=bool)
    root = next(p for p in case.places if not p.after)
    for place in case.places:
        if not place.order:
            continue
        node = np.arange(case.count) % case.world.nodes(place.hops[0])
        for partition in range(case.world.scenario.partitions):
            mine = np.nonzero(case.seen[place.index] & case.seen[root.index] & (case.world.partition == partition))[0]
            result[mine] |= _overtaken(case.observed[place.index][mine], node[mine])
    return result


def _overtaken(seen: Ints, node: Ints) -> Bools:
    """Of messages in the order of their offsets: was any later one seen earlier? Nodes differ beyond a second."""
    later = np.append(np.minimum.accumulate(seen[::-1])[::-1][1:], NEVER)
    passed: Bools = later < seen - SECOND
    for one in np.unique(node):
        mine = node == one
        times = seen[mine]
        passed[mine] |= np.append(np.minimum.accumulate(times[::-1])[::-1][1:], NEVER) < times
    return passed


# --- what the tracker was told --------------------------------------------------------------------------------------


def clock_error(world: World, fault: Fault, times: Ints) -> Ints:
    """How far a clock is off at these times, µs."""
    return np.asarray(fault.by + (times - world.begin) * fault.drift_ppm / 1e6, dtype=np.int64)


def shown(world: World, chunk: Chunk) -> Ints:
    """The times that the nodes' own clocks show."""
    times = chunk.time.copy()
    for fault in world.faults("clock"):
        if fault.place in ("", chunk.hop):
            mine = np.full(len(times), True) if fault.node is None else chunk.node == fault.node
            times[mine] += clock_error(world, fault, chunk.time[mine])
    return times


def _told(world: World, watching: dict[str, list[Watcher]], chunk: Chunk, now: int) -> Told | None:
    receipt, _ = receipts(watching, chunk)
    if chunk.hop in world.scenario.unwatched:
        receipt = np.where(chunk.silent, NEVER, chunk.time + 1_000)
    known = receipt <= now
    if not known.any():
        return None
    measured = any(f.measured for f in world.faults("clock") if f.place in ("", chunk.hop))
    observed = chunk.time if measured else shown(world, chunk)
    origin = world.origin[chunk.message] if chunk.origin is None else chunk.origin
    return Told(chunk, chunk.message[known], receipt[known], observed[known], chunk.digest[known],
                chunk.delivery[known], chunk.node[known], origin[known])  # fmt: skip


def _or(parts: Iterable[Bools], count: int) -> Bools:
    return reduce(np.logical_or, parts, np.zeros(count, dtype=bool))
