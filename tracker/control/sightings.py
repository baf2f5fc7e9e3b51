"""What OTLP spans told of messages that no flow took: one row per combination of service, system, destination and
operation, so that somebody can make a flow of it. Bounded: the combinations seen longest ago are forgotten.

Counts are for people; nothing is judged by them, and a crash may lose the last seconds of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tracker.control import tables
from tracker.control.database import Transactions, lock

KEPT = 1000
"""So many combinations are remembered."""
SAMPLES = 3
LONGEST = 200
"""Characters of each text that are kept."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Spans of one combination. `reason` says why they became no event; `flow` is the one that matches them, if any.
    `samples` are a few ids of theirs."""

    service: str
    system: str
    destination: str
    operation: str
    reason: str
    flow: str = ""
    count: int
    first_seen: int
    last_seen: int
    samples: list[str] = msgspec.field(default_factory=list)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two the same."""
        return (self.service, self.system, self.destination, self.operation, self.reason, self.flow)

    def plus(self, other: Sighting) -> Sighting:
        """Both together."""
        return msgspec.structs.replace(
            self,
            count=self.count + other.count,
            first_seen=min(self.first_seen, other.first_seen),
            last_seen=max(self.last_seen, other.last_seen),
            samples=list(dict.fromkeys([*self.samples, *other.samples]))[:SAMPLES],
        )


class Sightings:
    """All that was seen."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(self, seen: Iterable[Sighting]) -> None:
        """Add to what is known; beyond `KEPT` combinations those seen longest ago are forgotten."""
        row = tables.Sighting
        with self._transactions.write() as session:
            lock(session, "sightings")
            for one in seen:
                held = session.get(row, one.key)
                whole = _value(held).plus(one) if held else one
                session.merge(row(**msgspec.structs.asdict(whole)))
            session.flush()
            _forget_oldest(session)

    def all(self) -> list[Sighting]:
        """Everything, what was seen most often first."""
        row = tables.Sighting
        with self._transactions.read() as session:
            return [_value(held) for held in session.scalars(select(row).order_by(row.count.desc(), row.service))]

    def forget(self) -> None:
        """Begin anew."""
        with self._transactions.write() as session:
            lock(session, "sightings")
            session.execute(delete(tables.Sighting))


def _value(row: tables.Sighting) -> Sighting:
    return msgspec.convert(row, Sighting, from_attributes=True)


def _forget_oldest(session: Session) -> None:
    row = tables.Sighting
    kept = session.scalar(select(row.last_seen).order_by(row.last_seen.desc()).limit(1).offset(KEPT - 1))
    if kept is not None:
        session.execute(delete(row).where(row.last_seen < kept))
