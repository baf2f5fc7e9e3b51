"""Rulings: what a person or a replay says is to become of findings, until a pass has carried it out.

Only passes write findings, so that two never write one at the same time and a pass that is done again leaves the same
rows (docs/adr/0039). A ruling waits here, is taken by a pass, and is forgotten in the transaction that finishes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import delete, insert, or_, select, update

from tracker.control import tables
from tracker.control.database import Transactions
from tracker.control.errors import Invalid

STATUSES = ("parked", "abandoned", "open")
"""What a finding can be made by a ruling: set aside, given up for good, and open again after one of these."""
REPLAY, PERSON = "replay", "person"
"""Who says so, as findings keep it."""
MOST = 10_000
"""Rulings that one pass takes."""
_STEP = 2000
"""Rows in one statement: bound by the parameters that SQLite takes."""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """On findings of one message at (`hop`, `stage`), or, without a message, on all of `incident`."""

    flow: str
    status: str
    by: str
    incident: str = ""
    message_id: str = ""
    hop: str = ""
    stage: str = ""


class Rulings:
    """In the order in which they were given."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(self, rulings: Sequence[Ruling], now: int) -> None:
        """Let the next passes carry these out. Raises `Invalid` for a status that no ruling gives."""
        unknown = {one.status for one in rulings} - set(STATUSES)
        if unknown:
            raise Invalid(f"a finding cannot be made {', '.join(sorted(unknown))}; one of {', '.join(STATUSES)}")
        rows = [msgspec.structs.asdict(one) | {"at": now} for one in rulings]
        with self._transactions.write() as session:
            for start in range(0, len(rows), _STEP):
                session.execute(insert(tables.Ruling), rows[start : start + _STEP])

    def waiting(self) -> bool:
        """Whether any is there for a pass to begin."""
        query = select(tables.Ruling.number).where(tables.Ruling.taken_by.is_(None)).limit(1)
        with self._transactions.read() as session:
            return session.scalar(query) is not None

    def take(self, number: int, most: int = MOST) -> list[Ruling]:
        """Those that pass `number` carries out: the same when it is done again, whatever came meanwhile. What a pass
        had taken that was forgotten is taken by the next one."""
        table = tables.Ruling
        mine = select(table).where(table.taken_by == number).order_by(table.number)
        with self._transactions.write() as session:
            if session.scalar(mine.limit(1)) is None:
                free = or_(table.taken_by.is_(None), table.taken_by < number)
                session.execute(
                    update(table)
                    .where(table.number.in_(select(table.number).where(free).order_by(table.number).limit(most)))
                    .values(taken_by=number)
                    .execution_options(synchronize_session=False)
                )
            return [msgspec.convert(row, Ruling, from_attributes=True) for row in session.scalars(mine)]

    def done(self, number: int) -> None:
        """Pass `number` has carried out what it took."""
        with self._transactions.write() as session:
            session.execute(delete(tables.Ruling).where(tables.Ruling.taken_by == number))


def of_incident(flow: str, incident: str, status: str, message_ids: Collection[str] = ()) -> list[Ruling]:
    """What a person says of an incident: of all its findings, or of those of some messages."""
    said = Ruling(flow=flow, incident=incident, status=status, by=PERSON)
    return [msgspec.structs.replace(said, message_id=one) for one in message_ids] or [said]
