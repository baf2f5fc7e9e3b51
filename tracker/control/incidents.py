"""Incidents: findings of one flow, hop and kind that belong together in time, with an owner and a history.

The reconciler states what it counted (`upsert`); people state who cares (`patch`). The status follows from both:
`resolved` when no finding is open, else `acknowledged` when somebody acknowledged it, else `open`. One that opens again
has to be acknowledged again: what was acknowledged was over.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from tracker.control import paging, tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import NotFound
from tracker.control.paging import Page

STATUSES = ("open", "acknowledged", "resolved")
STATES = ("open", "recovered", "withdrawn", "superseded", "parked", "abandoned")
"""Of findings."""
SYSTEM = "tracker"
"""Who the timeline names for what the tracker did by itself."""
COUNTS = "now "
"""How a line of the timeline begins that says how many findings there are by then."""
PAUSE = 15 * 60_000_000
"""New findings after so long without any, µs, open an incident again that somebody had acknowledged: what was
acknowledged was something else, and one message that stays lost must not keep the next outage quiet."""
EVERY = 60_000_000
"""Counts that change all the time write a line a minute, µs; within it the line is brought up to date."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Findings of one incident by state. `recovered_by_itself` is a part of `recovered`."""

    open: int
    total: int
    recovered: int = 0
    recovered_by_itself: int = 0
    withdrawn: int = 0
    superseded: int = 0
    parked: int = 0
    abandoned: int = 0


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the reconciler knows of an incident. `id` is derived from flow, hop, kind and time, equal at every redo.

    `detect_*` and `recover_*` are spans in microseconds: from when a finding could be known to when it was opened,
    and from opened to recovered; None where there is none yet.
    """

    id: str
    flow: str
    hop: str
    kind: str
    stage: str = ""
    first_finding_at: int
    last_finding_at: int
    counts: Counts
    detect_p50: int | None = None
    detect_p90: int | None = None
    recover_p50: int | None = None
    recover_p90: int | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as stored; fields as in `Counts` and `Counted`."""

    id: str
    flow: str
    hop: str
    stage: str
    kind: str
    status: str
    opened_at: int
    first_finding_at: int
    last_finding_at: int
    open: int
    recovered: int
    recovered_by_itself: int
    withdrawn: int
    superseded: int
    parked: int
    abandoned: int
    total: int
    detect_p50: int | None
    detect_p90: int | None
    recover_p50: int | None
    recover_p90: int | None
    owner: str
    note: str
    acknowledged_at: int | None
    acknowledged_by: str
    resolved_at: int | None
    acted_at: int | None
    """When somebody first acted on it: it was acknowledged, or a replay for it approved."""


class Opened(msgspec.Struct, frozen=True):
    """When an incident was opened, and when somebody first acted on it."""

    flow: str
    kind: str
    opened_at: int
    acted_at: int | None


class Entry(msgspec.Struct, frozen=True):
    """One line of an incident's timeline."""

    at: int
    who: str
    what: str


