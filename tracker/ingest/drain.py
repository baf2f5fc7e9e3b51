"""Out of the spool into the store, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
import structlog

from tracker.ingest.batch import Batch
from tracker.ingest.spool import Held, Spool
from tracker.model.errors import Invalid
from tracker.store.columns import together

log = structlog.get_logger()

AGAIN = 0.2
"""Seconds before a store that is down is asked again; doubled each time, up to `LONGEST`."""
LONGEST = 5.0
_REFUSED = (Invalid, pa.ArrowException, TypeError, ValueError)
"""What will be the same however often it is tried."""


class Sink(Protocol):
    """What of the store is needed here."""

    def insert_events(self, columns: pa.Table) -> None:
        """Append events; returns when they are durable, as do the others."""

    def insert_ranges(self, columns: pa.Table) -> None:
        """Append range evidence."""

    def insert_quarantine(self, columns: pa.Table) -> None:
        """Append what could not be used."""

    def insert_reports(self, columns: pa.Table) -> None:
        """Append coverage reports."""


def insert(sink: Sink, batches: Sequence[Batch]) -> None:
    """Store batches in one insert per table. Reports come last: nobody may be vouched for by a report whose events are
    not durable. Raises what the sink raises."""
    for put, tables in (
        (sink.insert_events, [b.events for b in batches]),
        (sink.insert_ranges, [b.ranges for b in batches]),
        (sink.insert_quarantine, [b.quarantine for b in batches]),
        (sink.insert_reports, [b.reports for b in batches]),
    ):
        filled = [table for table in tables if table.num_rows]
        if filled:
            put(together(filled))


class Drain:
    """Empties a spool, about `rows` rows at a time; one thread calls `step`. `stored(rows)` is told what went well."""

    def __init__(self, spool: Spool, sink: Sink, rows: int, stored: Callable[[int], None]) -> None:
        self._spool, self._sink, self._rows, self._stored = spool, sink, rows, stored
        self._held: list[Held] = []
        self._pause = 0.0
        self.rows = self.freed = 0
        """Rows, and bytes of the spool, that the store has taken since the start."""

    def step(self) -> float:
        """Store the oldest batches. Seconds to wait before the next step: 0 when it went well."""
        try:
            self._held = self._held or self._spool.peek(self._rows)
            if self._held:
                self._store(self._held)
        except Exception as error:  # noqa: BLE001 - whatever it is, what waits must be tried again
            return self._failed(error)
        self._held = []
        if self._pause:
            log.info("store_takes_events_again", spool_bytes=self._spool.size)
        self._pause = 0.0
        return 0.0

    def _store(self, held: Sequence[Held]) -> None:
        try:
            insert(self._sink, [one.batch for one in held])
        except _REFUSED as error:
            if len(held) > 1:  # find out whose fault it is
                for one in held:
                    self._store([one])
                return
            self._spool.reject(held[0], str(error))
        else:
            self._spool.done(held[-1])
            rows = sum(one.batch.rows for one in held)
            self.rows += rows
            self.freed += held[-1].end - held[0].start
            self._stored(rows)

    def _failed(self, error: Exception) -> float:
        if not self._pause:
            log.warning("spool_waits", reason=str(error), spool_bytes=self._spool.size, next="mend the store")
        self._held = []
        self._pause = min(self._pause * 2, LONGEST) or AGAIN
        return self._pause
