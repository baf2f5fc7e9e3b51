"""The questions that polling an outbox asks, and whether its tables can answer them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from psycopg import sql
from pydantic import field_validator

from collectors.clock import Clock
from collectors.errors import ConfigInvalid, Unavailable
from collectors.postgres.cursor import Cursor, Seen
from collectors.postgres.pgoutput import Relation
from collectors.postgres.rows import Mark, Table
from collectors.postgres.stream import Answer, Wire
from tracker.model.event import Stage

SESSION = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "default_transaction_read_only": "on",
    "row_security": "off",  # rows that a policy hides are an error, not a silence
}
"""Settings of the session."""
NUMBER = "pg_current_xact_id()"
_XID8 = 5069


class Polled(Table):
    """An outbox table that is polled. `tx`: the column of the transaction that wrote the row."""

    tx: str = "tx"

    @field_validator("relayed")
    @classmethod
    def _marked(cls, value: object) -> object:
        if value == "delete":
            raise ValueError("a poll does not see rows that are deleted: write {column: NAME}, or leave it out")
        return value

    @property
    def columns(self) -> list[str]:
        """Those that have to be there."""
        return list(dict.fromkeys([*super().columns, self.tx]))


class Feed(msgspec.Struct, frozen=True):
    """Rows of a table, each seen once: when the transaction that `column` names was committed."""

    table: str
    column: str
    stage: Stage

    @property
    def name(self) -> str:
        """As a cursor has it."""
        return f"{self.table}.{self.column}"

    def of(self, table: Table) -> bool:
        """Whether this says something of a row of `table`."""
        return self.stage is Stage.produce or (isinstance(table.relayed, Mark) and table.relayed.column == self.column)


def feeds_of(tables: Sequence[Polled]) -> list[Feed]:
    """One for the rows of each table, one for each of its marks."""
    rows = [Feed(table.table, table.tx, Stage.produce) for table in tables]
    marks = [Feed(t.table, t.relayed.column, Stage.ack) for t in tables if isinstance(t.relayed, Mark)]
    return list(dict.fromkeys([*rows, *marks]))


class Looked(msgspec.Struct, frozen=True):
    """What one look found: which transactions have ended, on which server, and the tables by oid."""

    seen: Seen
    server: str
    tables: dict[str, int]


_LOOK = """
SELECT pg_current_snapshot(), concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
       left(pg_walfile_name(pg_current_wal_lsn()), 8), (SELECT stats_reset FROM pg_stat_bgwriter));
SELECT name, to_regclass(quoted)::oid FROM (VALUES {}) t (name, quoted)
"""


def look(wire: Wire, names: Sequence[str], clock: Clock) -> Looked:
    """What there is now. The server is known by its system, its timeline (which changes when a standby takes over) and
    the time since when it counts: it counts anew after a crash, and then numbers of transactions that left nothing in
    the log are given again. Raises `Unavailable` where a table is not there, `psycopg.Error`."""
    quoted = ", ".join(f"({_literal(name)}, {_literal(_quoted(*name.split('.')))})" for name in names)
    since = clock()
    (first, *rest) = wire.ask(_LOOK.format(quoted))
    missing = [str(name) for name, oid in rest if oid is None]
    if missing:
        raise Unavailable(f"there is no table {', '.join(missing)}; create it, or correct `tables`")
    seen = Seen(str(first[0]), since, clock())
    return Looked(seen, str(first[1]), {str(name): int(oid or 0) for name, oid in rest})


_PAGE = """
SELECT {tx}, {row}, {columns} FROM {table}
 WHERE {tx} >= '{lowest}'::xid8 AND {tx} < '{end}'::xid8
   AND NOT pg_visible_in_snapshot({tx}, {base}) AND pg_visible_in_snapshot({tx}, {target})
   AND ({tx}, {row}) > ('{after}'::xid8, {name})
 ORDER BY {tx}, {row} FETCH FIRST {limit} ROWS WITH TIES
