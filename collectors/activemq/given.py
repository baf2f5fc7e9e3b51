"""What the broker gave us and is not acked yet. Pure but for what it remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from collectors.activemq.advice import advice
from collectors.activemq.record import CONSUMED, DEAD, EXPIRED
from collectors.errors import Undecodable

REMEMBERED = 100_000
"""Ends that nothing followed yet: of more than that the oldest are forgotten."""


class Given:
    """What a connection gave us, in its order, and what of it may be acked: an ack stands for all before it."""

    def __init__(self) -> None:
        self._open: deque[tuple[int, str]] = deque()
        self._done: set[int] = set()
        self._count = 0

    @property
    def open(self) -> int:
        """How much is not acked."""
        return len(self._open)

    def take(self, ack: str) -> int:
        """Its number; `ack`: how the broker wants it to be called."""
        self._count += 1
        self._open.append((self._count, ack))
        return self._count

    def settle(self, numbers: Iterable[int]) -> None:
        """These are done; again is the same as once."""
        first = self._open[0][0] if self._open else self._count + 1
        self._done.update(number for number in numbers if number >= first)

    def acknowledged(self) -> str:
        """What to ack by now; empty: nothing."""
        ack = ""
        while self._open and self._open[0][0] in self._done:
            number, ack = self._open.popleft()
            self._done.discard(number)
        return ack


class Ends:
    """Messages that were said to be dead or expired. Of each the broker says afterwards that it was consumed, too, as
    of one that was acked. So the advisories that said the end are kept unacked until then: none comes again without
    the others. `within`: or until so many others came, for the broker gives only so much that is not acked, and nothing
    follows where a message was too old when it came: it has never been in the queue, so nobody takes it out."""

    def __init__(self, within: int) -> None:
        self._within = within
        self._said: dict[tuple[str, str], list[int]] = {}
        self._older: set[tuple[str, str]] = set()
        self._kept: deque[int] = deque()

    def told(self, kind: str, place: str, number: int, body: bytes) -> tuple[bool, tuple[int, ...]]:
        """Whether the end of that message was told before, and what is settled with this advisory."""
        if kind not in (DEAD, EXPIRED) and not (kind == CONSUMED and self._said):
            return False, (number,)
        try:
            key = place, advice(body).message.message_id.text
        except Undecodable:
            return False, (number,)
        before = self._said.pop(key, [])
        if kind == CONSUMED:
            return bool(before), (*before, number)
        self._said[key] = [*before, number]
        self._kept.append(number)
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        return bool(before), ()

    def overdue(self, number: int) -> tuple[int, ...]:
        """When `number` comes: what was kept for long enough, and is settled with it. It is still known to be an
        end."""
        found = []
        while self._kept and self._kept[0] <= number - self._within:
            found.append(self._kept.popleft())
        return tuple(found)

    def left(self) -> tuple[int, ...]:
        """At each canary that came back: what was said before the last one, and nothing followed."""
        old = [self._said.pop(key) for key in self._older & self._said.keys()]
        self._older = set(self._said)
        return tuple(one for numbers in old for one in numbers)
