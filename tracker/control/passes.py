"""The reconciler's passes. A pass row is written before its work with the bounds it covers, so that after a crash the
same pass is done again with the same bounds and the same `now`, which changes nothing that was already written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tracker.control import tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import Conflict, NotFound

KEPT = 1000
"""How many passes are remembered."""


class Pass(msgspec.Struct, frozen=True):
    """`started_at` is the `now` that every question of the pass is asked with; `bounds` is the reconciler's own."""

    number: int
    started_at: int
    bounds: dict[str, Any]
    finished_at: int | None


class Passes:
    """At most one is unfinished. Numbers grow by one and are never used again."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def begin(self, now: int, bounds: Mapping[str, Any]) -> Pass:
        """Record the next pass; forget those more than `KEPT` ago. Raises `Conflict` while one is unfinished."""
        with self._transactions.write() as session:
            lock(session, "passes")
            last = _last(session)
            if last is not None and last.finished_at is None:
                raise Conflict(f"pass {last.number} is unfinished: do that one again first")
            number = 1 if last is None else last.number + 1
            row = tables.Pass(number=number, started_at=now, bounds=dict(bounds), finished_at=None)
            session.add(row)
            session.execute(delete(tables.Pass).where(tables.Pass.number <= number - KEPT))
            return _value(row)

    def finish(self, number: int, now: int) -> None:
        """The pass's work is stored. Doing it twice changes nothing. Raises `NotFound`."""
        with self._transactions.write() as session:
            lock(session, "passes")
            row = session.get(tables.Pass, number)
            if row is None:
                raise NotFound(f"no pass {number}: it was never begun, or is more than {KEPT} passes ago")
            if row.finished_at is None:
                row.finished_at = now

    def skip_to(self, number: int) -> None:
        """Go on behind pass `number`, which a ledger has and this database does not know, from the bounds of the last
        finished one. An unfinished pass before it is forgotten: the next takes on what it had."""
        with self._transactions.write() as session:
            lock(session, "passes")
            last = _last(session)
            if last is not None and last.finished_at is None:
                session.delete(last)
                session.flush()
                last = _last(session)
            started, bounds = (last.started_at, last.bounds) if last else (0, {})
            session.add(tables.Pass(number=number, started_at=started, bounds=dict(bounds), finished_at=started))

    def unfinished(self) -> Pass | None:
        """The pass that a crash left, or that is under way."""
        last = self.last()
        return last if last is not None and last.finished_at is None else None

    def last(self) -> Pass | None:
        """The newest pass, finished or not."""
        with self._transactions.read() as session:
            row = _last(session)
            return None if row is None else _value(row)

    def last_finished(self) -> Pass | None:
        """The newest pass whose work is stored: its bounds are where the next one starts."""
        query = select(tables.Pass).where(tables.Pass.finished_at.is_not(None)).order_by(tables.Pass.number.desc())
        with self._transactions.read() as session:
            row = session.scalar(query.limit(1))
            return None if row is None else _value(row)


def _last(session: Session) -> tables.Pass | None:
    return session.scalar(select(tables.Pass).order_by(tables.Pass.number.desc()).limit(1))


def _value(row: tables.Pass) -> Pass:
    return msgspec.convert(row, Pass, from_attributes=True)
