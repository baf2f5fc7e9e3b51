"""PostgreSQL's logical decoding as `pgoutput` writes it, protocol version 1: bytes to what they say. Pure.

Source: PostgreSQL documentation, "Logical Replication Message Formats" and "Streaming Replication Protocol".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from struct import Struct, error

import msgspec

from collectors.errors import Undecodable

EPOCH = 946_684_800_000_000
"""2000-01-01 UTC, from which PostgreSQL counts microseconds, in our own."""
LSN = int
"""A place in the write-ahead log, in bytes."""

_BYTE, _SHORT, _INT = Struct(">B"), Struct(">H"), Struct(">I")
_BEGIN = Struct(">QqI")
_COMMIT = Struct(">BQQq")
_NOTE = Struct(">BQ")
_TYPE = Struct(">Ii")


class Lack(Enum):
    """Why a column has no value here: it is null, or it is large and was not changed, so it was not sent."""

    null = "null"
    unchanged = "unchanged"


Value = str | Lack
Row = Sequence[Value]


class Relation(msgspec.Struct, frozen=True):
    """A table, as it was when the rows that follow were written. `identity`: n nothing, d primary key, i index, f full;
    `types`: the columns' types, by oid."""

    oid: int
    name: str
    identity: str
    columns: tuple[str, ...]
    types: tuple[int, ...]


class Begin(msgspec.Struct, frozen=True):
    """A transaction begins whose commit lies at `lsn`; `at` is when it was committed, epoch µs."""

    lsn: LSN
    at: int


class Commit(msgspec.Struct, frozen=True):
    """It ends; behind its commit lies `end`."""

    end: LSN


class Change(msgspec.Struct, frozen=True):
    """A row was written (`I`, `U`) or taken away (`D`). `old` is there where the table's identity changed or is full;
    of a row taken away it has the columns of the identity, the others null."""

    kind: str
    oid: int
    new: Row | None = None
    old: Row | None = None


class Truncate(msgspec.Struct, frozen=True):
    """All rows of these tables were taken away at once."""

    oids: tuple[int, ...]


class Note(msgspec.Struct, frozen=True):
    """What somebody wrote into the log by `pg_logical_emit_message`."""

    prefix: str
    content: bytes


Message = Relation | Begin | Commit | Change | Truncate | Note


def kind_of(payload: bytes) -> str:
    """Its first letter; empty for no bytes."""
    return chr(payload[0]) if payload else ""


def parsed(payload: bytes) -> Message | None:
    """What a message says; None for kinds that say nothing of rows (types, origins). Raises `Undecodable`."""
    reader = _Reader(payload, 1)
    try:
        match kind_of(payload):
            case "B":
                lsn, at, _ = reader.take(_BEGIN)
                return Begin(lsn, at + EPOCH)
            case "C":
                return Commit(reader.take(_COMMIT)[2])
            case "R":
                return reader.relation()
            case "I" | "U" | "D" as kind:
                return reader.change(kind)
            case "T":
                count, _ = reader.number(_INT), reader.number(_BYTE)
                if count * _INT.size > len(payload):
                    raise Undecodable(f"a truncation of {count} tables in {len(payload)} bytes")
                return Truncate(tuple(reader.number(_INT) for _ in range(count)))
            case "M":
                reader.take(_NOTE)
                prefix = reader.text()
                return Note(prefix, reader.bytes(reader.number(_INT)))
            case "Y" | "O":
                return None
            case kind:
                raise Undecodable(f"no message of pgoutput begins with {kind!r}")
    except (error, IndexError, UnicodeDecodeError, OverflowError) as broken:
        raise Undecodable(f"a message of pgoutput that breaks off or is damaged: {broken}") from None


class _Reader:
    """Takes a message apart from left to right."""

    def __init__(self, payload: bytes, at: int) -> None:
        self._payload, self._at = payload, at

    def take(self, shape: Struct) -> tuple[int, ...]:
        found = shape.unpack_from(self._payload, self._at)
        self._at += shape.size
        return found

    def number(self, shape: Struct) -> int:
        return self.take(shape)[0]

    def bytes(self, size: int) -> bytes:
        found = self._payload[self._at : self._at + size]
        if len(found) < size:
            raise IndexError(f"{size} bytes wanted, {len(found)} there")
        self._at += size
        return found

    def text(self) -> str:
        end = self._payload.find(0, self._at)
        if end < 0:
            raise IndexError("a text without an end")
        found = self._payload[self._at : end].decode()
        self._at = end + 1
        return found

    def relation(self) -> Relation:
        oid, schema, table, identity = self.number(_INT), self.text(), self.text(), chr(self.number(_BYTE))
        columns, types = [], []
        for _ in range(self.number(_SHORT)):
            self.number(_BYTE)  # whether it is part of the identity
            columns.append(self.text())
            types.append(self.take(_TYPE)[0])
        return Relation(oid, f"{schema or 'pg_catalog'}.{table}", identity, tuple(columns), tuple(types))

    def change(self, kind: str) -> Change:
        oid, mark = self.number(_INT), chr(self.number(_BYTE))
        old = self.row() if mark in "KO" else None
        if old is not None and kind == "U":
            mark = chr(self.number(_BYTE))
        new = self.row() if mark == "N" and kind != "D" else None
        if (new is None) is not (kind == "D") or (kind == "D" and old is None):
            raise Undecodable(f"a change {kind!r} with rows marked {mark!r}")
        return Change(kind, oid, new, old)

    def row(self) -> Row:
        return tuple(self.value() for _ in range(self.number(_SHORT)))

    def value(self) -> Value:
        match chr(self.number(_BYTE)):
            case "n":
                return Lack.null
            case "u":
                return Lack.unchanged
            case "t":
                return self.bytes(self.number(_INT)).decode()
            case mark:
                raise Undecodable(f"a column marked {mark!r}: only texts were asked for")
