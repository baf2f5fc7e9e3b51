"""What a stream forgot before a consumer was given it, or had acked it. Pure: no I/O, time comes in as an argument.

The server tells the first message that the stream still holds, and the last that the consumer was given. Gone and not
given is told at once. Gone and given may be acked yet, for as long as the consumer waits for acks; where nothing comes,
it was passed over, or would be given again now, and cannot be. (What the server calls settled says nothing of it: of
what the stream forgot it waits for no ack, nats-server 2.9.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

from collectors.nats.records import fits


class Given(NamedTuple):
    """Of a consumer: the last message that it was given, how long it waits for an ack (µs), the subjects it wants."""

    last: int
    waits: int
    subjects: tuple[str, ...] = (">",)


class Unread:
    """The messages of one stream, as one consumer sees them, of which nothing was said yet. Of more than `most` the
    oldest are forgotten: their deadlines name them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[int, str] = {}
        self._gone: dict[int, int] = {}  # since when

    def stored(self, seq: int, subject: str) -> None:
        """The stream has it."""
        self._open[seq] = subject
        if len(self._open) > self._most:
            self.settled(next(iter(self._open)))

    def settled(self, seq: int) -> None:
        """It was acked, or given up."""
        self._open.pop(seq, None)
        self._gone.pop(seq, None)

    def gone(self, first: int, given: Given, now: int) -> Iterator[tuple[int, int]]:
        """Of what lies before `first` that which nobody will get any more, as stretches (from, to; `to` is not among
        them). To be asked when all that was said until tick `now` is told. Each is given once."""
        found = []
        for seq in list(takewhile(lambda seq: seq < first, self._open)):
            if seq > given.last or now - self._gone.setdefault(seq, now) >= given.waits:
                subject = self._open[seq]
                self.settled(seq)
                if any(fits(each, subject) for each in given.subjects):
                    found.append(seq)
        return stretches(found)


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
