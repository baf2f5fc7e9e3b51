"""Group commit: requests share inserts, each is answered once its own rows are durable.

One thread writes. It takes what has come while it wrote, or waits a moment for more; parts stay few, and the embedded
engine, which takes a few hundred inserts a second, takes any number of requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import structlog

from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.errors import Busy
from tracker.model.errors import TrackerError, Unavailable

log = structlog.get_logger()


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


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a group is written: at `rows`, or `wait` seconds after its first batch. `memory` bounds the bytes of all
    batches that wait."""

    rows: int = 100_000
    wait: float = 0.02
    memory: int = 512 << 20


Pending = tuple[Batch, "Future[Accepted]"]


class Committer:
    """Owns the writing thread; close it once. `written(rows, seconds)` is told of each group."""

    def __init__(self, sink: Sink, bounds: Bounds, written: Callable[[int, float], None] = lambda rows, seconds: None):
        self._sink, self._bounds, self._written = sink, bounds, written
        self._pending: list[Pending] = []
        self._held = self._rows = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """Bytes of batches that are not durable yet."""
        return self._held

    def alive(self) -> bool:
        """False once the writing thread has ended."""
        return self._thread.is_alive()

    def submit(self, batch: Batch) -> Future[Accepted]:
        """The answer, given when the rows are durable; it raises what the store raised. Raises Busy when memory for
        waiting batches is used up, and once closing."""
        answer: Future[Accepted] = Future()
        answer.set_running_or_notify_cancel()  # who stops waiting does not stop the writing
        with self._changed:
            if self._closing:
                raise Busy("the tracker is shutting down; send this again in a moment")
            if self._held and self._held + batch.size > self._bounds.memory:
                raise Busy(f"{self._held >> 20} MiB wait to be stored already; the store is slower than the senders")
            self._pending.append((batch, answer))
            self._held += batch.size
            self._rows += batch.rows
            self._changed.notify_all()
        return answer

    def close(self) -> None:
        """Write what waits, then end. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next():
            began = time.monotonic()
            self._write(group)
            self._written(sum(batch.rows for batch, _ in group), time.monotonic() - began)
            with self._changed:
                self._held -= sum(batch.size for batch, _ in group)

    def _next(self) -> list[Pending]:
        """The next group, in the order of arrival; empty when closing and all is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if self._pending:
                self._changed.wait_for(lambda: self._closing or self._rows >= self._bounds.rows, self._bounds.wait)
            group: list[Pending] = []
            rows = 0
            while self._pending and (not group or rows + self._pending[0][0].rows <= self._bounds.rows):
                group.append(self._pending.pop(0))
                rows += group[-1][0].rows
            self._rows -= rows
            return group

    def _write(self, group: Sequence[Pending]) -> None:
        try:
            self._insert([batch for batch, _ in group])
        except Unavailable as error:
            self._fail(group, error)
        except Exception as error:  # noqa: BLE001 - the one writing thread must live; the requests get the error
            self._write_apart(group, error)
        else:
            for batch, answer in group:
                answer.set_result(batch.answer)

    def _write_apart(self, group: Sequence[Pending], error: Exception) -> None:
        """The engine refused the rows: find out whose, so that one request does not take the others down."""
        if len(group) > 1:
            for one in group:
                self._write([one])
            return
        log.error("insert_refused", error=str(error), rows=group[0][0].rows)
        refused = error if isinstance(error, TrackerError) else Unavailable(f"the store refused an insert: {error}")
        self._fail(group, refused)

    def _fail(self, group: Sequence[Pending], error: Exception) -> None:
        for _, answer in group:
            answer.set_exception(error)

    def _insert(self, batches: Sequence[Batch]) -> None:
        """Reports come last: nobody may be vouched for by a report whose events are not durable."""
        for insert, tables in (
            (self._sink.insert_events, [b.events for b in batches]),
            (self._sink.insert_ranges, [b.ranges for b in batches]),
            (self._sink.insert_quarantine, [b.quarantine for b in batches]),
            (self._sink.insert_reports, [b.reports for b in batches]),
        ):
            filled = [table for table in tables if table.num_rows]
            if filled:
                insert(pa.concat_tables(filled))
