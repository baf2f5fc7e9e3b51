"""What a statement lists: messages that are not delivered, or had a finding, as one pass left them."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.model.errors import Invalid
from tracker.model.statement import ROW
from tracker.store.engine import Engine
from tracker.store.sql import ask

OVERTAKEN = "overtaken"
"""Instead of a verdict: two passes have gone by, so nobody knows any more what the one asked about left."""
_KEY = ("message_id", "hop", "stage", "kind")
"""The order of the list, and what a page starts after."""


class Asked(msgspec.Struct, frozen=True):
    """Messages of `flow` with an origin in [start, end), as pass `number`, at `as_of`, left them. Times in µs."""

    flow: str
    start: int
    end: int
    number: int
    as_of: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of `queries/exceptions.sql`."""
        return {"flow": self.flow, "start": self.start, "end": self.end, "pass": self.number, "as_of": self.as_of}


class Totals(msgspec.Struct, frozen=True):
    """Over all exceptions: rows, messages, rows by kind, and the digest of `tracker.model.statement.digest`."""

    total: int
    messages: int
    kinds: dict[str, int]
    digest: str


class Exceptions:
    """Questions about exceptions. Each reads the states and the findings of the flow once."""

    _engine: Engine
    _db: str

    def exceptions(self, asked: Asked, after: str = "", limit: int = 1000) -> list[dict[str, str]] | None:
        """Rows (`statement.ROW`) by message, hop, stage and kind, after the row that `row_cursor` was made of. None
        when two passes have gone by over any of them.

        Raises Invalid for a cursor that is none.
        """
        key = f"({', '.join(_KEY)})"
        where = ""
        values: dict[str, Any] = {"limit": limit}
        if after:
            where = f"WHERE {key} > ({', '.join(f'{{after{n}:String}}' for n in range(len(_KEY)))})"
            values |= {f"after{n}": part for n, part in enumerate(_decoded(after))}
        rows = self._engine.rows(
            f"SELECT {', '.join(ROW)} FROM ({ask('exceptions', self._db)}) {where} "
            f"ORDER BY {', '.join(_KEY)} LIMIT {{limit:UInt32}}",
            asked.parameters | values,
        )
        return None if any(row["verdict"] == OVERTAKEN for row in rows) else rows

    def exception_totals(self, asked: Asked) -> Totals | None:
        """Counts and digest over all of them; None as above. The engine hashes, so that millions cost seconds."""
        text = ", ".join(f"toString(length({name})), ':', {name}" for name in ROW)
        [row] = self._engine.rows(
            "SELECT count() AS total, uniqExact(message_id) AS messages, "
            f"countIf(verdict = '{OVERTAKEN}') AS overtaken, "
            "sumMap(map(toString(kind), toUInt64(1))) AS kinds, "
            "lower(hex(SHA256(arrayStringConcat(arraySort(groupArray(row)))))) AS digest FROM ("
            f"SELECT message_id, verdict, kind, lower(hex(SHA256(concat({text})))) AS row "
            f"FROM ({ask('exceptions', self._db)}))",
            asked.parameters,
        )
        if row["overtaken"]:
            return None
        return Totals(row["total"], row["messages"], dict(row["kinds"]), row["digest"])


def row_cursor(row: dict[str, str]) -> str:
    """Where the page that ends with this row ends: its key, as JSON."""
    return msgspec.json.encode([row[name] for name in _KEY]).decode()


def _decoded(cursor: str) -> list[str]:
    try:
        return list(msgspec.json.decode(cursor, type=tuple[str, str, str, str]))
    except msgspec.DecodeError:
        raise Invalid(f"cursor {cursor!r} is none of ours; begin again without it") from None