"""
"""With ties: the next page begins behind the last number and name, and two rows may share both."""


def page(wire: Wire, feed: Feed, columns: Sequence[str], cursor: Cursor, target: Seen, limit: int) -> Answer:
    """The next rows up to `target`, at most `limit` and those that share the last one's number and name, in the order
    of these two: both, then `columns`, the first of which is the name. Raises `psycopg.Error`."""
    return wire.ask(
        _PAGE.format(
            tx=_quoted(feed.column),
            row=f"coalesce({_quoted(columns[0])}::text, '') COLLATE \"C\"",
            columns=", ".join(map(_quoted, columns)),
            table=_quoted(*feed.table.split(".")),
            lowest=max(cursor.tx, cursor.base.xmin),
            end=target.xmax,
            base=_literal(cursor.base.snapshot),
            target=_literal(target.snapshot),
            after=cursor.tx,
            name=_literal(cursor.row),
            limit=limit,
        )
    )


class _Column(msgspec.Struct, frozen=True):
    type: int
    default: str | None
    indexed: bool


_COLUMNS = """
SELECT n.nspname || '.' || c.relname, json_object_agg(a.attname, json_build_object(
       'type', a.atttypid::bigint, 'default', pg_get_expr(d.adbin, d.adrelid),
       'indexed', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid)))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname || '.' || c.relname IN ({})
 GROUP BY 1
"""


def relations(wire: Wire, tables: Sequence[Polled]) -> dict[str, Relation]:
    """The tables by name, with the columns that are read of them. Raises `ConfigInvalid` for what somebody has to
    change first, `Unavailable` where a table is not there, `psycopg.Error`."""
    names = list(dict.fromkeys(table.table for table in tables))
    answer = wire.ask(_COLUMNS.replace("{}", ", ".join(map(_literal, names))))
    found = {row[0]: msgspec.json.decode(row[1] or "", type=dict[str, _Column]) for row in answer}
    missing = [name for name in names if name not in found]
    if missing:
        raise Unavailable(f"there is no table {', '.join(missing)}; create it, or correct `tables`")
    for table in tables:
        _fits(table, found[table.table])
    made = {}
    for name in names:
        columns = tuple(dict.fromkeys(column for t in tables if t.table == name for column in t.columns))
        types = tuple(found[name][column].type for column in columns)
        made[name] = Relation(0, name, "", columns, types)
    return made


def _fits(table: Polled, columns: dict[str, _Column]) -> None:
    lacking = [name for name in table.columns if name not in columns]
    if table.tx in lacking:
        raise ConfigInvalid(
            f"table {table.table} has no column {table.tx!r} for the transaction that wrote a row; let its owner run: "
            f"ALTER TABLE {table.table} ADD COLUMN {table.tx} xid8; "
            f"ALTER TABLE {table.table} ALTER COLUMN {table.tx} SET DEFAULT {NUMBER}; "
            f"CREATE INDEX CONCURRENTLY ON {table.table} ({table.tx})"
        )
    if lacking:
        raise ConfigInvalid(f"table {table.table} has no column {', '.join(map(repr, lacking))}")
    marks = [table.relayed.column] if isinstance(table.relayed, Mark) else []
    for name in (table.tx, *marks):
        if columns[name].type != _XID8:
            raise ConfigInvalid(
                f"table {table.table}: {name!r} is not of the type xid8, so it cannot tell when it was committed; "
                f"name a column of that type, which is set to {NUMBER}"
            )
        if not columns[name].indexed:
            raise ConfigInvalid(
                f"table {table.table}: no index begins with {name!r}, so that each look would read the whole table: "
                f"CREATE INDEX CONCURRENTLY ON {table.table} ({name})"
            )
    if columns[table.tx].default != NUMBER:
        raise ConfigInvalid(
            f"table {table.table}: {table.tx!r} has another default than {NUMBER}, so rows would not be seen: "
            f"ALTER TABLE {table.table} ALTER COLUMN {table.tx} SET DEFAULT {NUMBER}"
        )


def _quoted(*name: str) -> str:
    return sql.Identifier(*name).as_string()


def _literal(value: str) -> str:
    return sql.Literal(value).as_string()