class Incidents:
    """Counts are set, never added to, so that a pass done twice leaves the same."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def upsert(self, counted: Counted, now: int, owner: str = "") -> Incident:
        """Open the incident or bring it up to date; it resolves, or opens again, by its count of open findings.

        `now` is the pass's. `owner` (the flow's) is used when it is opened; a person's choice is never overwritten.
        """
        with self._transactions.write() as session:
            lock(session, f"incident:{counted.id}")
            row = session.get(tables.Incident, counted.id)
            if row is None:
                row = _opened(counted, now, owner)
                session.add(row)
                session.flush()
                _enter(session, row.id, now, SYSTEM, f"opened: {counted.kind} at {counted.hop}; {said(row)}")
            before = said(row)
            again = row.status == "acknowledged" and counted.last_finding_at - row.last_finding_at > PAUSE
            for name, value in _measured(counted).items():
                setattr(row, name, value)
            if again and row.open:
                row.status, row.acknowledged_at, row.acknowledged_by = "open", None, ""
                _enter(session, row.id, now, SYSTEM, f"opened again, after a pause there is more; {said(row)}")
            if not _settle(session, row, now) and said(row) != before and not again:
                _count(session, row, now)
            return _value(row)

    def emptied(self, incident_id: str, now: int) -> Incident | None:
        """It has no finding of its own any more: each follows from another one. None when there is no such incident."""
        with self._transactions.write() as session:
            lock(session, f"incident:{incident_id}")
            row = session.get(tables.Incident, incident_id)
            if row is None:
                return None
            for name in msgspec.structs.asdict(Counts(open=0, total=0)):
                setattr(row, name, 0)
            row.detect_p50 = row.detect_p90 = row.recover_p50 = row.recover_p90 = None
            _settle(session, row, now)
            return _value(row)

    def patch(
        self,
        incident_id: str,
        now: int,
        by: str,
        *,
        owner: str | None = None,
        note: str | None = None,
        acknowledge: bool = False,
    ) -> Incident:
        """What a person says; None leaves a field as it is. The first acknowledgement counts. Raises `NotFound`."""
        with self._transactions.write() as session:
            lock(session, f"incident:{incident_id}")
            row = _row(session, incident_id)
            if acknowledge and row.acknowledged_at is None:
                row.acknowledged_at, row.acknowledged_by = now, by
                row.acted_at = row.acted_at or now
                _enter(session, row.id, now, by, "acknowledged")
            if owner is not None and owner != row.owner:
                _enter(session, row.id, now, by, f"owner: {owner or 'nobody'}")
                row.owner = owner
            if note is not None and note != row.note:
                _enter(session, row.id, now, by, f"note: {note}")
                row.note = note
            _settle(session, row, now)
            return _value(row)

    def enter(self, incident_id: str, at: int, who: str, what: str) -> None:
        """Add a line to the timeline; the same line twice is one. Raises `NotFound`."""
        with self._transactions.write() as session:
            lock(session, f"incident:{incident_id}")
            _row(session, incident_id)
            _enter(session, incident_id, at, who, what)

    def tell(self, incident_id: str, at: int, who: str, what: str) -> None:
        """Add a line to the timeline unless `who` said the same before, at any time. Raises `NotFound`."""
        entries = tables.IncidentEntry
        said_before = select(entries.number).filter_by(incident_id=incident_id, who=who, what=what).limit(1)
        with self._transactions.write() as session:
            lock(session, f"incident:{incident_id}")
            _row(session, incident_id)
            if session.scalar(said_before) is None:
                _enter(session, incident_id, at, who, what)

    def get(self, incident_id: str) -> Incident:
        """Raises `NotFound`."""
        with self._transactions.read() as session:
            return _value(_row(session, incident_id))

    def timeline(self, incident_id: str) -> list[Entry]:
        """Its history, oldest first. Raises `NotFound`."""
        entries = tables.IncidentEntry
        query = select(entries).where(entries.incident_id == incident_id).order_by(entries.at, entries.number)
        with self._transactions.read() as session:
            _row(session, incident_id)
            return [msgspec.convert(row, Entry, from_attributes=True) for row in session.scalars(query)]

    def opened(self, start: int, end: int, flow: str | None = None, kind: str | None = None) -> list[Opened]:
        """Incidents that were opened in [start, end), and when somebody acted on them, oldest first."""
        table = tables.Incident
        columns = [getattr(table, name) for name in Opened.__struct_fields__]
        query = select(*columns).where(table.opened_at >= start, table.opened_at < end).order_by(table.opened_at)
        if flow is not None:
            query = query.where(table.flow == flow)
        if kind is not None:
            query = query.where(table.kind == kind)
        with self._transactions.read() as session:
            return [Opened(*row) for row in session.execute(query)]

    def page(
        self,
        *,
        status: Collection[str] = (),
        flow: str | None = None,
        cursor: str = "",
        limit: int = 100,
    ) -> Page[Incident]:
        """Newest opened first; of any of the statuses (none given: all), of one flow. Raises `Invalid`."""
        table = tables.Incident
        query = select(table).order_by(table.opened_at.desc(), table.id.desc()).limit(paging.rows(limit))
        if status:
            query = query.where(table.status.in_(status))
        if flow is not None:
            query = query.where(table.flow == flow)
        if cursor:
            query = query.where(tuple_(table.opened_at, table.id) < paging.decode(cursor, tuple[int, str]))
        with self._transactions.read() as session:
            found = [_value(row) for row in session.scalars(query)]
        return paging.cut(found, limit, lambda incident: (incident.opened_at, incident.id))


def acted(session: Session, replay: tables.Replay, now: int) -> None:
    """A replay was approved: whoever did has acted on the incident that it is for, or, where it names none, on those of
    its flow, hop and kind that are not resolved. One of single messages that names no incident counts for none."""
    table, chosen = tables.Incident, replay.selection
    narrowed = [table.flow == replay.flow, table.acted_at.is_(None)]
    if replay.incident_id:
        narrowed.append(table.id == replay.incident_id)
    elif chosen.get("message_ids"):
        return
    else:
        narrowed.append(table.status != "resolved")
        narrowed += [getattr(table, name) == chosen[name] for name in ("hop", "kind") if chosen.get(name)]
    session.execute(update(table).where(*narrowed).values(acted_at=now).execution_options(synchronize_session=False))


def _opened(counted: Counted, now: int, owner: str) -> tables.Incident:
    """Its status is given by `_settle`; `open` here makes an incident that comes resolved say so in its timeline."""
    return tables.Incident(
        id=counted.id,
        flow=counted.flow,
        status="open",
        opened_at=now,
        owner=owner,
        note="",
        acknowledged_by="",
        **_measured(counted),
    )


def _measured(counted: Counted) -> dict[str, Any]:
    """The columns that belong to the reconciler."""
    values = msgspec.structs.asdict(counted)
    counts: Counts = values.pop("counts")
    del values["id"], values["flow"]
    return values | msgspec.structs.asdict(counts)


def said(row: tables.Incident | Incident) -> str:
    """The counts in words: `137 findings: 100 open, 37 recovered (5 by itself)`."""
    states = [f"{getattr(row, state)} {state}" for state in STATES if getattr(row, state)]
    if row.recovered_by_itself:
        states = [f"{s} ({row.recovered_by_itself} by itself)" if s.endswith(" recovered") else s for s in states]
    return f"{row.total} {'finding' if row.total == 1 else 'findings'}: {', '.join(states) or 'none'}"


def _count(session: Session, row: tables.Incident, now: int) -> None:
    """The new counts, in the last line where that is such a line and of this minute."""
    entries = tables.IncidentEntry
    last = session.scalar(select(entries).where(entries.incident_id == row.id).order_by(entries.number.desc()).limit(1))
    if last is not None and last.what.startswith(COUNTS) and last.who == SYSTEM and last.at > now - EVERY:
        last.what = COUNTS + said(row)
    else:
        _enter(session, row.id, now, SYSTEM, COUNTS + said(row))


def _settle(session: Session, row: tables.Incident, now: int) -> bool:
    """True when the status changed; only that writes to the timeline, so that doing it again writes nothing."""
    before = row.status
    unresolved = "open" if row.acknowledged_at is None else "acknowledged"
    status = "resolved" if row.open == 0 else unresolved
    if status == "resolved" and row.status != "resolved":
        row.resolved_at = now
        _enter(session, row.id, now, SYSTEM, f"resolved: no finding is open; {said(row)}")
    elif status != "resolved" and row.status == "resolved":
        row.resolved_at, row.acknowledged_at, row.acknowledged_by = None, None, ""
        status = "open"
        _enter(session, row.id, now, SYSTEM, f"opened again; {said(row)}")
    row.status = status
    return status in ("open", "resolved") and status != before


def _enter(session: Session, incident_id: str, at: int, who: str, what: str) -> None:
    entry = {"incident_id": incident_id, "at": at, "who": who, "what": what}
    if session.scalar(select(tables.IncidentEntry.number).filter_by(**entry).limit(1)) is None:
        session.add(tables.IncidentEntry(**entry))


def _row(session: Session, incident_id: str) -> tables.Incident:
    row = session.get(tables.Incident, incident_id)
    if row is None:
        raise NotFound(f"no incident {incident_id!r}; list them with: tracker incidents")
    return row


def _value(row: tables.Incident) -> Incident:
    return msgspec.convert(row, Incident, from_attributes=True)
