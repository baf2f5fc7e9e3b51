"""The questions that polling an outbox asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from psycopg import sql
from pydantic import field_validator

from collectors.clock import Clock
from collectors.errors import Unavailable
from collectors.postgres.cursor import Cursor, Seen
from collectors.postgres.rows import Mark, Table
from collectors.postgres.stream import AS_TEXT, Answer, Wire
from tracker.model.event import Stage

SESSION = {
    **AS_TEXT,
    "default_transaction_read_only": "on",
    "row_security": "off",  # rows that a policy hides are an error, not a silence
    "enable_sort": "off",  # rows are read in the order of the index, page by page: where statistics are old the planner
    "enable_bitmapscan": "off",  # expects no row behind the last one, and would sort all there are for each page
    "enable_seqscan": "off",
}
"""Settings of the session."""


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
        return f"{self.table}/{self.column}"

    def of(self, table: Table) -> bool:
        """Whether this says something of a row of `table`."""
        return self.stage is Stage.produce or (isinstance(table.relayed, Mark) and table.relayed.column == self.column)


def feeds_of(tables: Sequence[Polled]) -> list[Feed]:
    """One for the rows of each table, one for each of its marks; in an order of their own, for a cursor says by it what
    was read: another one in the configuration must not pass anything over."""
    rows = [Feed(table.table, table.tx, Stage.produce) for table in tables]
    marks = [Feed(t.table, t.relayed.column, Stage.ack) for t in tables if isinstance(t.relayed, Mark)]
    return [*sorted(set(rows), key=lambda feed: feed.name), *sorted(set(marks), key=lambda feed: feed.name)]


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
    named = ", ".join(f"({literal(name)}, {literal(quoted(*name.split('.')))})" for name in names)
    since = clock()
    (first, *rest) = wire.ask(_LOOK.format(named))
    missing = [str(name) for name, oid in rest if oid is None]
    if missing:
        raise Unavailable(f"there is no table {', '.join(missing)}; create it, or correct `tables`")
    seen = Seen(str(first[0]), since, clock())
    return Looked(seen, str(first[1]), {str(name): int(oid or 0) for name, oid in rest})


_PAGE = """
SELECT {tx}, {row}, {columns} FROM {table}
 WHERE {which} AND pg_visible_in_snapshot({tx}, {target}) AND ({tx}, {row}) > ('{after}'::xid8, {name})
 ORDER BY {tx}, {row} FETCH FIRST {limit} ROWS WITH TIES
"""
"""With ties: the next page begins behind the last number and name, and two rows may share both."""


def page(wire: Wire, feed: Feed, columns: Sequence[str], cursor: Cursor, target: Seen, limit: int) -> Answer:
    """The next rows up to `target`, at most `limit` and those that share the last one's number and name, in the order
    of these two: both, then `columns`, the first of which is the name. None: there are no more. Raises
    `psycopg.Error`."""
    for question in questions(feed, columns, cursor, target, limit):
        if rows := wire.ask(question):
            return rows
    return []


def questions(feed: Feed, columns: Sequence[str], cursor: Cursor, target: Seen, limit: int) -> Iterator[str]:
    """Where the next rows may be, first things first. What the base did not show is of a transaction that was open
    then, and has ended since, or of one that had not begun. What was committed beside one that stays open is neither:
    it is not read again."""
    tx, base = quoted(feed.column), cursor.base
    still = set(target.open)
    ended = [str(number) for number in base.open if number >= cursor.tx and number not in still]
    begun = f"{tx} >= '{max(cursor.tx, base.xmax)}'::xid8 AND {tx} < '{target.xmax}'::xid8"
    for which in [*[f"{tx} = ANY ('{{{','.join(ended)}}}'::xid8[])"] * bool(ended), begun]:
        yield _PAGE.format(
            tx=tx,
            row=f"coalesce({quoted(columns[0])}::text, '') COLLATE \"C\"",
            columns=", ".join(map(quoted, columns)),
            table=quoted(*feed.table.split(".")),
            which=which,
            target=literal(target.snapshot),
            after=cursor.tx,
            name=literal(cursor.row),
            limit=limit,
        )


def quoted(*name: str) -> str:
    """A name as SQL has it."""
    return sql.Identifier(*name).as_string()


def literal(value: str) -> str:
    """A text as SQL has it."""
    return sql.Literal(value).as_string()
