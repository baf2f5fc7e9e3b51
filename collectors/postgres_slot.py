"""What a stream of an outbox needs of the server: a publication of its tables, and a slot. Made where they are missing.

A slot holds back the write-ahead log until it was read, so one that is forgotten fills the disk of the database that it
watches. Hence the server must bound that (`max_slot_wal_keep_size`), or nothing is begun.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import psycopg
import xxhash
from psycopg import sql

from collectors.errors import ConfigInvalid, Unavailable
from collectors.postgres_rows import FULL, Table
from collectors.postgres_stream import TIMEOUT, Wire

PATIENCE = 60.0
"""Seconds that making a slot may take."""
_OPERATIONS = {False: "insert", True: "insert, update, delete, truncate"}


class Ready(msgspec.Struct, frozen=True):
    """The slot can be read. `new`: it was made now; `blind`: tables of which changes may be missing before now, because
    the slot, or their place in the publication, was there before and is gone."""

    new: bool
    blind: frozenset[str]


def slot_name(collector: str) -> str:
    """The name of a collector's slot and publication: at most 63 lower-case letters, digits and `_`."""
    plain = re.sub(r"[^a-z0-9_]", "_", collector.lower())
    if plain == collector and len(plain) <= 50:
        return f"tracker_{plain}"
    return f"tracker_{plain[:42]}_{xxhash.xxh32_hexdigest(collector.encode())}"


def made_ready(wire: Wire, name: str, tables: Sequence[Table], unbounded: bool) -> Ready:
    """Check the server and the tables, make what is missing. Raises `ConfigInvalid` for what somebody has to change,
    `Unavailable`, `psycopg.Error`."""
    _checked(wire, unbounded)
    _fitting(wire, tables)
    known = wire.ask(_with("SELECT 1 FROM pg_publication WHERE pubname = {}", name))
    added = _published(wire, name, tables, bool(known))
    found = wire.ask(
        _with("SELECT wal_status, active, plugin, database = current_database() FROM pg_replication_slots "
              "WHERE slot_name = {}", name)
    )  # fmt: skip
    if found:
        status, active, plugin, ours = found[0]
        if plugin != "pgoutput" or ours != "t":
            raise ConfigInvalid(f"the slot {name} is not ours: it decodes another database, or by {plugin}")
        if active == "t":
            raise Unavailable(f"the slot {name} is read by another process; this one stands by")
        if status != "lost":
            return Ready(False, added if known else frozenset())
        wire.ask(_with("SELECT pg_drop_replication_slot({})", name))
    _made(wire, name)
    return Ready(True, frozenset(table.table for table in tables) if known else frozenset())


def _made(wire: Wire, name: str) -> None:
    """Make the slot. The server waits for the transactions that are under way, whatever they do."""
    wire.ask(f"SET statement_timeout = '{PATIENCE:.0f}s'")
    try:
        wire.ask(_with("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", name), PATIENCE + TIMEOUT)
    except psycopg.errors.QueryCanceled as error:
        raise Unavailable(
            f"the slot {name} could not be made within {PATIENCE:.0f} s: all transactions that began before that have "
            "to end first; pg_stat_activity shows the oldest by its xact_start"
        ) from error
    wire.ask(f"SET statement_timeout = '{TIMEOUT:.0f}s'")


def canary(name: str, content: str) -> str:
    """The question that writes a note into the log, prefixed `name`, and asks which tables are published."""
    return f"{_with('SELECT pg_logical_emit_message(true, {}, {})', name, content)}; {_published_tables(name)}"


def sung(answer: Sequence[tuple[str | None, ...]]) -> frozenset[str]:
    """The published tables that a `canary` told of."""
    return frozenset(row[0] or "" for row in answer[1:])


def _checked(wire: Wire, unbounded: bool) -> None:
    level, kept = wire.ask("SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size')")[0]
    if level != "logical":
        raise ConfigInvalid(
            f"wal_level is {level}: an outbox is read from the log, which needs ALTER SYSTEM SET wal_level = logical "
            "and a restart of the server"
        )
    if kept == "-1" and not unbounded:
        raise ConfigInvalid(
            "max_slot_wal_keep_size is not set: a collector that stays away would fill the server's disk. Bound it: "
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); "
            "or take that on yourself: unbounded_wal: true"
        )


def _fitting(wire: Wire, tables: Sequence[Table]) -> None:
    """The tables are there, with the columns, and with an identity where changes and deletions are looked at: without
    one the server would refuse those to the application."""
    found = {row[0]: row[1:] for row in wire.ask(_TABLES)}
    missing = sorted({table.table for table in tables} - found.keys())
    if missing:
        raise Unavailable(f"there is no table {', '.join(missing)}; create it, or correct `tables`")
    followed = any(table.relayed for table in tables)
    for table in tables:
        columns, identity, keys = (value or "" for value in found[table.table])
        lacking = [name for name in table.columns if name not in columns.split("\n")]
        if lacking:
            raise ConfigInvalid(f"table {table.table} has no column {', '.join(map(repr, lacking))}")
        if not followed or identity == FULL:
            continue
        unknown = [name for name in (table.id, *table.where) if name not in keys.split("\n")]
        if not keys or (table.relayed == "delete" and unknown):
            why = f"its replica identity lacks {', '.join(unknown)}" if keys else "it has no replica identity"
            raise ConfigInvalid(
                f"table {table.table}: {why}, so a deleted row could not be named: "
                f"ALTER TABLE {table.table} REPLICA IDENTITY FULL"
            )


_TABLES = """
SELECT n.nspname || '.' || c.relname,
       (SELECT string_agg(a.attname, E'\\n') FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       c.relreplident,
       (SELECT string_agg(a.attname, E'\\n') FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
         WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident
                                           ELSE false END)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p')
"""


def _published(wire: Wire, name: str, tables: Sequence[Table], known: bool) -> frozenset[str]:
    """See that the publication has the tables; gives those that it lacked."""
    wanted = {table.table for table in tables}
    has = {row[0] for row in wire.ask(_published_tables(name))} if known else set[str]()
    lacking = sorted(wanted - has)
    if not known:
        operations = _OPERATIONS[any(table.relayed for table in tables)]
        wire.ask(
            f"CREATE PUBLICATION {_quoted(name)} FOR TABLE {', '.join(map(_quoted, lacking))} "
            f"WITH (publish = '{operations}', publish_via_partition_root = true)"
        )
    elif lacking:
        wire.ask(f"ALTER PUBLICATION {_quoted(name)} ADD TABLE {', '.join(map(_quoted, lacking))}")
    return frozenset(lacking)


def _quoted(name: str) -> str:
    return sql.Identifier(*name.split(".")).as_string()


def _with(query: str, *values: str) -> str:
    """The query with its values as literals: replication connections take no parameters."""
    return query.format(*(sql.Literal(value).as_string() for value in values))


def _published_tables(name: str) -> str:
    return _with("SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = {}", name)
