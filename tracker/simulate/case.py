"""The facts: what the tracker was told of each message by a moment, place by place, as arrays over messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tracker.simulate.route import Place
from tracker.simulate.scenario import Fault
from tracker.simulate.watchers import Watcher, receipts
from tracker.simulate.world import NEVER, Bools, Chunk, Ints, World

SECOND = 1_000_000
DESIGNED = ("filtered", "aborted", "compacted", "merged")


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
            self.observed[place.index] = self.least((t.message, t.observed) for t in mine)
            self.receipt[place.index] = self.least((t.message, t.receipt) for t in mine)
            self.seen[place.index] = self.receipt[place.index] < NEVER
        self.first_receipt = self.least((t.message, t.receipt) for t in self.told)
        self.first_seen = self.least((t.message, np.minimum(t.observed, t.receipt)) for t in self.told)
        self.heard: Bools = self.first_receipt < NEVER
        self.touched = {hop: self.any_of(t for t in self.told if t.chunk.hop == hop) for hop in world.route.hops}
        self.dead = {hop: self._said(hop, "dead_letter") for hop in world.route.hops}
        self.designed = {hop: self._said(hop, "drop", DESIGNED) for hop in world.route.hops}
        self.lossy = {hop: self._said(hop, "drop") & ~self.designed[hop] for hop in world.route.hops}
        dropped = {hop: self._said(hop, "drop") for hop in world.route.hops}
        acked = {hop: self._said(hop, "ack") for hop in world.route.hops}
        outboxes = {hop for p in self.places if p.outbox for hop in p.hops}
        kept = {hop: self._said(hop, "persist") | self._said(hop, "replicate") for hop in world.route.hops}
        kept |= {hop: kept[hop] | self._said(hop, "produce") for hop in outboxes}
        self.holds = {hop: kept[hop] & ~dropped[hop] & ~acked[hop] & ~self.dead[hop] for hop in world.route.hops}
        done = {hop: self._done(hop) for hop in world.route.hops}
        self.dead = {hop: self.dead[hop] & ~done[hop] for hop in world.route.hops}
        self.designed = {hop: self.designed[hop] & ~done[hop] & ~self.holds[hop] for hop in world.route.hops}
        self.implied = {p.index: self._implied(p) for p in self.places}
        self.deadline: dict[int, Ints] = {}
        self.limit: dict[int, Ints] = {}
        for place in self.places:
            self.deadline[place.index], self.limit[place.index] = self._deadlines(place)

    # --- facts ----------------------------------------------------------------------------------------------------

    def least(self, parts: Iterable[tuple[Ints, Ints]]) -> Ints:
        """The least value of each message, of parts that are (message, value) per row; NEVER where there is none."""
        least = np.full(self.count, NEVER)
        for message, value in parts:
            np.minimum.at(least, message, value)
        return least

    def any_of(self, told: Iterable[Told]) -> Bools:
        """Messages of which any of this was told."""
        held = np.zeros(self.count, dtype=bool)
        for one in told:
            held[one.message] = True
        return held

    def _said(self, hop: str, stage: str, reasons: tuple[str, ...] = ()) -> Bools:
        return self.any_of(t for t in self.told if t.chunk.hop == hop and t.chunk.stage == stage
                         and (not reasons or t.chunk.reason in reasons))  # fmt: skip

    def _done(self, hop: str) -> Bools:
        """Acked there in a delivery that did not end as a dead letter or by design."""
        mine = [t for t in self.told if t.chunk.hop == hop]
        acks = [t for t in mine if t.chunk.stage == "ack"]
        ends = [t for t in mine if t.chunk.stage == "dead_letter" or t.chunk.reason in DESIGNED]
        done = np.zeros(self.count, dtype=bool)
        if acks:
            pairs = [np.stack([t.message, t.delivery], axis=1) for t in (*acks, *ends)]
            _, number = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
            number, many = number.reshape(-1), sum(len(t.message) for t in acks)
            done[np.concatenate([t.message for t in acks])[~np.isin(number[:many], number[many:])]] = True
        return done

    def _implied(self, place: Place) -> Bools:
        passed = [self.seen[d.index] for d in self.world.route.descendants(place.index)]
        passed += [self.touched[hop] for hop in self.world.route.only_behind(place.index)]
        return ~self.seen[place.index] & either(passed, self.count)

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


def either(parts: Iterable[Bools], count: int) -> Bools:
    """Where any of the parts is true; nowhere when there are none."""
    return reduce(np.logical_or, parts, np.zeros(count, dtype=bool))
