"""The messages of a replay, one row each: claimed in batches before they are sent, and what became of them.

`attempt` counts claims of a message and travels with what is sent, so that our own ledger can tell later whether
that very attempt arrived. A claim that was not answered in time is `in_doubt`, never silently free again: only the
ledger (`settle` it to `sent` or back to `planned`) or a late word of its owner ends the doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, CursorResult, and_, func, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from tracker.control import paging, replays, tables
from tracker.control.database import Transactions, insert_new, lock
from tracker.control.errors import Conflict, Invalid
from tracker.control.paging import Page
from tracker.control.tables import CLAIMED, IN_LINE

FROM: Mapping[str, frozenset[str]] = {
    "planned": frozenset({"in_doubt", "refused", "failed", "sent", "parked"}),
    "sent": frozenset({"claimed", "in_doubt"}),
    "in_doubt": frozenset({"claimed"}),
    "refused": frozenset({"planned", "claimed"}),
    "failed": frozenset({"claimed", "in_doubt"}),
    "recovered": frozenset({"planned", "claimed", "in_doubt", "refused", "failed", "sent", "parked"}),
    "parked": frozenset({"planned", "in_doubt", "refused", "failed", "sent"}),
}
"""By what `mark` sets: the states that it may follow. Only `claim` makes a message `claimed`."""

STATES = ("claimed", *FROM)
UNSETTLED = ("planned", "claimed", "in_doubt")
"""States in which a replay is not done sending."""
CHOSEN = ("message_id", "ordinal", "locator", "attempt", "line", "not_before", "arrived")
LARGEST_BATCH = 5000
"""Bound by the parameters that SQLite (32,766) and PostgreSQL (65,535) take in one statement."""


class Planned(msgspec.Struct, frozen=True):
    """A message to send: `ordinal` is its place in the order, `locator` where its copy is, `attempt` how often it
    was sent again before by other replays. Messages of one `line` go one after the other."""

    message_id: str
    ordinal: int
    locator: dict[str, Any]
    attempt: int = 0
    line: str = ""


class Claimed(msgspec.Struct, frozen=True):
    """Ours to send until `expires_at`; look at the clock just before. `attempt` counts from 1. `again`: this replay has
    tried it before. `arrived`: the newest attempt that is known to have arrived, 0: none."""

    message_id: str
    ordinal: int
    locator: dict[str, Any]
    attempt: int
    owner: str
    expires_at: int
    line: str = ""
    again: bool = False
    arrived: int = 0


class ReplayMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a replay as stored. Times are None until it happened."""

    replay_id: str
    message_id: str
    ordinal: int
    attempt: int
    locator: dict[str, Any]
    state: str
    not_before: int
    claimed_by: str
    claimed_at: int | None
    claim_expires_at: int | None
    sent_at: int | None
    changed_at: int
    error: str
    line: str
    arrived: int


class Passage(msgspec.Struct, frozen=True):
    """A message in one replay, with the status of that replay and when it was asked for."""

    message: ReplayMessage
    status: str
    created_at: int


