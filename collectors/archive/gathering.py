"""What was observed and is not written yet, by flow and hop. Pure but for the content that the collector gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from collectors.archive.manifest import KEPT
from collectors.archive.names import safe
from collectors.archive.rows import Row
from collectors.archiving import Contents
from collectors.base import Observation, Raw
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from tracker.model.event import Event

Place = tuple[str, str]
"""Flow and hop."""
_EACH = 250
"""Bytes that a row takes beside its payload, about."""


class Gathered(NamedTuple):
    """Rows by place, how many they are, and about how many bytes they take."""

    rows: dict[Place, list[Row]]
    records: int
    size: int


def gather(raws: Sequence[Raw], seen: Sequence[Observation], flows: Set[str], contents: Contents) -> Gathered:
    """Those observations that are kept, each with its record. Raises `ConfigInvalid` when the content is not what was
    observed, or its hop has a name that no tracker takes."""
    rows: dict[Place, list[Row]] = {}
    records = size = 0
    for raw, event in zip(raws, seen, strict=True):
        if not isinstance(event, Event) or event.flow not in flows or event.stage not in KEPT or not event.message_id:
            continue
        content = contents(raw, event)
        digest = digest_of(content.value)
        if event.digest and digest != event.digest:
            raise ConfigInvalid(
                f"archive: what the collector gives of message {event.message_id!r} at {event.hop} is not what it "
                "observed: a defect of the collector"
            )
        headers = list(content.headers.items())
        row = Row(
            event.message_id, event.hop, event.stage.value, event.partition, event.offset, content.key, content.value,
            headers, event.observed_at, event.origin_at, digest, content.native,
        )  # fmt: skip
        place = event.flow, event.hop
        if place not in rows:
            if not safe(event.hop):
                raise ConfigInvalid(f"archive: {event.hop!r} is no name of a hop; use letters, digits, '.', '_', '-'")
            rows[place] = []
        rows[place].append(row)
        records += 1
        size += _EACH + len(content.value or b"") + len(content.key or b"") + len(content.native or b"")
        size += sum(len(name) + len(value or b"") for name, value in headers)
    return Gathered(rows, records, size)


class Gathering:
    """The open generation: what is written next. `every` (s), `most` records and `limit` bytes close it."""

    def __init__(self, every: float, most: int, limit: int, monotonic: Callable[[], float]) -> None:
        self._every, self._most, self._limit, self._monotonic = every, most, limit, monotonic
        self.number = 1
        self._begin()

    def _begin(self) -> None:
        self._rows: dict[Place, list[Row]] = {}
        self.records = self.size = 0
        self._opened = 0.0

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return self.records >= self._most or self.size >= self._limit

    def add(self, gathered: Gathered) -> None:
        """Take these, whether there is room or not."""
        if not self.records:
            self._opened = self._monotonic()
        for place, rows in gathered.rows.items():
            self._rows.setdefault(place, []).extend(rows)
        self.records += gathered.records
        self.size += gathered.size

    def due_in(self) -> float:
        """Seconds until it has to be closed; 0: now. For ever while there is nothing in it."""
        if not self.records:
            return float("inf")
        return 0.0 if self.full else max(0.0, self._opened + self._every - self._monotonic())

    def close(self) -> tuple[int, Gathered]:
        """Its number and what is in it; another one begins."""
        closed = self.number, Gathered(self._rows, self.records, self.size)
        self.number += 1
        self._begin()
        return closed
