"""Every table of the control database, in one place.

Times are microseconds since 1970-01-01 UTC, spans are microseconds. The rows stay inside `tracker.control`; callers
get frozen values. What the columns mean is told by the module that owns the table. A change here needs a migration:
a test compares the two.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BITS = 64
"""How many hops, and how many checkpoints, a flow may ever have: one bit each in a 64-bit mask."""

CLAIMED = text("state = 'claimed'")
"""As a literal, in the index and in the query: SQLite uses the index for no parameter."""
IN_LINE = text("line <> ''")
"""As `CLAIMED`. Few flows ask for order: the messages of the others are not in this index."""


class Base(DeclarativeBase):
    """SQLite numbers rows by itself only where the key is `INTEGER`; its integers have 64 bits under any name."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger().with_variant(Integer, "sqlite"),
        float: Double(),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class FlowVersion(Base):
    """A spec as it was from one time on (`flows`)."""

    __tablename__ = "flow_versions"

    flow: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    in_force_from: Mapped[int]
    text: Mapped[str]
    canonical: Mapped[str]
    created_at: Mapped[int]
    created_by: Mapped[str]
    deleted_at: Mapped[int | None]


class CheckpointBit(Base):
    """Which bit of a message's state stands for a checkpoint (`flows`)."""

    __tablename__ = "checkpoint_bits"
    __table_args__ = (UniqueConstraint("flow", "bit"), CheckConstraint("bit BETWEEN 0 AND 63", name="bit"))

    flow: Mapped[str] = mapped_column(primary_key=True)
    hop: Mapped[str] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    bit: Mapped[int]


class HopBit(Base):
    """Which bit of a message's state stands for a hop (`flows`)."""

    __tablename__ = "hop_bits"
    __table_args__ = (UniqueConstraint("flow", "bit"), CheckConstraint("bit BETWEEN 0 AND 63", name="bit"))

    flow: Mapped[str] = mapped_column(primary_key=True)
    hop: Mapped[str] = mapped_column(primary_key=True)
    bit: Mapped[int]


class Pass(Base):
    """One pass of the reconciler (`passes`)."""

    __tablename__ = "passes"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at: Mapped[int]
    bounds: Mapped[dict[str, Any]]
    finished_at: Mapped[int | None]


class Incident(Base):
    """Findings that belong together (`incidents`)."""

    __tablename__ = "incidents"
    __table_args__ = (Index(None, "opened_at", "id"), Index(None, "flow", "status"))

    id: Mapped[str] = mapped_column(primary_key=True)
    flow: Mapped[str]
    hop: Mapped[str]
    stage: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str]
    opened_at: Mapped[int]
    first_finding_at: Mapped[int]
    last_finding_at: Mapped[int]
    open: Mapped[int]
    recovered: Mapped[int]
    recovered_by_itself: Mapped[int]
    withdrawn: Mapped[int]
    parked: Mapped[int]
    abandoned: Mapped[int]
    total: Mapped[int]
    detect_p50: Mapped[int | None]
    detect_p90: Mapped[int | None]
    recover_p50: Mapped[int | None]
    recover_p90: Mapped[int | None]
    owner: Mapped[str]
    note: Mapped[str]
    acknowledged_at: Mapped[int | None]
    acknowledged_by: Mapped[str]
    resolved_at: Mapped[int | None]
    superseded: Mapped[int] = mapped_column(server_default="0")
    acted_at: Mapped[int | None]


class IncidentEntry(Base):
    """A line of an incident's timeline (`incidents`)."""

    __tablename__ = "incident_entries"

    number: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), index=True)
    at: Mapped[int]
    who: Mapped[str]
    what: Mapped[str]


class Ruling(Base):
    """What is to become of findings, until a pass has carried it out (`rulings`)."""

    __tablename__ = "rulings"

    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int]
    flow: Mapped[str]
    incident: Mapped[str]
    message_id: Mapped[str]
    hop: Mapped[str]
    stage: Mapped[str]
    status: Mapped[str]
    by: Mapped[str]
    taken_by: Mapped[int | None]


class Replay(Base):
    """A request to send messages again, and its state (`replays`)."""

    __tablename__ = "replays"
    __table_args__ = (
        Index(None, "created_at", "id"),
        Index(None, "flow", "approved_at"),
        Index(None, "incident_id"),
        Index(None, "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    flow: Mapped[str]
    incident_id: Mapped[str]
    selection: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    status: Mapped[str]
    mode: Mapped[str]
    rate: Mapped[float]
    requested_by: Mapped[str]
    approved_by: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    created_at: Mapped[int]
    approved_at: Mapped[int | None]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]


class ReplayMessage(Base):
    """One message of a replay (`messages`).

    Every change of state writes every index on PostgreSQL, so there are few: the key begins with the message, which
    also finds its history, and the claims that may expire are a small part of the rows.
    """

    __tablename__ = "replay_messages"
    __table_args__ = (
        Index(None, "replay_id", "state", "ordinal", "message_id"),
        Index(None, "replay_id", "line", "ordinal", sqlite_where=IN_LINE, postgresql_where=IN_LINE),
        Index(None, "claim_expires_at", sqlite_where=CLAIMED, postgresql_where=CLAIMED),
    )

    message_id: Mapped[str] = mapped_column(primary_key=True)
    replay_id: Mapped[str] = mapped_column(ForeignKey("replays.id"), primary_key=True)
    ordinal: Mapped[int]
    attempt: Mapped[int]
    locator: Mapped[dict[str, Any]]
    state: Mapped[str]
    not_before: Mapped[int]
    claimed_by: Mapped[str]
    claimed_at: Mapped[int | None]
    claim_expires_at: Mapped[int | None]
    sent_at: Mapped[int | None]
    changed_at: Mapped[int]
    error: Mapped[str]
    line: Mapped[str] = mapped_column(server_default=text("''"))
    arrived: Mapped[int] = mapped_column(server_default="0")


class Lease(Base):
    """Who does a piece of work (`leases`)."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    token: Mapped[int]
    expires_at: Mapped[int]


class Token(Base):
    """An access token, without its secret (`tokens`)."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scopes: Mapped[list[str]]
    salt: Mapped[bytes]
    hash: Mapped[bytes]
    created_at: Mapped[int]
    created_by: Mapped[str]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
    last_used_at: Mapped[int | None]
    rate_events: Mapped[float | None]
    rate_bytes: Mapped[float | None]


class AuditEntry(Base):
    """One act, chained to the one before (`audit`)."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "subject", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[int]
    who: Mapped[str]
    what: Mapped[str]
    why: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
    previous: Mapped[str]
    hash: Mapped[str]


class Statement(Base):
    """What became of a flow's messages in a span, signed and chained to the flow's one before (`statements`)."""

    __tablename__ = "statements"
    __table_args__ = (UniqueConstraint("flow", "previous"),)

    flow: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    previous: Mapped[str]
    hash: Mapped[str]
    made_at: Mapped[int]
    made_by: Mapped[str]
    start: Mapped[int]
    end: Mapped[int]
    document: Mapped[str]


class Sighting(Base):
    """Spans of one combination that no flow took (`sightings`)."""

    __tablename__ = "sightings"

    service: Mapped[str] = mapped_column(primary_key=True)
    system: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    flow: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    first_seen: Mapped[int]
    last_seen: Mapped[int]
    samples: Mapped[list[str]]


class IdempotencyKey(Base):
    """The answer to a write, to be given again (`idempotency`)."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    status: Mapped[int]
    response: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)


class Setting(Base):
    """What an installation decided once (`settings`)."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