class Messages:
    """No two owners ever hold a claim of the same message."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(self, replay_id: str, planned: Iterable[Planned], now: int) -> None:
        """Put messages under a replay that is still `planned`; one that is there already stays as it is.

        A large plan comes in several calls, so that no transaction is long. Raises `NotFound`, `Conflict`.
        """
        rest = {
            "replay_id": replay_id,
            "state": "planned",
            "not_before": 0,
            "claimed_by": "",
            "changed_at": now,
            "error": "",
        }
        with self._transactions.write() as session:
            status = replays.locked(session, replay_id, shared=True).status
            if status != "planned":
                raise Conflict(f"replay {replay_id!r} is {status}: messages are added only while it is planned")
            insert_new(session, tables.ReplayMessage, [msgspec.structs.asdict(one) | rest for one in planned])

    def claim(
        self, replay_id: str, limit: int, owner: str, now: int, lease: int, retries: int = LARGEST_BATCH
    ) -> list[Claimed]:
        """Up to `limit` planned messages in order, ours for `lease` microseconds; none unless the replay is running. Of
        those that were tried before, `retries` at most.

        Of a line nothing is taken while one that comes before it may still be sent, is being sent, or is in doubt.
        Messages that another tracker is claiming at this moment are passed over. Raises `NotFound`.
        """
        if not 0 < limit <= LARGEST_BATCH:
            raise Invalid(f"a batch of {limit} messages cannot be claimed: 1 to {LARGEST_BATCH}")
        with self._transactions.write() as session:
            if replays.locked(session, replay_id, shared=True).status != "running":
                return []
            if _has_lines(session, replay_id):  # claims that do not see each other would break the order
                lock(session, f"claim:{replay_id}")
            rows = _choose(session, replay_id, limit, now, min(limit, retries))
            claimed = [
                Claimed(
                    r.message_id,
                    r.ordinal,
                    r.locator,
                    r.attempt + 1,
                    owner,
                    now + lease,
                    r.line,
                    r.not_before > 0,
                    r.arrived,
                )
                for r in rows
            ]
            _take(session, replay_id, claimed, owner, now)
            return claimed

    def sent(self, replay_id: str, claims: Sequence[Claimed], now: int) -> list[str]:
        """The broker confirmed these. Returns the ids whose claim was settled otherwise meanwhile: those may have
        been sent twice, and somebody must be told."""
        left = self.mark(replay_id, _attempts(claims), "sent", now, owner=_owner(claims))
        return _with_older(claims, left)

    def release(self, replay_id: str, claims: Sequence[Claimed], now: int, why: str = "") -> list[str]:
        """Give back what was certainly not sent: planned again, the attempt not used up. Returns as `sent` does."""
        table = tables.ReplayMessage
        values = {"state": "planned", "attempt": table.attempt - 1, "changed_at": now, "error": why}
        before = ("claimed", "in_doubt")
        with self._transactions.write() as session:
            left = _change(session, replay_id, _attempts(claims), before, values, _owner(claims))
        return _with_older(claims, left)

    def mark(
        self,
        replay_id: str,
        attempts: Mapping[str, int],
        state: str,
        now: int,
        *,
        error: str = "",
        not_before: int = 0,
        owner: str | None = None,
    ) -> list[str]:
        """Set the state of messages, each given with the attempt it is about; again with the same changes nothing.

        Returns the ids that were left alone: another attempt has begun, or `FROM` does not allow it, or `owner` is
        given and does not hold the claim. `not_before` delays the next claim of what is `planned` again.
        """
        if state not in FROM:
            raise Invalid(f"{state!r} cannot be marked; one of {', '.join(FROM)}")
        values: dict[str, Any] = {"state": state, "error": error, "not_before": not_before, "changed_at": now}
        if state == "sent":
            values |= {"sent_at": now, "arrived": tables.ReplayMessage.attempt}
        with self._transactions.write() as session:
            rest = _change(session, replay_id, attempts, FROM[state], values, owner)
            return _without(session, replay_id, {one: attempts[one] for one in rest}, state)

    def expire(self, now: int) -> int:
        """Put every claim that has run out in doubt, of all replays; how many they were."""
        table = tables.ReplayMessage
        query = (
            update(table)
            .where(CLAIMED, table.claim_expires_at <= now)
            .values(state="in_doubt", changed_at=now)
            .execution_options(synchronize_session=False)
        )
        with self._transactions.write() as session:
            return cast("CursorResult[Any]", session.execute(query)).rowcount

    def counts(self, replay_id: str) -> dict[str, int]:
        """Messages by state, every state named."""
        table = tables.ReplayMessage
        query = select(table.state, func.count()).where(table.replay_id == replay_id).group_by(table.state)
        with self._transactions.read() as session:
            return dict.fromkeys(STATES, 0) | dict(session.execute(query).all())

    def any_in(self, replay_id: str, states: Iterable[str]) -> bool:
        """Whether a message is in one of these states; quick, however many there are."""
        table = tables.ReplayMessage
        with self._transactions.read() as session:
            queries = (select(table.state).where(table.replay_id == replay_id, table.state == one) for one in states)
            return any(session.scalar(query.limit(1)) is not None for query in queries)

    def under_way(self, replay_id: str, since: int) -> int:
        """Messages that were claimed after `since` and are claimed still, in doubt, or sent and not settled."""
        table = tables.ReplayMessage
        query = select(func.count()).where(
            table.replay_id == replay_id, table.state.in_(("claimed", "in_doubt", "sent")), table.claimed_at > since
        )
        with self._transactions.read() as session:
            return session.scalar(query) or 0

    def states(self, replay_id: str, message_ids: Collection[str]) -> dict[str, str]:
        """The state of each of these messages (at most `LARGEST_BATCH`)."""
        table = tables.ReplayMessage
        query = select(table.message_id, table.state).where(
            table.replay_id == replay_id, table.message_id.in_(list(message_ids))
        )
        with self._transactions.read() as session:
            return {row.message_id: row.state for row in session.execute(query)}

    def stuck(self, replay_id: str, lines: Collection[str]) -> list[ReplayMessage]:
        """Messages of these lines (at most `LARGEST_BATCH`) that this replay will not send, in order."""
        table = tables.ReplayMessage
        query = (
            select(table)
            .where(table.replay_id == replay_id, table.line.in_(list(lines)), IN_LINE)
            .where(_state().in_(("refused", "parked")))
            .order_by(table.ordinal)
        )
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(query)]

    def page(
        self, replay_id: str, *, state: str | None = None, cursor: str = "", limit: int = 100
    ) -> Page[ReplayMessage]:
        """Messages in order, of one state or all. Raises `Invalid`."""
        table = tables.ReplayMessage
        query = select(*table.__table__.columns).where(table.replay_id == replay_id)  # no objects that are tracked
        if state is not None:
            query = query.where(table.state == state)
        if cursor:
            query = query.where(tuple_(table.ordinal, table.message_id) > paging.decode(cursor, tuple[int, str]))
        query = query.order_by(table.ordinal, table.message_id).limit(paging.rows(limit))
        with self._transactions.read() as session:
            found = [ReplayMessage(**row) for row in session.execute(query).mappings()]
        return paging.cut(found, limit, lambda message: (message.ordinal, message.message_id))

    def history(self, flow: str, message_id: str) -> list[ReplayMessage]:
        """Every replay of one message of a flow, oldest first: its lineage, and how often it was sent again."""
        table, replay = tables.ReplayMessage, tables.Replay
        query = (
            select(table)
            .join(replay, replay.id == table.replay_id)
            .where(table.message_id == message_id, replay.flow == flow)
            .order_by(replay.created_at, replay.id)
        )
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(query)]

    def passages(self, flow: str, message_ids: Sequence[str]) -> dict[str, list[Passage]]:
        """`history` of many at once, with what became of each replay; those that none ever touched are left out."""
        table, replay = tables.ReplayMessage, tables.Replay
        query = (
            select(table, replay.status, replay.created_at)
            .join(replay, replay.id == table.replay_id)
            .where(replay.flow == flow)
            .order_by(replay.created_at, replay.id)
        )
        found: dict[str, list[Passage]] = {}
        with self._transactions.read() as session:
            for start in range(0, len(message_ids), LARGEST_BATCH):
                some = table.message_id.in_(message_ids[start : start + LARGEST_BATCH])
                for row, status, created_at in session.execute(query.where(some)):
                    found.setdefault(row.message_id, []).append(Passage(_value(row), status, created_at))
        return found


def _has_lines(session: Session, replay_id: str) -> bool:
    table = tables.ReplayMessage
    query = select(table.ordinal).where(table.replay_id == replay_id, IN_LINE, table.line != "").limit(1)
    return session.scalar(query) is not None


def _choose(session: Session, replay_id: str, limit: int, now: int, retries: int) -> list[Any]:
    """In statements of their own: inside the UPDATE, PostgreSQL may run a locking subquery more than once.

    What was tried before goes first, for it comes first in the order. `not_before` says that it was.
    """
    table = tables.ReplayMessage
    again = and_(table.not_before > 0, table.not_before <= now)
    found = _planned(session, replay_id, retries, again, ("claimed", "in_doubt", "planned")) if retries else []
    found += _planned(session, replay_id, limit - len(found), table.not_before == 0, ("claimed", "in_doubt"))
    return sorted(found, key=lambda row: (row.ordinal, row.message_id))


def _planned(
    session: Session, replay_id: str, limit: int, which: ColumnElement[bool], ahead: Collection[str]
) -> list[Any]:
    """The first of `which`, except where one `ahead` in its line holds it back; or one that waits for another try."""
    if not limit:
        return []
    table, before = tables.ReplayMessage, aliased(tables.ReplayMessage)
    waits = or_(before.state.in_(list(ahead)), and_(before.state == "planned", before.not_before > 0))
    held = (
        select(before.ordinal)
        .where(
            before.replay_id == replay_id, before.line != "", before.line == table.line, before.ordinal < table.ordinal
        )
        .where(waits)
    )
    query = (
        select(*(getattr(table, name) for name in CHOSEN))
        .where(table.replay_id == replay_id, table.state == "planned", which)
        .where(or_(table.line == "", ~held.exists()))
        .order_by(table.ordinal, table.message_id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=table)
    )
    return list(session.execute(query).all())


def _take(session: Session, replay_id: str, claimed: Sequence[Claimed], owner: str, now: int) -> None:
    if not claimed:
        return
    table = tables.ReplayMessage
    session.execute(
        update(table)
        .where(table.replay_id == replay_id, table.message_id.in_([one.message_id for one in claimed]))
        .values(
            state="claimed",
            attempt=table.attempt + 1,
            claimed_by=owner,
            claimed_at=now,
            claim_expires_at=claimed[0].expires_at,
            changed_at=now,
            error="",
        )
        .execution_options(synchronize_session=False)
    )


def _change(
    session: Session,
    replay_id: str,
    attempts: Mapping[str, int],
    before: Iterable[str],
    values: Mapping[str, Any],
    owner: str | None,
) -> list[str]:
    """Update those in one of the states `before` at the attempt given; the ids of the rest, in the order given."""
    table = tables.ReplayMessage
    allowed = [table.replay_id == replay_id, _state().in_(list(before))]
    if owner is not None:
        allowed.append(table.claimed_by == owner)
    changed: set[str] = set()
    for attempt, message_ids in _batches(attempts):
        query = update(table).where(*allowed, table.attempt == attempt, table.message_id.in_(message_ids))
        returning = query.values(**values).returning(table.message_id)
        changed.update(session.scalars(returning.execution_options(synchronize_session=False)))
    return [message_id for message_id in attempts if message_id not in changed]


def _without(session: Session, replay_id: str, attempts: Mapping[str, int], state: str) -> list[str]:
    """The ids of those that are not in `state` at the attempt given."""
    table = tables.ReplayMessage
    there: set[str] = set()
    for attempt, message_ids in _batches(attempts):
        query = select(table.message_id).where(
            table.replay_id == replay_id,
            _state() == state,
            table.attempt == attempt,
            table.message_id.in_(message_ids),
        )
        there.update(session.scalars(query))
    return [message_id for message_id in attempts if message_id not in there]


def _state() -> ColumnElement[str]:
    """The state as an expression that no index serves: messages given by id must be found by id, but SQLite, which
    keeps no statistics, would rather read all of a replay's messages in these states."""
    return tables.ReplayMessage.state.concat("")


