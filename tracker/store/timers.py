"""Timers that are over: none of them is ever asked for again, and nobody else removes them."""

from __future__ import annotations

from datetime import UTC, datetime

from tracker.model.units import SECOND
from tracker.store.engine import Engine


class Timers:
    """The end of timers, day by day."""

    _engine: Engine
    _db: str

    def drop_fired(self, due_after: int) -> list[str]:
        """Drop the days of timers that lie before the day of `due_after` (µs): passes ask for what is due later than
        that. The days that were dropped, as 20260131."""
        today = f"{datetime.fromtimestamp(due_after / SECOND, UTC):%Y%m%d}"
        rows = self._engine.rows(
            "SELECT DISTINCT partition_id AS day FROM system.parts WHERE active AND database = {database:String} "
            "AND table = 'timers' AND partition_id < {today:String} ORDER BY day",
            {"database": self._db, "today": today},
        )
        days = [row["day"] for row in rows if row["day"].isdigit()]
        for day in days:
            self._engine.command(f"ALTER TABLE {self._db}.timers DROP PARTITION ID '{day}'")
        return days
