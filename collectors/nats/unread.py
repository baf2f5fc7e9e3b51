"""What consumers have not settled of one stream, and what it forgot before they had. Pure: no I/O, time comes in as an
argument.

The server tells the first message that the stream still holds, and the last that a consumer was given. Gone and not
given: it never will be. Gone and given: it may be acked yet, for as long as the consumer waits for acks; where nothing
comes, it was passed over, or would be given again now, and cannot be. (What the server calls settled says nothing of
it: of what the stream forgot it waits for no ack, nats-server 2.9.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

import msgspec

from collectors.nats.records import Known

ALL = 1 << 62
"""Beyond any number of a message."""


class Given(NamedTuple):
    """Of a consumer: the last message that it was given, how long it waits for an ack (µs)."""

    last: int
    waits: int


class Open(msgspec.Struct):
    """A message that the consumers in `owed` have not settled. `since`: when it was found to be gone (tick) while
    somebody may have had it."""

    known: Known
    owed: set[str]
    since: int | None = None


class Unread:
    """The messages of one stream of which not all was said yet. Of more than `most`, or `most_bytes`, the oldest are
    forgotten: their deadlines name them."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._open: dict[int, Open] = {}
        self.bytes = 0

    def items(self) -> Iterable[tuple[int, Open]]:
        """All of them, by number."""
        return self._open.items()

    def find(self, seq: int) -> Open | None:
        """None where it is settled, or forgotten."""
        return self._open.get(seq)

    def stored(self, seq: int, known: Known, owed: Iterable[str]) -> None:
        """The stream has it, for these consumers."""
        self._drop(seq)
        found = Open(known, set(owed))
        if found.owed:
            self._open[seq] = found
            self.bytes += known.weight
            while len(self._open) > self._most or self.bytes > self._most_bytes:
                self._drop(next(iter(self._open)))

    def settled(self, start: int, end: int, consumer: str = "") -> None:
        """A consumer, or each of them, is done with these numbers (`end` is not among them): they were acked, given up,
        or told as dropped, or nobody knows what became of them."""
        few = end - start < len(self._open)
        for seq in range(start, end) if few else [seq for seq in self._open if start <= seq < end]:
            found = self._open.get(seq)
            if found:
                found.owed.discard(consumer)
                if not consumer or not found.owed:
                    self._drop(seq)

    def heard(self, seq: int) -> None:
        """Somebody works on it, and wants more time."""
        if seq in self._open:
            self._open[seq].since = None

    def gone(self, first: int, given: Mapping[str, Given], now: int) -> Iterator[tuple[int, int]]:
        """Of what lies before `first` that which some consumer was not given, and nobody may have any more, as
        stretches (from, to; `to` is not among them). To be asked when all that was said until tick `now` is told;
        `given`: of the consumers that are there. Each is given once."""
        found = []
        for seq in list(takewhile(lambda seq: seq < first, self._open)):
            one = self._open[seq]
            owed = [given[name] for name in one.owed & given.keys()]
            if not owed:
                continue
            waits = max((each.waits for each in owed if seq <= each.last), default=0)
            one.since = now if one.since is None else one.since
            if now - one.since >= waits:
                self._drop(seq)
                found.append(seq)
        return stretches(found)

    def _drop(self, seq: int) -> None:
        found = self._open.pop(seq, None)
        if found:
            self.bytes -= found.known.weight


def stretches(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as stretches without gaps."""
    start = end = None
    for number in numbers:
        if number != end:
            if start is not None and end is not None:
                yield start, end
            start = number
        end = number + 1
    if start is not None and end is not None:
        yield start, end
