"""What a log no longer holds though it was read: its end was cut off when a leader was elected that lacked it.

A follower that was not in sync becomes leader (`unclean.leader.election.enable`): the log ends where that follower
ended, and other records get the offsets behind. Librdkafka asks each new leader where the epoch that was read last
ends (KIP-320, OffsetForLeaderEpoch); under `auto.offset.reset=error` it hands the answer out in the text of an error
and stops reading the partition. The log before that end is the one that was read, for a follower copies batches
together with their epochs.

Pure: no I/O.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from collectors.kafka.frontier import Slot
from collectors.kafka.gone import Gone, Seen, Unnamed
from collectors.kafka.records import Place

_CUT = re.compile(
    r"truncation detected at offset \d+ \(leader epoch (?P<read>\d+)\): "
    r"broker end offset is (?P<offset>\d+) \(offset leader epoch (?P<epoch>\d+)\)"
)


class Cut(msgspec.Struct, frozen=True):
    """The log is the one that was read up to `offset`, and `epoch` the newest there; `read` is the newest that was
    read."""

    offset: int
    epoch: int
    read: int

    def off(self, place: Place) -> bool:
        """Whether this record was cut off; one that got its offset later was not."""
        return place.offset >= self.offset and place.epoch <= self.read


def cut_of(said: str) -> Cut | None:
    """Where the log was cut off, by the text of the driver's error; None when it says nothing of that."""
    found = _CUT.search(said)
    return Cut(**{name: int(value) for name, value in found.groupdict().items()}) if found else None


class Newest:
    """The newest `most` records that were reported, of all partitions together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._order: deque[Seen] = deque()
        self._kept: dict[Slot, deque[Seen]] = {}
        self._began: dict[Slot, int] = {}
        self._full = most == 0

    def begin(self, slot: Slot, position: int) -> None:
        """Reading of `slot` begins here: nobody remembers what stands before."""
        self._began.setdefault(slot, position)

    def add_all(self, records: Iterable[Seen]) -> None:
        """These were reported, in this order."""
        if not self._most:
            return
        for mine, one in self._by_partition(records):
            mine.append(one)
            self._order.append(one)
        over = len(self._order) - self._most
        if over > 0:
            self._full = True
            for mine, one in self._by_partition([self._order.popleft() for _ in range(over)]):
                if mine and mine[0] is one:  # else it was forgotten before
                    mine.popleft()

    def cut(self, slot: Slot, cut: Cut, position: int) -> list[Gone | Unnamed]:
        """What had been read of `slot` up to `position` and was cut off; it is forgotten here."""
        mine = self._kept.get(slot, ())
        known = self._began.get(slot, 0)
        if self._full:
            known = max(known, mine[0].place.offset if mine else position)
        self._kept[slot] = deque(one for one in mine if not cut.off(one.place))
        self._began[slot] = min(known, cut.offset)
        unnamed = [Unnamed(*slot, cut.offset, known - 1)] if cut.offset < known else []
        return [*unnamed, *(Gone(one, "truncated") for one in mine if cut.off(one.place))]

    def forget(self, slot: Slot) -> None:
        """The topic is gone, or another one has its name."""
        self._kept.pop(slot, None)
        self._began.pop(slot, None)

    def _by_partition(self, records: Iterable[Seen]) -> Iterator[tuple[deque[Seen], Seen]]:
        """Each with what is kept of its partition; most come from where the one before came from."""
        last, mine = None, deque[Seen]()
        for one in records:
            place = one.place
            if last is None or place.partition != last.partition or place.topic != last.topic:
                last, mine = place, self._kept.setdefault(place.slot, deque())
            yield mine, one
