"""Replays: who asked for what to be sent again, who allowed it, and how far it came. Their messages: `messages`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import func, select, tuple_, update
from sqlalchemy.orm import Session

from tracker.control import paging, tables
from tracker.control.database import Transactions, lock, refresh_statistics
from tracker.control.errors import Conflict, NotFound
from tracker.control.incidents import acted
from tracker.control.paging import Page

NEXT: Mapping[str, frozenset[str]] = {
    "planned": frozenset({"awaiting_approval", "approved", "cancelled", "failed"}),
    "awaiting_approval": frozenset({"approved", "cancelled", "failed"}),
    "approved": frozenset({"running", "paused", "cancelled", "failed"}),
    "running": frozenset({"paused", "done", "cancelled", "failed"}),
    "paused": frozenset({"running", "cancelled", "failed"}),
    "done": frozenset(),
    "cancelled": frozenset(),
    "failed": frozenset(),
}
"""Which status may follow which."""

ENDED = frozenset(status for status, following in NEXT.items() if not following)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `rate` is messages per second; `mode` the flow's policy at the time (auto, approve, off)."""

    id: str
    flow: str
    selection: dict[str, Any]
    plan: dict[str, Any]
    mode: str
    rate: float
    requested_by: str
    reason: str
    incident_id: str = ""


class Replay(Request, frozen=True, kw_only=True):
    """A request and what became of it. `detail` says in words why it is paused or failed, or why it
    does not send at the moment."""

    status: str
    approved_by: str
    detail: str
    created_at: int
    approved_at: int | None
    started_at: int | None
    finished_at: int | None


class Replays:
    """The life of replays as a whole."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def create(self, request: Request, now: int) -> Replay:
        """A replay in status `planned`, still without messages. Raises `Conflict` when the id is taken."""
        with self._transactions.write() as session:
            lock(session, f"replay:{request.id}")
            if session.get(tables.Replay, request.id) is not None:
                raise Conflict(f"replay {request.id!r} exists already")
            row = tables.Replay(
                **msgspec.structs.asdict(request), status="planned", approved_by="", detail="", created_at=now
            )
            session.add(row)
            session.flush()
            return _value(row)

    def move(self, replay_id: str, status: str, now: int, by: str, detail: str = "") -> Replay:
        """Change the status; to the one it has changes nothing. `by` is kept as `approved_by` when it is `approved`.

        Who may approve is the caller's rule. Raises `NotFound`; `Conflict` when `NEXT` does not allow it.
        """
        with self._transactions.write() as session:
            lock(session, f"replay:{replay_id}")
            row = locked(session, replay_id)
            if row.status == status:
                return _value(row)
            if status not in NEXT[row.status]:
                allowed = ", ".join(sorted(NEXT[row.status])) or "nothing: it has ended"
                raise Conflict(
                    f"replay {replay_id!r} is {row.status}, it cannot become {status!r}; possible: {allowed}"
                )
            if status == "running" and row.started_at is None:
                refresh_statistics(session, tables.ReplayMessage)
            row.status, row.detail = status, detail
            _date(row, status, now, by)
            if status == "approved":
                acted(session, row, now)
            return _value(row)

    def say(self, replay_id: str, detail: str) -> None:
        """Why a running replay does not send at the moment, in words; of one that does not run nothing is changed."""
        table = tables.Replay
        running = update(table).where(table.id == replay_id, table.status == "running").values(detail=detail)
        with self._transactions.write() as session:
            session.execute(running.execution_options(synchronize_session=False))

    def get(self, replay_id: str) -> Replay:
        """Raises `NotFound`."""
        with self._transactions.read() as session:
            row = session.get(tables.Replay, replay_id)
            if row is None:
                raise missing(replay_id)
            return _value(row)

    def hold(self, flow: str) -> None:
        """From here to the end of the transaction nobody else is between this and the end of his, in this flow: who
        looks at `spent` and approves by it does so alone."""
        with self._transactions.write() as session:
            lock(session, f"replay.policy:{flow}")

    def spent(self, flow: str, by: str, since: int) -> int:
        """Messages in the plans of this flow's replays that `by` approved after `since`."""
        table = tables.Replay
        count = func.coalesce(func.sum(table.plan["messages"].as_integer()), 0)
        query = select(count).where(table.flow == flow, table.approved_by == by, table.approved_at > since)
        with self._transactions.read() as session:
            return int(session.scalars(query).one())

    def of_messages(self, flow: str, message_ids: Collection[str]) -> list[Replay]:
        """The replays of a flow that have any of these messages (at most `LARGEST_BATCH`), oldest first."""
        table, rows = tables.Replay, tables.ReplayMessage
        theirs = select(rows.replay_id).where(rows.message_id.in_(list(message_ids)))
        query = select(table).where(table.flow == flow, table.id.in_(theirs)).order_by(table.created_at, table.id)
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(query)]

    def page(
        self,
        *,
        status: Collection[str] = (),
        flow: str | None = None,
        incident_id: str | None = None,
        cursor: str = "",
        limit: int = 100,
    ) -> Page[Replay]:
        """Newest first; of any of the statuses (none given: all), of one flow, of one incident. Raises `Invalid`."""
        table = tables.Replay
        query = select(table).order_by(table.created_at.desc(), table.id.desc()).limit(paging.rows(limit))
        if status:
            query = query.where(table.status.in_(status))
        if flow is not None:
            query = query.where(table.flow == flow)
        if incident_id is not None:
            query = query.where(table.incident_id == incident_id)
        if cursor:
            query = query.where(tuple_(table.created_at, table.id) < paging.decode(cursor, tuple[int, str]))
        with self._transactions.read() as session:
            found = [_value(row) for row in session.scalars(query)]
        return paging.cut(found, limit, lambda replay: (replay.created_at, replay.id))


def locked(session: Session, replay_id: str, shared: bool = False) -> tables.Replay:
    """The row, held so that its status stays; `shared` lets others hold it so too. Raises `NotFound`."""
    row = session.get(tables.Replay, replay_id, with_for_update={"read": shared})
    if row is None:
        raise missing(replay_id)
    return row


def missing(replay_id: str) -> NotFound:
    """The error for a replay that does not exist."""
    return NotFound(f"no replay {replay_id!r}; list them with: tracker replay list")


def _date(row: tables.Replay, status: str, now: int, by: str) -> None:
    if status == "approved":
        row.approved_at, row.approved_by = now, by
    elif status == "running":
        row.started_at = row.started_at or now
    elif status in ENDED:
        row.finished_at = now


def _value(row: tables.Replay) -> Replay:
    return msgspec.convert(row, Replay, from_attributes=True)
