"""PostgreSQL: rows of an outbox, for a replay. Implements `Source` and `Finder` of `tracker.model.carry`.

A row that is still in the table is a copy of its message: the one that the application wrote in the transaction of what
it did. Only looked at, never changed: that a row is marked as relayed or not says nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.pq.abc import PGresult
from pydantic import Field

from collectors.carried import digest_of
from collectors.errors import Undecodable
from collectors.part import settings
from collectors.postgres.config import Database
from collectors.postgres.pgoutput import Lack, Relation
from collectors.postgres.rows import Columns
from collectors.postgres.stream import AS_TEXT, TIMEOUT, driver_errors
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT, Copy, Locator, Missing

MOST = 5000
"""Ids in one question."""


class SourceConfig(Database):
    """The `config` of an outbox that replays read: `table` and its columns as the collector has them; `timeout` (s) for
    a question."""

    table: str
    id: str = "id"
    payload: str
    key: str = ""
    origin: str = ""
    headers: str = ""
    identity_header: str = MESSAGE_ID
    timeout: float = Field(30.0, gt=0)


def source(config: Mapping[str, Any]) -> OutboxSource:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    return OutboxSource(settings(SourceConfig, config, "PostgreSQL source"))


class OutboxSource:
    """A connection for each question: replays are rare, and an idle one holds a slot of the server."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._what = f"PostgreSQL {config.where}, table {config.table}"
        self._table = sql.Identifier(*config.table.split("."))
        self._id = sql.Identifier(config.id)
        named = [config.id, config.payload, config.key, config.origin, config.headers]
        self._columns = sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(name for name in named if name)))

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those whose row is there. The table may hold rows of other flows, too: ids decide."""
        return [Locator(one, "", self._config.table, 0) for one in self._rows(self._id, message_ids)]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """A copy of each row that is still there. Raises `Unavailable`."""
        rows = self._rows(self._columns, [place.message_id for place in locators])
        return [self._copy(place, rows.get(place.message_id)) for place in locators]

    def close(self) -> None:
        """Nothing is kept open."""

    def _rows(self, columns: sql.Composable, ids: Sequence[str]) -> dict[str, Columns]:
        """The rows with these ids, by id."""
        asked = sql.SQL("SELECT {columns} FROM {table} WHERE {id}::text = ANY(%s)").format(
            columns=columns, table=self._table, id=self._id
        )
        found: dict[str, Columns] = {}
        with driver_errors(self._what), closing(self._connected()) as connection:
            for start in range(0, len(ids), MOST):
                result = connection.execute(asked, [list(ids[start : start + MOST])]).pgresult
                rows = _rows(result, self._config.table) if result else []
                found |= {row.text(self._config.id): row for row in rows}
        return found

    def _connected(self) -> psycopg.Connection[Any]:
        patience = round(self._config.timeout * 1000)
        session = {**AS_TEXT, "statement_timeout": patience, "default_transaction_read_only": "on"}
        options = " ".join(f"-c {name}={value}" for name, value in session.items())
        return psycopg.connect(
            self._config.url,
            connect_timeout=int(TIMEOUT),
            options=options,
            client_encoding="UTF8",
            application_name="tracker.replay",
        )

    def _copy(self, place: Locator, row: Columns | None) -> Copy | Missing:
        config = self._config
        if row is None:
            return Missing(place, f"its row is no longer in {config.table}")
        try:
            value, key = row.bytes(config.payload), row.bytes(config.key) if config.key else None
        except Undecodable as error:
            return Missing(place, f"its row in {config.table} cannot be read: {error}")
        if value is None:
            return Missing(place, f"its row in {config.table} has no {config.payload!r}")
        headers = _headers(row.text(config.headers)) if config.headers else {}
        headers[config.identity_header] = place.message_id.encode()
        if (origin := row.moment(config.origin)) is not None:
            headers.setdefault(ORIGIN_AT, str(origin).encode())
        return Copy(place, key, value, headers, digest_of(value))


def _rows(result: PGresult, table: str) -> list[Columns]:
    """Rows as the write-ahead log would have them, so that a digest counts the same bytes."""
    numbers = range(result.nfields)
    names = tuple((result.fname(n) or b"").decode() for n in numbers)
    relation = Relation(0, table, "d", names, tuple(result.ftype(n) for n in numbers))
    cells = ([result.get_value(row, n) for n in numbers] for row in range(result.ntuples))
    return [Columns(relation, [Lack.null if cell is None else cell.decode() for cell in row]) for row in cells]


def _headers(text: str) -> dict[str, bytes]:
    """Headers that stand in a column as a JSON object; what is none gives none."""
    try:
        said = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return {}
    return {name: str(value).encode() for name, value in said.items()} if isinstance(said, dict) else {}
