"""Which ranges lie over a place in a log, found without a look at all the others.

There may be thousands of ranges, and messages by the million: retention that went past a group, an outage of an hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tracker.model.event import Event, Range
from tracker.model.facts import HOLDING

_Numbered = tuple[int, Range]


class Places:
    """The ranges of a flow, by the log and partition that they tell of."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        along: dict[tuple[str, str], list[_Numbered]] = defaultdict(list)
        for number, told in enumerate(ranges):
            along[told.log, told.partition].append((number, told))
        self._along = {partition: _Along(numbered) for partition, numbered in along.items()}

    def over(self, events: Iterable[Event]) -> list[Range]:
        """Those over a place at which one of these events puts its message, each once, in the order in which they were
        given: `judge` says the same of a message by these as by all."""
        found: dict[int, Range] = {}
        for event in events:
            if event.offset is not None and event.stage in HOLDING:
                along = self._along.get((event.hop, event.partition))
                found.update(along.over(event.offset) if along else ())
        return [found[number] for number in sorted(found)]


class _Along:
    """Ranges along one partition. They may lie over one another in any way, a large one over thousands of small ones.
    Sorted by where they begin they are a binary tree: a branch is a slice, its root the middle of it, where it is kept
    how far the ranges of the branch reach."""

    def __init__(self, numbered: Iterable[_Numbered]) -> None:
        self._ranges: Sequence[_Numbered] = sorted(numbered, key=lambda one: one[1].offset)
        self._reach = [0] * len(self._ranges)
        self._measure(0, len(self._ranges))

    def _measure(self, low: int, high: int) -> int:
        if low == high:
            return 0
        root = (low + high) // 2
        self._reach[root] = max(
            self._ranges[root][1].offset_to, self._measure(low, root), self._measure(root + 1, high)
        )
        return self._reach[root]

    def over(self, offset: int) -> Iterator[_Numbered]:
        """Those over this offset, in no order."""
        branches = [(0, len(self._ranges))]
        while branches:
            low, high = branches.pop()
            root = (low + high) // 2
            if low == high or self._reach[root] <= offset:
                continue
            branches.append((low, root))
            told = self._ranges[root][1]
            if told.offset <= offset:
                branches.append((root + 1, high))
                if offset < told.offset_to:
                    yield self._ranges[root]
