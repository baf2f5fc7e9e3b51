"""What a pass covers: per writer lane, from the last pass's end to the newest insert visible at its start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

FORGET_AFTER = 600_000_000
"""A lane whose newest row is older than this (µs) is forgotten: inserts end, or fail, long before."""


class Bounds(msgspec.Struct, frozen=True):
    """`until` and `after` by lane. Sequences are microseconds of the writer's clock; all at or below `floor` are done.

    `due_after` is the `now` of the pass before: timers after it, up to this pass's `now`, have come.
    """

    floor: int = 0
    after: dict[int, int] = {}
    until: dict[int, int] = {}
    due_after: int = 0

    def new(self, sequence: str = "sequence") -> str:
        """SQL: this row is new in this pass. The first line is what the skip index can use."""
        return (
            f"({sequence} > {{lowest:UInt64}} AND {sequence} <= {{highest:UInt64}} "
            f"AND {sequence} <= transform(lane, {{lanes:Array(UInt64)}}, {{until:Array(UInt64)}}, toUInt64(0)) "
            f"AND {sequence} > transform(lane, {{lanes:Array(UInt64)}}, {{after:Array(UInt64)}}, toUInt64(0)))"
        )

    def known(self, sequence: str = "sequence") -> str:
        """SQL: this row was part of this pass or one before."""
        return f"{sequence} <= transform(lane, {{lanes:Array(UInt64)}}, {{until:Array(UInt64)}}, {{floor:UInt64}})"

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of `new` and `known`."""
        lanes = sorted(self.until)
        moved = [lane for lane in lanes if self.until[lane] > self.after.get(lane, 0)]
        return {
            "floor": self.floor,
            "lowest": max(self.floor, min((self.after.get(lane, 0) for lane in moved), default=self.floor)),
            "highest": max(self.until.values(), default=0),
            "lanes": lanes,
            "until": [self.until[lane] for lane in lanes],
            "after": [self.after.get(lane, 0) for lane in lanes],
        }

    @property
    def empty(self) -> bool:
        """True when nothing was stored since the pass before."""
        return all(self.until[lane] <= self.after.get(lane, 0) for lane in self.until)

    def next(self, stored: Iterable[tuple[int, int, int]], previous_now: int, limit: int) -> Bounds:
        """The bounds of the next pass, of (lane, sequence, rows) stored beyond this one; about `limit` rows at most.

        Oldest sequences go first, and a sequence is never split: it is one insert. `previous_now` is the `now` of
        the pass that this one follows.
        """
        floor = max(self.floor, max(self.until.values(), default=0) - FORGET_AFTER)
        after = {lane: end for lane, end in self.until.items() if end > floor}
        until = dict(after)
        taken = 0
        for lane, sequence, rows in sorted(stored, key=lambda s: (s[1], s[0])):
            if sequence <= self.until.get(lane, 0):
                continue
            if taken and taken + rows > limit:
                break
            taken += rows
            until[lane] = max(until.get(lane, 0), sequence)
        return Bounds(floor, after, until, previous_now)


def from_json(value: Mapping[str, Any]) -> Bounds:
    """Bounds as the control database kept them; JSON has no integer keys."""
    return msgspec.convert(value, Bounds, strict=False)
