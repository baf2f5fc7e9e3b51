"""What was found out and waits to be read, and what has to be kept once it was committed. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import takewhile

from collectors.base import Raw
from collectors.redis.books import Said
from collectors.redis.cursor import Change
from collectors.redis.decoder import Place
from collectors.redis.entry import packed

MOST = 5_000
"""Observations that wait, at most, but for those of one command."""
MOST_BYTES = 16 << 20
"""The same of their content."""


class Waiting:
    """Of one life of the collector. `number`: of the last observation; `committed`: of the last that was."""

    def __init__(self, life: int) -> None:
        self.number = self.committed = 0
        self._life, self._bytes = life, 0
        self._raws: deque[Raw] = deque()
        self._journal: deque[tuple[int, Mapping[Change, bytes | None]]] = deque()

    def __len__(self) -> int:
        return len(self._raws)

    @property
    def full(self) -> bool:
        """Nothing more is to be found out for now."""
        return len(self._raws) >= MOST or self._bytes >= MOST_BYTES

    def add(self, found: Iterable[Said], now: int, since: int | None, changes: Mapping[Change, bytes | None]) -> None:
        """Observed now, epoch µs; `since`: after when it happened, where it was some time ago. `changes`: what to keep
        when these were committed."""
        for one in found:
            self.number += 1
            value = b"" if one.fields is None else packed(one.fields)
            place = Place(self._life, self.number, one._replace(fields=None), since)
            self._raws.append(Raw(value, position=place, observed_at=now))
            self._bytes += len(value)
        self._journal.append((self.number, changes))

    def take(self, limit: int) -> list[Raw]:
        """The next to be read."""
        raws = [self._raws.popleft() for _ in range(min(limit, len(self._raws)))]
        self._bytes -= sum(len(raw.value) for raw in raws)
        return raws

    def newest(self, positions: Iterable[Place]) -> int:
        """The highest number of these, as far as they are of this life."""
        return max((place.number for place in positions if place.life == self._life), default=0)

    def due(self, number: int) -> dict[Change, bytes | None]:
        """What is to be kept when all up to `number` was committed."""
        changes: dict[Change, bytes | None] = {}
        for _, each in takewhile(lambda one: one[0] <= number, self._journal):
            changes |= each
        return changes

    def commit(self, number: int) -> None:
        """It was kept."""
        while self._journal and self._journal[0][0] <= number:
            self._journal.popleft()
        self.committed = number
