"""Merged states as arrays, one per checkpoint: what was seen and when, what that implies, and the deadlines.

The column form of `tracker.model.facts` and of the two clocks of `tracker.model.judge`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracker.store.shape import NEVER, Shape

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

NONE = -NEVER
"""No deadline for lateness: earlier than any."""

REST = np.uint64((1 << 58) - 1)
"""What is left of a tagged value without its tag."""


class Folded:
    """Columns of facts about `count` messages; every list has an entry per checkpoint of the spec."""

    def __init__(self, shape: Shape, states: pa.Table) -> None:
        self.shape, self.states, self.paths = shape, states, shape.spec.paths
        self.count = states.num_rows
        self.bits, self.hops = bits(states, "seen"), bits(states, "hops")
        self.first_received = times(states, "first_received")
        observed, received = (_matrix(states, name, shape.size) for name in ("observed", "received"))
        everyone = range(len(self.paths.hops))
        self.masks = [sum(1 << b for b in shape.bits(i)) for i in everyone]
        self.seen: list[Bools] = [self._has(self.masks[i]) for i in everyone]
        self.observed = [_earliest(observed, shape.bits(i)) for i in everyone]
        self.received = [_earliest(received, shape.bits(i)) for i in everyone]
        self.implied: list[Bools] = [self._implied(i) for i in everyone]
        self.short = [self._short(i) for i in everyone]
        self.deadline: dict[int, Ints] = {}
        self.observed_deadline: dict[int, Ints] = {}
        for i in self.paths.order:
            self.deadline[i] = self._deadline(i)
            self.observed_deadline[i] = self._observed_deadline(i)

    def of_hops(self, hops: Iterable[str]) -> np.uint64:
        """The bits of these hops, as in the states' columns of hops."""
        return np.uint64(sum(1 << self.shape.hop_bits[hop] for hop in set(hops)))

    def _has(self, mask: int) -> Bools:
        held: Bools = (self.bits & np.uint64(mask)) != 0
        return held

    def _implied(self, i: int) -> Bools:
        behind = sum(self.masks[d] for d in self.paths.descendants[i])
        passed: Bools = self._has(behind) | ((self.hops & self.of_hops(self.paths.hops_behind[i])) != 0)
        return ~self.seen[i] & passed

    def _short(self, i: int) -> Bools:
        """Seen or implied on fewer nodes than the quorum; implied counts as one."""
        quorum = self.shape.spec.checkpoints[i].quorum
        if quorum < 2:
            return np.zeros(self.count, dtype=bool)
        owner, node = self._tagged("nodes", self.shape.bits(i))
        distinct = np.unique(np.stack([owner, node & REST]), axis=1)  # a node counts once, at whichever alternative
        nodes = np.maximum(np.bincount(distinct[0].astype(np.int64), minlength=self.count), 1)
        short: Bools = (self.seen[i] & (nodes < quorum)) | self.implied[i]
        return short

    def _deadline(self, i: int) -> Ints:
        """For absence: the latest receipt of what comes before (a missing one's own deadline) + within."""
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
        """For lateness, by observed times; `NONE` where there is none."""
        within, before = self.paths.within[i], self.paths.before[i]
        if within is None or not before:
            return np.full(self.count, NONE, dtype=np.int64)
        starts = [np.where(self.seen[p], self.observed[p], self.observed_deadline[p]) for p in before]
        latest: Ints = reduce(np.maximum, starts)
        return np.where(latest > NONE, latest + within, NONE)

    def lacking(self, i: int) -> Bools:
        """Neither seen nor implied, or short."""
        return (~self.seen[i] & ~self.implied[i]) | self.short[i]

    def passed_before(self, i: int) -> Ints:
        """When the last seen checkpoint before `i` was passed, on the tracker's clock; else when it was first seen."""
        first = np.minimum(times(self.states, "first_observed"), self.first_received)
        last = np.full(self.count, -1, dtype=np.int64)
        for a in self.paths.ancestors[i]:
            last = np.where(self.seen[a], np.maximum(last, np.minimum(self.observed[a], self.received[a])), last)
        return np.where(last < 0, first, last)

    def deliveries(self, i: int) -> Ints:
        """How many deliveries of a message reached checkpoint `i`."""
        owner, _ = self._tagged("deliveries", self.shape.bits(i))
        return np.bincount(owner.astype(np.int64), minlength=self.count)

    def _tagged(self, column: str, checkpoint_bits: list[int]) -> tuple[Bits, Bits]:
        """(row, value) of a list column's values that carry one of these bits in their top six."""
        starts = offsets(self.states, column)
        every = np.asarray(self.states[column].combine_chunks().values.to_numpy(), dtype=np.uint64)
        values = every[starts[0] : starts[-1]]
        owner = np.repeat(np.arange(self.count, dtype=np.uint64), np.diff(starts))
        mine = np.isin(values >> np.uint64(58), np.array(checkpoint_bits, dtype=np.uint64))
        return owner[mine], values[mine]


def any_of(arrays: Iterable[Bools], count: int) -> Bools:
    """True where any is; all false when there are none."""
    return reduce(np.logical_or, arrays, np.zeros(count, dtype=bool))


def times(states: pa.Table, name: str) -> Ints:
    """A column of microseconds."""
    return np.asarray(states[name].to_numpy(), dtype=np.int64)


def bits(states: pa.Table, name: str) -> Bits:
    """A column of bits."""
    return np.asarray(states[name].to_numpy(), dtype=np.uint64)


def offsets(states: pa.Table, name: str) -> Ints:
    """Where each message's values begin in a list column, and where the last ends."""
    return np.asarray(states[name].combine_chunks().offsets.to_numpy(), dtype=np.int64)


def _matrix(states: pa.Table, name: str, size: int) -> Ints:
    """A list column whose lists all have `size` entries, as rows."""
    lists = states[name].combine_chunks()
    return np.asarray(lists.flatten().to_numpy(), dtype=np.int64).reshape(-1, size)


def _earliest(of: Ints, checkpoint_bits: list[int]) -> Ints:
    earliest: Ints = of[:, checkpoint_bits].min(axis=1)
    return earliest
