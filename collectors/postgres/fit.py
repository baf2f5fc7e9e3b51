"""Whether the tables of an outbox can be polled: their columns and indexes, and the numbers that their rows bear."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.errors import ConfigInvalid, Unavailable
from collectors.postgres.look import Feed, Polled, literal, quoted
from collectors.postgres.pgoutput import Relation
from collectors.postgres.rows import Mark
from collectors.postgres.stream import Wire
from tracker.model.event import Stage

NUMBER = "pg_current_xact_id()"
BEFORE = "'0'"
"""The number of a row that was there before anybody looked: it lies behind every snapshot."""
COUNTED = 100_000
"""So many rows that cannot be placed are counted, and no more."""
_XID8 = 5069


class _Column(msgspec.Struct, frozen=True):
    """`index`: what an index that begins with it has, all rows or those where it is not null."""

    type: int
    default: str | None
    index: str | None


_COLUMNS = """
SELECT n.nspname || '.' || c.relname, json_object_agg(a.attname, json_build_object(
       'type', a.atttypid::bigint, 'default', pg_get_expr(d.adbin, d.adrelid),
       'index', (SELECT min(CASE WHEN i.indpred IS NULL THEN 'all' ELSE 'some' END)
                   FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
                  WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND m.amname = 'btree' AND
                        coalesce(pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname), true))))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname || '.' || c.relname IN ({})
 GROUP BY 1
"""


def relations(wire: Wire, tables: Sequence[Polled]) -> dict[str, Relation]:
    """The tables by name, with the columns that are read of them. Raises `ConfigInvalid` for what somebody has to
    change first, `Unavailable` where a table is not there, `psycopg.Error`."""
    names = list(dict.fromkeys(table.table for table in tables))
    answer = wire.ask(_COLUMNS.replace("{}", ", ".join(map(literal, names))))
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
            f"ALTER TABLE {table.table} ADD COLUMN {table.tx} xid8 DEFAULT {BEFORE}; "
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
        if columns[name].index is None or (name == table.tx and columns[name].index != "all"):
            raise ConfigInvalid(
                f"table {table.table}: no index begins with {name!r} and has all rows, so each look would read all "
                f"of it: CREATE INDEX CONCURRENTLY ON {table.table} ({name})"
            )
    if columns[table.tx].default != NUMBER:
        raise ConfigInvalid(
            f"table {table.table}: {table.tx!r} has another default than {NUMBER}, so rows would not be seen: "
            f"ALTER TABLE {table.table} ALTER COLUMN {table.tx} SET DEFAULT {NUMBER}"
        )


_NEWEST = """
(SELECT {feed}, {column}, pg_snapshot_xmax(pg_current_snapshot()) FROM {table} {rows} ORDER BY {column} DESC LIMIT 1)
"""
"""The last entry of an index: nulls lie behind all numbers."""
_COUNT = "SELECT count(*) FROM (SELECT FROM {table} WHERE {which} LIMIT {most}) AS counted"
_MENDED = "UPDATE {table} SET {column} = {number} WHERE {which}"


def placed(wire: Wire, feeds: Sequence[Feed]) -> None:
    """Each row that is there has a number that this server has given: only then does a snapshot say when it was
    committed. Raises `Unavailable` that says what to do, `psycopg.Error`."""
    asked = []
    for n, feed in enumerate(feeds):
        column, table = quoted(feed.column), quoted(*feed.table.split("."))
        rows = "" if feed.stage is Stage.produce else f"WHERE {column} IS NOT NULL"
        asked.append(_NEWEST.format(feed=n, column=column, table=table, rows=rows))
    for feed_number, newest, given in wire.ask("UNION ALL".join(asked)):
        if newest is None or int(newest) >= int(given or 0):
            raise Unavailable(_unplaced(wire, feeds[int(feed_number or 0)], given if newest else None))


def _unplaced(wire: Wire, feed: Feed, given: str | None) -> str:
    """What to do about rows whose number is null, or, where some were `given`, not below these."""
    table, column = quoted(*feed.table.split(".")), quoted(feed.column)
    which = f"{column} IS NULL" if given is None else f"{column} >= '{given}'::xid8"
    rows = int(wire.ask(_COUNT.format(table=table, which=which, most=COUNTED))[0][0] or 0)
    many = f"{rows} rows" if rows < COUNTED else f"{COUNTED} rows or more"
    lack = f"no number of a transaction in {feed.column!r}"
    if given is not None:
        lack = f"a number in {feed.column!r} that this server has not given: they were copied from another"
    return (
        f"table {feed.table}: {many} with {lack}. Nobody can tell when they were committed, so nothing more is vouched "
        "for. Let the owner of the table mend them. Those that were there before this collector: "
        f"{_MENDED.format(table=table, column=column, number=BEFORE, which=which)}; those that are to be read: "
        f"{_MENDED.format(table=table, column=column, number=NUMBER, which=which)}. And leave it to its default"
    )
