"""How far the reading of a set of partitions is known to be complete. Pure: no I/O, time comes in as an argument.

An empty fetch proves nothing: the broker may be hung, or a partition may have been added a moment ago. So the logs'
ends are asked for every second or so, and only what was asked *before* and has been read *since* counts: once reading
has passed every end that was found after T, all that happened up to T has been returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collectors.base import NOTHING_YET_MS, Lag

Slot = tuple[str, int]
"""A partition: topic and number."""


def slot_of(partition: str) -> Slot | None:
    """The partition that `topic/number` names, None when it names none."""
    topic, _, number = partition.rpartition("/")
    return (topic, int(number)) if topic and number.isascii() and number.isdigit() else None


class Frontier:
    """Where reading stands in each partition, and the tick up to which nothing is left unread.

    Ticks are microseconds of a clock that never jumps; only differences count. `complete_to` is None until all that
    the logs held at some moment has been read.
    """

    def __init__(self, complete_to: int | None = None) -> None:
        self.complete_to = complete_to
        self.reach: dict[Slot, int] = {}
        self._ends: dict[Slot, int] = {}
        self._open: set[Slot] = set()
        self._asked_at: int | None = None

    def follow(self, slot: Slot, position: int) -> None:
        """Reading of `slot` begins, or begins again, at `position`."""
        self.reach[slot] = position

    def again(self, slot: Slot, position: int) -> None:
        """Reading of `slot` goes back to `position`, for its log is another one behind it: an end that was found
        before may be that of the old log, and says nothing."""
        self.forget([slot])
        self.follow(slot, position)
        self._open, self._asked_at = set(), None

    def forget(self, slots: Iterable[Slot]) -> None:
        """These partitions are gone: nothing of them is waited for."""
        for slot in slots:
            self.reach.pop(slot, None)
            self._ends.pop(slot, None)
            self._open.discard(slot)

    def passed(self, slot: Slot, position: int) -> None:
        """Everything in `slot` before `position` has been returned, or is nothing that is ever returned (the marker
        of a transaction, a compacted record)."""
        if position > self.reach.get(slot, position):
            self.reach[slot] = position
            if slot in self._open and position >= self._ends[slot]:
                self._open.discard(slot)

    def found(self, at: int, ends: Mapping[Slot, int]) -> None:
        """The logs ended at `ends` at some moment after tick `at`. While an earlier answer is still being caught up
        with it is ignored: a goal that moves is never reached. So is one by which a log ends before where reading
        stands: it was cut off, and what it holds since may not have been read."""
        if self._open or any(end < self.reach.get(slot, 0) for slot, end in ends.items()):
            return
        self._asked_at = at
        self._ends = {slot: end for slot, end in ends.items() if slot in self.reach}
        self._open = {slot for slot, end in self._ends.items() if self.reach[slot] < end}
        self.settle()

    def settle(self) -> None:
        """See whether all ends that were found last have been passed; call it after each read."""
        if not self._open and self._asked_at is not None:
            self.complete_to = max(self.complete_to or self._asked_at, self._asked_at)

    def lag(self, now: int) -> Lag:
        """How far behind at tick `now`. The backlog counts offsets, so markers and gaps too."""
        backlog = sum(self._ends[slot] - self.reach[slot] for slot in self._open)
        if self.complete_to is None:
            return Lag(ms=NOTHING_YET_MS, backlog=backlog)
        return Lag(ms=-((self.complete_to - now) // 1000), backlog=backlog)
