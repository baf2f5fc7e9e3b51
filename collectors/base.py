"""The one shape that every collector has.

A collector is three verbs and two facts. It does not batch, retry, back off, count, log, quarantine, deduplicate or
read settings: the runner (`collectors.runner`) does each once, for all. Seeing must never change what others see:
a collector uses its own group, queue, durable or cursor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from collectors.errors import Unavailable, Undecodable
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Range

__all__ = ["NOTHING_YET_MS", "Collector", "Content", "Lag", "Observation", "Raw", "Unavailable", "Undecodable"]

Observation = Event | Range

NOTHING_YET_MS = 10 * 365 * 86_400_000
"""The lag before completeness was shown for the first time: ten years, longer than any log of interest."""


class Raw(msgspec.Struct, frozen=True, gc=False):
    """One record as the system gave it. `position` is what `commit` needs; only the collector looks inside."""

    value: bytes
    headers: dict[str, bytes] = {}
    key: bytes | None = None
    position: Any = None
    observed_at: int | None = None


class Content(msgspec.Struct, frozen=True, gc=False):
    """A message itself, as its producer wrote it: what a broker added is left out. `value` None: a tombstone. Headers
    that are no bytes in their system are text (`collectors.carried.text`), nested ones JSON. `native`: what `headers`
    cannot say, as `Copy.native` of `tracker.model.carry` has it."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None] = {}
    native: bytes | None = None


class Lag(msgspec.Struct, frozen=True):
    """How far reading is behind: everything that happened up to `now - ms` has been returned by `read`."""

    ms: int = 0
    backlog: int = 0


class Collector(Protocol):
    """Three verbs (`read`, `decode`, `commit`) and two facts (`sources`, `lag`)."""

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """At most `limit` records, waiting at most `wait` seconds for the first. Raises `Unavailable` when the
        system cannot be reached; the runner tries again."""
        ...

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """Pure. Raises `Undecodable` and nothing else, whatever the bytes."""
        ...

    # A collector may also have
    # - `decode_all(raws)`, the observations of many records at once, one of each and in their order, for where a call
    #   each is too slow. What it raises only says that one of them cannot be decoded: `decode` then tells which.
    # - `ends_of(raws)`, those of a read that stand for all of them in `commit`, where a position is a point in a log.
    # - `content(raw, event)`, the `Content` of the message of which `decode` made this event. Without it there is
    #   nothing that an archive could keep.
    # - `window`, how many records the system gives out before it wants commits.

    def commit(self, raws: Sequence[Raw]) -> None:
        """Never read these again. Idempotent; called only after the tracker said yes. Of each raw only `position`
        is left: the runner does not hold payloads that long."""
        ...

    def sources(self) -> Sequence[SourceRef] | None:
        """What it vouches for at this moment: partitions assigned, queues bound. None while that is not known, for a
        moment after a start or a cut connection: what was said before stays, and nothing new is vouched for. A list
        that is given again, the same object, must not have been changed: it is not compared anew."""
        ...

    def lag(self) -> Lag:
        """How far behind it is now, after everything that `read` returned. The runner asks often: no long calls."""
        ...

    def close(self) -> None:
        """Let go of connections. What was read and not committed comes again at the next start."""
        ...
