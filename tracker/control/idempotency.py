"""Idempotency keys: a write that is sent twice is done once and answered twice with the same answer.

In one transaction, `recall` before the work and `remember` after it. A second request with the key waits in `recall`
until the first has committed, so both never do the work; when the first fails, nothing was remembered.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from sqlalchemy import CursorResult, delete

from tracker.control import tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import Conflict


class Answer(msgspec.Struct, frozen=True):
    """What was answered: the HTTP status and the body, JSON text."""

    status: int
    response: str


class Idempotency:
    """Keys are per principal: two callers may choose the same."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def recall(self, key: str, principal: str, digest: str, now: int) -> Answer | None:
        """The answer given before, or None when the work is to be done. `digest` is of the request's body and path.

        Raises `Conflict` when the key came with another request.
        """
        with self._transactions.write() as session:
            lock(session, f"idempotency:{principal}:{key}")
            row = session.get(tables.IdempotencyKey, (principal, key))
            if row is None or row.expires_at <= now:
                return None
            if row.digest != digest:
                raise Conflict(f"idempotency key {key!r} was used for another request; send this one with a new key")
            return Answer(row.status, row.response)

    def remember(self, key: str, principal: str, digest: str, answer: Answer, now: int, ttl: int) -> None:
        """Keep the answer for `ttl` microseconds, in place of one that has expired. In `recall`'s transaction."""
        with self._transactions.write() as session:
            lock(session, f"idempotency:{principal}:{key}")
            session.merge(
                tables.IdempotencyKey(
                    principal=principal,
                    key=key,
                    digest=digest,
                    status=answer.status,
                    response=answer.response,
                    created_at=now,
                    expires_at=now + ttl,
                )
            )

    def purge(self, now: int) -> int:
        """Forget the expired ones; how many they were."""
        expired = delete(tables.IdempotencyKey).where(tables.IdempotencyKey.expires_at <= now)
        with self._transactions.write() as session:
            query = expired.execution_options(synchronize_session=False)
            return cast("CursorResult[Any]", session.execute(query)).rowcount
