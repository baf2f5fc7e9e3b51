"""Statements as kept: one chain per flow, so that whoever may see one flow can check all of its statements.

Number and link are given here, in one transaction, and a unique key refuses a second statement after the same one: two
trackers cannot make the chain fork. The database refuses to change or delete a statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracker.control import paging, tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import NotFound
from tracker.control.paging import Page
from tracker.model import chain


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A statement's place in its chain, and the span [start, end) of origins that it is about."""

    flow: str
    number: int
    previous: str
    hash: str
    made_at: int
    made_by: str
    start: int
    end: int


class Kept(Link, frozen=True, kw_only=True):
    """One statement. `document` is its JSON, sealed, as it was handed out."""

    document: str


Sign = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Gives what stands beside a statement in its document: `public_key` and `signature`."""


class Statements:
    """All statements, by flow and number, from 1 and without holes."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def append(self, flow: str, said: Mapping[str, Any], span: tuple[int, int], now: int, by: str, sign: Sign) -> Kept:
        """Make `said`, about the origins in `span`, the flow's next statement: it gets `number` and `previous`, is
        signed and kept."""
        with self._transactions.write() as session:
            lock(session, f"statements:{flow}")
            head = _head(session, flow)
            number, previous = (1, chain.ORIGIN) if head is None else (head.number + 1, head.hash)
            body = {**said, "number": number, "previous": previous}
            digest = hashlib.sha256(chain.canonical(body).encode("ascii")).hexdigest()
            row = tables.Statement(
                flow=flow,
                number=number,
                previous=previous,
                hash=digest,
                made_at=now,
                made_by=by,
                start=span[0],
                end=span[1],
                document=chain.canonical({"statement": body, "hash": digest, **sign(body)}),
            )
            session.add(row)
            session.flush()
            return _value(row)

    def get(self, flow: str, number: int) -> Kept:
        """Raises NotFound."""
        with self._transactions.read() as session:
            row = session.get(tables.Statement, (flow, number))
            if row is None:
                raise NotFound(f"flow {flow!r} has no statement {number}; GET /v1/flows/{flow}/statements lists them")
            return _value(row)

    def page(self, flow: str, cursor: str = "", limit: int = 100) -> Page[Link]:
        """A flow's statements without their documents, newest first. Raises `Invalid` for a cursor that is none."""
        table = tables.Statement
        columns = [getattr(table, name) for name in Link.__struct_fields__]
        query = select(*columns).where(table.flow == flow).order_by(table.number.desc()).limit(paging.rows(limit))
        if cursor:
            query = query.where(table.number < paging.decode(cursor, tuple[int])[0])
        with self._transactions.read() as session:
            found = [Link(**row._mapping) for row in session.execute(query)]
        return paging.cut(found, limit, lambda link: (link.number,))


def _head(session: Session, flow: str) -> tables.Statement | None:
    table = tables.Statement
    return session.scalar(select(table).where(table.flow == flow).order_by(table.number.desc()).limit(1))


def _value(row: tables.Statement) -> Kept:
    return msgspec.convert(row, Kept, from_attributes=True)
