"""From a change of an outbox table to what it says of a message. Pure: no I/O, and no error but `Undecodable`.

A row that is committed is a `produce`: from now on the outbox holds the message. A row that was relayed is an `ack` of
the outbox: it lets go of it. Which of these a change is, the table's own habits say (`relayed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError
from typing import Literal

import msgspec
from pydantic import Field, field_validator

from collectors.base import Content, Raw
from collectors.carried import Carried, carried, digest_of
from collectors.errors import ConfigInvalid, Undecodable
from collectors.part import Part
from collectors.postgres.pgoutput import LSN, Change, Lack, Relation, Row, Truncate, Value, parsed
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

FULL = "f"
"""A table's identity: changes carry the whole row as it was."""
PARTED = "p"
"""Instead of its identity, of a partitioned table: a row that moves between partitions is deleted in one of them."""
_BYTEA = 17
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


class Mark(Part):
    """The column that says that a row was relayed: it is not null, and not false."""

    column: str


class Table(Part):
    """An outbox table, or those of its rows of which `where` (column: value) is true, and what its columns hold."""

    table: str = Field(pattern=r"^[^.]+\.[^.]+$|^[^.]+$")
    flow: str
    hop: str
    id: str = "id"
    payload: str = ""
    key: str = ""
    origin: str = ""
    headers: str = ""
    where: dict[str, str] = Field(default_factory=dict)
    relayed: Literal["delete"] | Mark | None = None

    @field_validator("table")
    @classmethod
    def _qualified(cls, value: str) -> str:
        return value if "." in value else f"public.{value}"

    @property
    def columns(self) -> list[str]:
        """Those that have to be there."""
        mark = [self.relayed.column] if isinstance(self.relayed, Mark) else []
        named = [self.id, self.payload, self.key, self.origin, self.headers, *self.where, *mark]
        return list(dict.fromkeys(name for name in named if name))

    @property
    def sources(self) -> list[SourceRef]:
        """What is vouched for."""
        stages = [Stage.produce, Stage.ack] if self.relayed else [Stage.produce]
        return [SourceRef(self.flow, self.hop, stage.value, self.table) for stage in stages]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a change stands: the commit of its transaction, and which change of it it is, from 1. `at`: when that was
    committed, epoch µs. `stream`: which one of this process gave it."""

    lsn: LSN
    index: int
    at: int
    relation: Relation
    stream: int = 0


class Rows:
    """Makes events of changes. `plain_keys` sends the key column as it is; otherwise it stays here."""

    def __init__(self, tables: Sequence[Table], plain_keys: bool, node: str, region: str) -> None:
        self.node = node
        self._tables, self._plain_keys, self._region = tables, plain_keys, region

    def of(self, relation: Relation) -> list[Table]:
        """What is configured for a table."""
        return [table for table in self._tables if table.table == relation.name]

    def events_of(self, raw: Raw) -> list[Event]:
        """What the change says; nothing where it concerns no message. Raises `Undecodable`."""
        place = raw.position
        if not isinstance(place, Place):
            raise Undecodable("a change without a place in the log")
        match parsed(raw.value):
            case Truncate():
                raise Undecodable(
                    f"{place.relation.name} was truncated: rows that had not been relayed are gone, and not named here"
                )
            case Change() as change:
                return self._said(change, place)
            case other:
                raise Undecodable(f"no change of a row: {type(other).__name__}")

    def leaves(self, payload: bytes, relation: Relation) -> tuple[str, str, str] | None:
        """Of which message a row is that was written or deleted, where its deletion says that it was relayed."""
        try:
            change = parsed(payload)
            row = (change.new or change.old) if isinstance(change, Change) else None
            if row is None:
                return None
            found = Columns(relation, row)
        except Undecodable:  # `events_of` tells
            return None
        table = next((table for table in self.of(relation) if found.fits(table.where)), None)
        if table is None or table.relayed != "delete" or not found.text(table.id):
            return None
        return table.flow, table.hop, found.text(table.id)

    def content(self, raw: Raw) -> Content:
        """The message in a row that was written. Raises `ConfigInvalid` for a table whose payload nobody named."""
        change, place = parsed(raw.value), raw.position
        if not isinstance(change, Change) or change.new is None:
            raise Undecodable("no row that was written")
        row = Columns(place.relation, change.new)
        return row.content(next(t for t in self.of(place.relation) if row.fits(t.where)))

    def _said(self, change: Change, place: Place) -> list[Event]:
        new, old = (Columns(place.relation, row) if row else None for row in (change.new, change.old))
        there = new or old
        if there is None:
            return []
        table = next((t for t in self.of(place.relation) if there.fits(t.where)), None)
        if table is None:
            return []
        match change.kind:
            case "I":
                events = [self.event(table, Stage.produce, there, place.at)]
                return [*events, *self._relayed(table, there, place)]
            case "U":
                return self._relayed(table, there, place)
        if table.relayed == "delete":
            return [self.event(table, Stage.ack, there, place.at)]
        if isinstance(table.relayed, Mark) and place.relation.identity == FULL and not there.marked(table.relayed):
            return [self.event(table, Stage.drop, there, place.at, reason="purged")]
        return []

    def _relayed(self, table: Table, row: Columns, place: Place) -> list[Event]:
        """The `ack` of a row that is marked as relayed."""
        marked = isinstance(table.relayed, Mark) and row.marked(table.relayed)
        return [self.event(table, Stage.ack, row, place.at)] if marked else []

    def event(
        self, table: Table, stage: Stage, row: Columns, at: int, since: int | None = None, reason: str = ""
    ) -> Event:
        """What a row says; it happened at `at`, or between `since` and `at` (epoch µs). Raises `Undecodable`."""
        message_id = row.text(table.id)
        if not message_id:
            raise Undecodable(
                f"{table.table}: a row ({stage}) without {table.id!r}: is it part of the table's replica identity? "
                f"ALTER TABLE {table.table} REPLICA IDENTITY FULL makes it so"
            )
        made = stage is Stage.produce
        payload = row.bytes(table.payload) if made and table.payload else None
        said = row.carried(table.headers) if made and table.headers else Carried()
        known = at if since is None else None  # an interval dates nothing
        return Event(
            flow=table.flow,
            message_id=message_id,
            hop=table.hop,
            stage=stage,
            reason=reason,
            observed_at=at,
            observed_from=since,
            origin_at=(said.origin_at or row.moment(table.origin) or known) if made else None,
            delivery=f"{table.table}/{message_id}",
            node=self.node,
            region=self._region,
            digest="" if payload is None else digest_of(payload),
            size=None if payload is None else len(payload),
            key=row.text(table.key) if self._plain_keys and made else "",
            attempt=said.attempt,
            trace_id=said.trace_id,
            span_id=said.span_id,
            correlation_id=said.correlation_id,
            causation_id=said.causation_id,
            replay_id=said.replay_id,
        )


class Columns:
    """A row by the names of its columns. Raises `Undecodable` for one of another width."""

    def __init__(self, relation: Relation, row: Row) -> None:
        if len(row) != len(relation.columns):
            raise Undecodable(f"{relation.name}: a row of {len(row)} columns, {len(relation.columns)} were told")
        self._values = dict(zip(relation.columns, row, strict=True))
        self._types = dict(zip(relation.columns, relation.types, strict=True))

    def value(self, column: str) -> Value:
        """As it was written; null where there is no such column."""
        return self._values.get(column, Lack.null)

    def text(self, column: str) -> str:
        """Empty where there is none."""
        found = self.value(column)
        return found if isinstance(found, str) else ""

    def fits(self, where: Mapping[str, str]) -> bool:
        """Whether its columns have these values."""
        return all(self.value(column) == value for column, value in where.items())

    def marked(self, mark: Mark) -> bool:
        """Whether it was relayed."""
        return self.value(mark.column) not in (Lack.null, Lack.unchanged, "f")

    def bytes(self, column: str) -> bytes | None:
        """As the relay reads them; None where there are none."""
        found = self.value(column)
        if not isinstance(found, str):
            return None
        if self._types.get(column) != _BYTEA:
            return found.encode()
        try:
            return bytes.fromhex(found.removeprefix("\\x"))
        except ValueError:
            raise Undecodable(f"{column!r} is a bytea that is not written in hex") from None

    def moment(self, column: str) -> int | None:
        """Epoch µs of a timestamp; one without a zone is taken for UTC."""
        found = self.text(column) if column else ""
        if not found:
            return None
        try:
            said = datetime.fromisoformat(found)
        except ValueError:
            return None
        return ((said if said.tzinfo else said.replace(tzinfo=UTC)) - _ZERO) // timedelta(microseconds=1)

    def carried(self, column: str) -> Carried:
        """What headers say that stand in a JSON column as an object."""
        return carried(self.headers(column))

    def headers(self, column: str) -> dict[str, object]:
        """Headers that stand in a JSON column as an object; none where it holds something else."""
        found = self.text(column)
        try:
            said = msgspec.json.decode(found) if found else {}
        except (msgspec.DecodeError, JSONDecodeError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def content(self, table: Table) -> Content:
        """The message that the row holds. Raises `ConfigInvalid` for a table whose payload nobody named."""
        if not table.payload:
            raise ConfigInvalid(f"archive: name the column of the payload: `payload` of table {table.table}")
        headers = self.headers(table.headers) if table.headers else {}
        key = self.text(table.key) if table.key else ""
        return Content(key.encode() or None, self.bytes(table.payload), {n: _bytes(v) for n, v in headers.items()})


def _bytes(value: object) -> bytes:
    """A header's value: text as it is, the rest as JSON."""
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)
