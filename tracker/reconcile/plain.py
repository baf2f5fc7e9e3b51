"""Verdicts of many messages at once, on columns: those to which nothing special happened.

A message is plain while no deadline of it has passed, nothing was dropped or dead-lettered, digests agree and no
finding was ever opened. For a plain message this gives what `tracker.model.judge` gives; the others are marked, and
the reference judges them. A property test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracker.model.flags import SKEW
from tracker.model.judge import RECHECK, RECHECK_MAX
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Flag, Verdict
from tracker.store.shape import MAX_DELIVERIES, NEVER, REPLAYED, SPECIAL, Shape

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

VERDICTS = np.array(["", Verdict.in_flight.value, Verdict.late.value, Verdict.delivered.value], dtype=object)
"""By code; code 0 is for the reference to judge."""
FLAGS = (Flag.duplicated, Flag.orphan, Flag.replayed, Flag.reused_id, Flag.skewed)
"""By bit of `Plain.flags`, in the order of their names."""


@dataclass(frozen=True)
class Court:
    """What one flow's messages are judged by in one pass. `watermarks`, by checkpoint: how far all who see its single
    messages vouch, absent where nobody does. `in_force_from`: older origins belong to an older spec."""

    shape: Shape
    now: int
    in_force_from: int = 0
    watermarks: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain:
    """One entry per message: code into `VERDICTS`, bits into `FLAGS`, when to look again (0: never)."""

    codes: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    look_again: Ints


def judge_plain(court: Court, states: pa.Table) -> Plain:
    """Judge merged states (`Passing.fold`). The cost is a few array operations per checkpoint, none per message."""
    facts = _Facts(court, states)
    spec, paths = court.shape.spec, court.shape.spec.paths
    required = [i for i in paths.order if paths.required[i]]
    waiting = {i: facts.absent(i) & (court.now < facts.deadline[i]) for i in required}
    due = _any(facts.absent(i) & (court.now >= facts.deadline[i]) for i in required)
    gap = _any(facts.maybe_gap(i) for i in required if i in court.watermarks)
    late = _any(facts.late(i) for i in required)
    special = facts.special | due | gap | _quorums(spec)
    codes = np.where(special, 0, np.where(_any(waiting.values()), 1, np.where(late, 2, 3))).astype(np.uint8)
    soonest = np.full(facts.count, NEVER, dtype=np.int64)
    for i in required:
        soonest = np.minimum(soonest, np.where(waiting[i], facts.deadline[i], NEVER))
        if i in court.watermarks:
            soonest = np.minimum(soonest, np.where(facts.implied[i], facts.recheck, NEVER))
    return Plain(codes, facts.flags(), np.where(soonest == NEVER, 0, soonest))


class _Facts:
    """Columns of facts, one array per checkpoint: seen, observed, received, implied, deadlines."""

    def __init__(self, court: Court, states: pa.Table) -> None:
        self.court, self.states = court, states
        self.paths = court.shape.spec.paths
        self.count = states.num_rows
        self.bits: Bits = _bits(states, "seen")
        self.hops: Bits = _bits(states, "hops")
        self.first_received: Ints = _times(states, "first_received")
        size = court.shape.size
        times = {name: _matrix(states, name, size) for name in ("observed", "received")}
        everyone = range(len(self.paths.hops))
        self.masks = [sum(1 << b for b in court.shape.bits(i)) for i in everyone]
        self.seen: list[Bools] = [self._has(self.masks[i]) for i in everyone]
        self.observed = [_earliest(times["observed"], court.shape.bits(i)) for i in everyone]
        self.received = [_earliest(times["received"], court.shape.bits(i)) for i in everyone]
        self.implied: list[Bools] = [self._implied(i) for i in everyone]
        self.deadline: dict[int, Ints] = {}
        self.observed_deadline: dict[int, Ints] = {}
        for i in self.paths.order:
            self.deadline[i] = self._deadline(i)
            self.observed_deadline[i] = self._observed_deadline(i)
        waited = np.clip((court.now - self.first_received) // 4, RECHECK, RECHECK_MAX)
        self.recheck: Ints = court.now + waited

    def _has(self, mask: int) -> Bools:
        held: Bools = (self.bits & np.uint64(mask)) != 0
        return held

    def _implied(self, i: int) -> Bools:
        behind = sum(self.masks[d] for d in self.paths.descendants[i])
        hops = sum(1 << self.court.shape.hop_bits[h] for h in self.paths.hops_behind[i])
        passed: Bools = self._has(behind) | ((self.hops & np.uint64(hops)) != 0)
        return ~self.seen[i] & passed

    def _deadline(self, i: int) -> Ints:
        """For absence, as in `judge`: the latest receipt of what comes before + within."""
        within, before = self.paths.within[i], self.paths.before[i]
        if within is None:
            return np.full(self.count, NEVER, dtype=np.int64)
        if not before:
            return self.first_received + within
        starts = []
        for p in before:
            beginning = not self.paths.before[p] and self.paths.within[p] is None
            starts.append(np.where(self.seen[p], self.received[p],
                                   self.first_received if beginning else self.deadline[p]))  # fmt: skip
        latest: Ints = reduce(np.maximum, starts) + within
        return latest

    def _observed_deadline(self, i: int) -> Ints:
        """For lateness, by observed times; 0 where there is none."""
        within, before = self.paths.within[i], self.paths.before[i]
        if within is None or not before:
            return np.zeros(self.count, dtype=np.int64)
        starts = [np.where(self.seen[p], self.observed[p], self.observed_deadline[p]) for p in before]
        latest: Ints = reduce(np.maximum, starts)
        return np.where(latest > 0, latest + within, 0)

    def absent(self, i: int) -> Bools:
        """Neither seen nor implied."""
        return ~self.seen[i] & ~self.implied[i]

    def late(self, i: int) -> Bools:
        """Seen after its deadline by observed times."""
        limit = self.observed_deadline[i]
        return self.seen[i] & (limit > 0) & (self.observed[i] > limit)

    def maybe_gap(self, i: int) -> Bools:
        """Implied, although those who watch it vouch beyond the moment that implies it."""
        behind = [self.received[d] for d in self.paths.descendants[i]]
        after = reduce(np.minimum, behind) if behind else self.first_received
        return self.implied[i] & (np.minimum(after, NEVER) <= self.court.watermarks[i])

    @property
    def special(self) -> Bools:
        """What the columns alone do not judge."""
        marks = _bits(self.states, "marks")
        digests = np.diff(_offsets(self.states, "digests")) > 1
        many = np.diff(_offsets(self.states, "deliveries")) >= MAX_DELIVERIES
        found = np.asarray(self.states["found"].to_numpy(), dtype=bool)
        older = _times(self.states, "origin_at") < self.court.in_force_from
        result: Bools = ((marks & np.uint64(SPECIAL)) != 0) | digests | many | found | older | self._ranges_matter()
        return result

    def _ranges_matter(self) -> Bools:
        """A range decides on more than its own checkpoint: something comes after it, or events at its hop may say
        better. States keep only the earliest time of both, and of a range only its start."""
        ranged, everyone = _bits(self.states, "ranged"), range(len(self.masks))
        inner = sum(self.masks[i] for i in everyone if self.paths.descendants[i])
        bits = self.court.shape.hop_bits
        beside = (
            ((ranged & np.uint64(self.masks[i])) != 0)
            & ((self.hops & np.uint64(sum(1 << bits[hop] for hop in self.paths.hops[i]))) != 0)
            for i in everyone
        )
        matters: Bools = _any(beside) | ((ranged & np.uint64(inner)) != 0)
        return matters

    def flags(self) -> npt.NDArray[np.uint8]:
        """Bits into `FLAGS`."""
        first, last = (_times(self.states, name) for name in ("produced_first", "produced_last"))
        longest = max(self.paths.longest, SECOND)
        reused = (last > 0) & (first < NEVER) & (last - np.where(first < NEVER, first, last) > longest)
        replayed = (_bits(self.states, "marks") & np.uint64(REPLAYED)) != 0
        orphan = ~_any(self.seen[i] for i in self.paths.roots)
        raised = (self._duplicated(), orphan, replayed, reused, self._skewed())
        return reduce(np.bitwise_or, (np.where(flag, 1 << n, 0).astype(np.uint8) for n, flag in enumerate(raised)))

    def _duplicated(self) -> Bools:
        """More distinct deliveries than allowed; the top six bits of each say which checkpoint it is of."""
        points = self.court.shape.spec.checkpoints
        offsets = _offsets(self.states, "deliveries")
        values = np.asarray(self.states["deliveries"].combine_chunks().values.to_numpy(), dtype=np.uint64)
        values = values[offsets[0] : offsets[-1]]
        owner = np.repeat(np.arange(self.count), np.diff(offsets))
        which = values >> np.uint64(58)
        surplus = np.zeros(self.count, dtype=bool)
        for i, point in enumerate(points):
            if point.at_most:
                mine = np.isin(which, np.array(self.court.shape.bits(i), dtype=np.uint64))
                surplus |= np.bincount(owner[mine], minlength=self.count) > point.at_most
        return surplus

    def _skewed(self) -> Bools:
        ranged = _bits(self.states, "ranged")
        pairs = (
            self.seen[i]
            & self.seen[p]
            & ((ranged & np.uint64(self.masks[i] | self.masks[p])) == 0)
            & (self.observed[i] < self.observed[p] - SKEW)
            for i in self.paths.order
            for p in self.paths.before[i]
        )
        return _any(pairs) & np.ones(self.count, dtype=bool)


def _quorums(spec: FlowSpec) -> bool:
    """Quorums count nodes, which states do not keep."""
    return any(c.quorum > 1 for c in spec.checkpoints)


def _any(arrays: Iterable[Bools]) -> Bools:
    """True where any is; a single False when there are none."""
    return reduce(np.logical_or, arrays, np.zeros(1, dtype=bool))


def _times(states: pa.Table, name: str) -> Ints:
    return np.asarray(states[name].to_numpy(), dtype=np.int64)


def _bits(states: pa.Table, name: str) -> Bits:
    return np.asarray(states[name].to_numpy(), dtype=np.uint64)


def _offsets(states: pa.Table, name: str) -> Ints:
    return np.asarray(states[name].combine_chunks().offsets.to_numpy(), dtype=np.int64)


def _matrix(states: pa.Table, name: str, size: int) -> Ints:
    """A list column whose lists all have `size` entries, as rows."""
    lists = states[name].combine_chunks()
    return np.asarray(lists.flatten().to_numpy(), dtype=np.int64).reshape(-1, size)


def _earliest(times: Ints, bits: list[int]) -> Ints:
    earliest: Ints = times[:, bits].min(axis=1)
    return earliest