def _batches(attempts: Mapping[str, int]) -> Iterator[tuple[int, list[str]]]:
    """Message ids by attempt, at most `LARGEST_BATCH` at a time: most batches have one attempt, so one statement."""
    by_attempt: dict[int, list[str]] = {}
    for message_id, attempt in attempts.items():
        by_attempt.setdefault(attempt, []).append(message_id)
    for attempt, message_ids in by_attempt.items():
        for start in range(0, len(message_ids), LARGEST_BATCH):
            yield attempt, message_ids[start : start + LARGEST_BATCH]


def _attempts(claims: Sequence[Claimed]) -> dict[str, int]:
    """By message the newest attempt: of two claims of one message the older has run out, and was settled."""
    return {one.message_id: one.attempt for one in sorted(claims, key=lambda one: one.attempt)}


def _with_older(claims: Sequence[Claimed], left: Sequence[str]) -> list[str]:
    """`left`, and the messages of which there is an older claim, too."""
    newest = _attempts(claims)
    older = [one.message_id for one in claims if one.attempt < newest[one.message_id]]
    return list(dict.fromkeys([*left, *older]))


def _owner(claims: Sequence[Claimed]) -> str | None:
    return claims[0].owner if claims else None


def _value(row: tables.ReplayMessage) -> ReplayMessage:
    return msgspec.convert(row, ReplayMessage, from_attributes=True)
