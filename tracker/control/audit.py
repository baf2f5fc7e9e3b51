"""The audit log: who did what to what, and why. Entries are only ever added, and chained by hash (`chain`).

The database refuses to change or delete an entry; `verify` finds it where somebody got around that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracker.control import paging, tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import Invalid
from tracker.control.paging import Page
from tracker.model import audited, chain

_STEP = 5000
"""Entries read at a time by `verify`."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `subject` names what it was done to, as `replay/r-17` or `flow/orders`; numbers have no holes."""

    number: int
    at: int
    who: str
    what: str
    why: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str


class Audit:
    """Append in the transaction of the act itself, last: then neither exists without the other."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def append(
        self, at: int, who: str, what: str, subject: str, why: str = "", detail: Mapping[str, Any] | None = None
    ) -> AuditEntry:
        """Add an entry. `detail` is any JSON object. Raises `Invalid` when it is none."""
        try:
            text = chain.canonical(dict(detail or {}))
        except (TypeError, ValueError) as error:
            raise Invalid(f"the detail of {what!r} on {subject} is not JSON: {error}") from error
        with self._transactions.write() as session:
            lock(session, "audit")
            head = _head(session)
            number, previous = (1, chain.ORIGIN) if head is None else (head.number + 1, head.hash)
            row = tables.AuditEntry(
                number=number, at=at, who=who, what=what, why=why, subject=subject, detail=text, previous=previous
            )
            row.hash = _hash(row, previous)
            session.add(row)
            return _value(row)

    def entries(
        self,
        *,
        subject: str | None = None,
        who: str | None = None,
        since: int | None = None,
        until: int | None = None,
        cursor: str = "",
        limit: int = 100,
    ) -> Page[AuditEntry]:
        """Oldest first; of one subject, of one who acted, of a span of time [since, until), or all. Raises `Invalid`
        for a cursor that is none."""
        table = tables.AuditEntry
        query = select(table).order_by(table.number).limit(paging.rows(limit))
        if subject is not None:
            query = query.where(table.subject == subject)
        if who is not None:
            query = query.where(table.who == who)
        if since is not None:
            query = query.where(table.at >= since)
        if until is not None:
            query = query.where(table.at < until)
        if cursor:
            query = query.where(table.number > paging.decode(cursor, tuple[int])[0])
        with self._transactions.read() as session:
            found = [_value(row) for row in session.scalars(query)]
        return paging.cut(found, limit, lambda entry: (entry.number,))

    def head(self) -> AuditEntry | None:
        """The newest entry. Its number and hash, kept elsewhere, show a tail that was cut off (`verify`)."""
        with self._transactions.read() as session:
            row = _head(session)
            return None if row is None else _value(row)

    def verify(self, number: int = 0, expected: str = chain.ORIGIN) -> int | None:
        """The number of the first entry that is missing or not as it was written; None when the whole log is sound.

        With a `number` and the `expected` hash kept from an earlier `head`, that entry must still be there, unchanged.
        """
        previous, last, seen = chain.ORIGIN, 0, number == 0
        for row in self._rows():
            if row.number != last + 1:
                return last + 1
            if row.previous != previous or row.hash != _hash(row, previous):
                return row.number
            if row.number == number:
                if row.hash != expected:
                    return row.number
                seen = True
            previous, last = row.hash, row.number
        return None if seen else last + 1

    def lines(self, last: int) -> Iterator[str]:
        """Every entry up to number `last` as a line of an export (`tracker.model.audited`), read in steps."""
        for row in self._rows():
            if row.number > last:
                return
            yield audited.line({name: getattr(row, name) for name in (*audited.BODY, "hash")})

    def _rows(self) -> Iterator[tables.AuditEntry]:
        after = 0
        while True:
            query = select(tables.AuditEntry).where(tables.AuditEntry.number > after)
            with self._transactions.read() as session:
                rows = session.scalars(query.order_by(tables.AuditEntry.number).limit(_STEP)).all()
            yield from rows
            if len(rows) < _STEP:
                return
            after = rows[-1].number


def _head(session: Session) -> tables.AuditEntry | None:
    return session.scalar(select(tables.AuditEntry).order_by(tables.AuditEntry.number.desc()).limit(1))


def _hash(row: tables.AuditEntry, previous: str) -> str:
    """Covers every column; `detail` by the text that is kept, so that reading it again cannot change the hash."""
    names = ("number", "at", "who", "what", "why", "subject", "detail")
    return chain.link(previous, {name: getattr(row, name) for name in names})


def _value(row: tables.AuditEntry) -> AuditEntry:
    names = ("number", "at", "who", "what", "why", "subject", "previous", "hash")
    return AuditEntry(detail=json.loads(row.detail), **{name: getattr(row, name) for name in names})
