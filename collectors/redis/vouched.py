"""What a collector vouches for: its sources, but those of which something is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from collectors.holes import Holes
from collectors.redis.config import RedisConfig, sources_of
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage

DELIVERED = "\0deliver"
"""Instead of a group: the deliveries of all of them."""


class Vouched:
    """`known`: whether it can be said at all."""

    def __init__(self) -> None:
        self._sources: dict[SourceRef, tuple[str, str]] = {}
        self._holes = Holes[tuple[str, str]]()

    @property
    def known(self) -> bool:
        """False while we connect, or look."""
        return bool(self._sources)

    def begin(self, config: RedisConfig, polled: bool) -> None:
        """From here on it is known; nothing changes where it was."""
        if not self._sources:
            for part in config.streams:
                self._sources |= sources_of(part, polled)

    def end(self) -> None:
        """It is not known any more. What is missing stays."""
        self._sources = {}

    def leave_out(self, *missing: tuple[str, str]) -> None:
        """Of these (stream, group) something is missing; group empty: of all; `DELIVERED`: of all deliveries."""
        self._holes.add(*missing)

    def told(self, done: int, now: int) -> list[SourceRef] | None:
        """The sources, to somebody who tells them at tick `now`; `done`: up to which tick all was read."""
        if not self._sources:
            return None
        missing = self._holes.told(done, now)
        return [source for source, about in self._sources.items() if missing.isdisjoint(_abouts(source, *about))]


def _abouts(source: SourceRef, stream: str, group: str) -> Iterable[tuple[str, str]]:
    """What may not be missing for it."""
    return (stream, ""), (stream, group), *([(stream, DELIVERED)] if source.stage == Stage.deliver else [])
