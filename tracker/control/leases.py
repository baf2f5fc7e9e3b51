"""Named leases: which of several trackers does a piece of work. `now` is the caller's clock, microseconds.

Clocks of several machines differ, and a process can be stopped between a check and the work. So a lease is a hint
and its `token` is the proof: it grows each time the lease changes hands, and `check` in the transaction that stores
the work refuses an old one.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracker.control import tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import LeaseLost


class Lease(msgspec.Struct, frozen=True):
    """`owner` holds `name` until `expires_at`, under fencing token `token`."""

    name: str
    owner: str
    token: int
    expires_at: int


class Leases:
    """At any `now`, at most one owner holds a name."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def acquire(self, name: str, owner: str, now: int, ttl: int) -> Lease | None:
        """The lease, when it is free, expired or already this owner's; None while another holds it.

        `owner` must differ between processes and between starts of one. A lease still held keeps its token.
        """
        with self._transactions.write() as session:
            lock(session, f"lease:{name}")
            row = session.get(tables.Lease, name)
            if row is None:
                row = tables.Lease(name=name, owner=owner, token=1, expires_at=now + ttl)
                session.add(row)
                return _value(row)
            held = row.expires_at > now
            if held and row.owner != owner:
                return None
            if not held:
                row.token += 1
            row.owner, row.expires_at = owner, max(row.expires_at, now + ttl)
            return _value(row)

    def seize(self, name: str, owner: str, now: int, ttl: int) -> Lease:
        """The lease, whoever held it: for an owner that knows that the one before is gone."""
        with self._transactions.write() as session:
            lock(session, f"lease:{name}")
            row = session.get(tables.Lease, name)
            if row is None:
                row = tables.Lease(name=name, owner=owner, token=0, expires_at=0)
                session.add(row)
            row.owner, row.token, row.expires_at = owner, row.token + 1, now + ttl
            return _value(row)

    def renew(self, lease: Lease, now: int, ttl: int) -> Lease:
        """The same lease for longer. Raises `LeaseLost` when it has expired, even if nobody took it."""
        with self._transactions.write() as session:
            row = _held(session, lease, now)
            row.expires_at = max(row.expires_at, now + ttl)
            return _value(row)

    def check(self, lease: Lease, now: int) -> None:
        """Raises `LeaseLost` unless `lease` is held at `now`; in a transaction it stays so until the end of it."""
        with self._transactions.write() as session:
            _held(session, lease, now)

    def release(self, lease: Lease) -> None:
        """Free it now. Changes nothing when it was lost before."""
        with self._transactions.write() as session:
            lock(session, f"lease:{lease.name}")
            row = session.get(tables.Lease, lease.name)
            if row is not None and (row.owner, row.token) == (lease.owner, lease.token):
                row.expires_at = 0

    def all(self) -> list[Lease]:
        """Every lease ever taken, by name; those not after `now` are free."""
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(select(tables.Lease).order_by(tables.Lease.name))]


def _held(session: Session, lease: Lease, now: int) -> tables.Lease:
    lock(session, f"lease:{lease.name}")
    row = session.get(tables.Lease, lease.name)
    if row is None or (row.owner, row.token) != (lease.owner, lease.token):
        holder = "nobody" if row is None else f"{row.owner!r} (token {row.token})"
        raise LeaseLost(f"lease {lease.name!r} of {lease.owner!r} (token {lease.token}) is held by {holder} now")
    if row.expires_at <= now:
        raise LeaseLost(f"lease {lease.name!r} of {lease.owner!r} expired: renew it more often than it lasts")
    return row


def _value(row: tables.Lease) -> Lease:
    return msgspec.convert(row, Lease, from_attributes=True)
