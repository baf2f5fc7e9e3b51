"""Appends columns. Every row carries its writer's lane and a sequence, so that a pass can ask for what is new.

Inserts become visible out of order between lanes, never within one: a lane inserts one block at a time, and its
sequence (microseconds, always growing) is given at the start. See docs/adr/0001-events-table.md.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from tracker.store.columns import TIMES
from tracker.store.engine import Engine

DAY = 86_400_000_000
_TIMESTAMP = pa.timestamp("us", "UTC")


class Writer:
    """The one lane of this process. Thread-safe: inserts of several threads go one after another."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.lane = secrets.randbits(63)
        self._sequence = _newest(engine)

    def insert_events(self, columns: pa.Table) -> None:
        """Append events (`columns.EVENTS`). Returns when they are as durable as the store is configured."""
        for day in _by_day(columns):
            self._append("events", day, "sequence")

    def insert_ranges(self, columns: pa.Table) -> None:
        """Append range evidence (`columns.RANGES`)."""
        self._append("ranges", columns, "sequence")

    def insert_reports(self, columns: pa.Table) -> None:
        """Append coverage reports (`columns.REPORTS`); call it after the events that they vouch for were stored."""
        self._append("reports", columns, "lane_sequence")

    def insert_quarantine(self, columns: pa.Table) -> None:
        """Append what could not be used (`columns.QUARANTINE`)."""
        if columns.num_rows:
            self._engine.insert("quarantine", typed(columns))

    def _append(self, table: str, columns: pa.Table, sequence: str) -> None:
        if not columns.num_rows:
            return
        columns = typed(columns)
        with self._lock:
            if not self._engine.embedded:
                # Others write too, maybe with a clock far ahead; passes forget what lies long before the newest.
                self._sequence = max(self._sequence, _newest(self._engine, self._sequence))
            self._sequence = max(self._sequence + 1, time.time_ns() // 1000)
            for name, value in (("lane", self.lane), (sequence, self._sequence)):
                columns = columns.append_column(name, pa.repeat(pa.scalar(value, pa.uint64()), columns.num_rows))
            try:
                self._engine.insert(table, columns)
            except Exception:
                # A server may finish it after we gave up. Passes never look behind a sequence that they saw of a lane,
                # so what comes next must not be of the same one.
                self.lane = secrets.randbits(63)
                raise


def typed(columns: pa.Table, times: frozenset[str] = TIMES) -> pa.Table:
    """The same columns with int64 microseconds as timestamps, which the engine would otherwise take for seconds."""
    fields = [columns[name].cast(_TIMESTAMP) if name in times else columns[name] for name in columns.column_names]
    return pa.table(fields, names=columns.column_names)


def _by_day(columns: pa.Table) -> Iterator[pa.Table]:
    """One table per received day: an insert that stays in one partition is visible as a whole or not at all."""
    days = pc.divide(columns["received_at"], DAY)
    distinct = pc.unique(days).to_pylist()
    if len(distinct) < 2:
        yield columns
        return
    for day in sorted(distinct):
        yield columns.filter(pc.equal(days, day))


def _newest(engine: Engine, above: int = 0) -> int:
    """The highest sequence that anybody stored above this one, else 0. At the start it is asked of everything: a clock
    that was set back must not hide new rows from the passes."""
    tables = (("events", "sequence"), ("ranges", "sequence"), ("reports", "lane_sequence"))
    parts = (
        f"(SELECT max({name}) FROM {engine.database}.{table} WHERE {name} > {{above:UInt64}})" for table, name in tables
    )
    return int(engine.rows(f"SELECT greatest({', '.join(parts)}) AS newest", {"above": above})[0]["newest"])
