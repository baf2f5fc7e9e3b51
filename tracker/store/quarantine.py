"""What could not be used: listed, and marked when it was taken after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tracker.store.engine import Engine
from tracker.store.sql import ask
from tracker.store.writer import typed

Place = tuple[int, str, int]
"""A line of the quarantine: when it was received (µs), who sent it, which line of its batch."""

_LATEST = 4_102_444_800_000_000
"""2100, µs: no limit."""


@dataclass(frozen=True, slots=True)
class Which:
    """Lines received from `since` until, and not including, `until` (µs); of a flow, of a sender, and about a field,
    unless empty."""

    flow: str = ""
    source: str = ""
    field: str = ""
    since: int = 0
    until: int = _LATEST


class Quarantine:
    """The questions and marks about lines in quarantine, on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    def quarantined(
        self, after: Place = (0, "", 0), limit: int = 100, which: Which | None = None
    ) -> list[dict[str, Any]]:
        """Lines behind `after`, oldest first: source, line, field, reason, raw, flow, received (µs)."""
        received, source, line = after
        which = which or Which()
        return self._engine.rows(
            ask("quarantined", self._db),
            {"received": received, "source": source, "line": line, "limit": limit, "flow": which.flow,
             "of": which.source, "field": which.field, "since": max(which.since, received),
             "until": min(which.until, _LATEST)},
        )  # fmt: skip

    def mark_resubmitted(self, lines: Sequence[Place], now: int) -> None:
        """These lines were taken at `now` (µs): they are listed no more. Doing it again changes nothing."""
        if not lines:
            return
        received, sources, numbers = (list(column) for column in zip(*lines, strict=True))
        columns = pa.table(
            {
                "received_at": pa.array(received, pa.int64()),
                "source": sources,
                "line": pa.array(numbers, pa.uint32()),
                "at": pa.array([now] * len(lines), pa.int64()),
            }
        )
        self._engine.insert("resubmitted", typed(columns, frozenset({"received_at", "at"})))
