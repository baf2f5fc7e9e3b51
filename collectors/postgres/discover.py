"""Which tables of a PostgreSQL database look like an outbox, and what reading them from the log would need.

Asked of the catalog in a session that may only read; rows are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from collectors.draft import Asked, Entry, Flow, Found, named
from collectors.part import settings
from collectors.postgres.outbox import OutboxConfig
from collectors.postgres.slot import slot_name
from collectors.postgres.stream import TIMEOUT, Wire, driver_errors

NAMED = ("outbox", "outbound", "event_publication")
"""Parts of the name of a table that say that it is one."""
IDS = ("message_id", "event_id", "id")
PAYLOADS = ("payload", "data", "body", "event", "message", "content")
KEYS = ("aggregate_id", "aggregateid", "partition_key", "message_key", "key")
ORIGINS = ("occurred_at", "created_at", "timestamp", "created")
HEADERS = ("headers", "metadata")
MARKS = ("sent_at", "published_at", "relayed_at", "processed_at", "dispatched_at", "delivered_at", "sent", "published",
         "processed", "relayed")  # fmt: skip
ROUTES = ("aggregate_type", "aggregatetype", "topic", "event_type", "type", "destination", "exchange")
BYTES = ("jsonb", "json", "bytea", "text")
TABLES = """
SELECT n.nspname || '.' || c.relname, c.relkind = 'p', c.relreplident = 'f',
       (SELECT json_object_agg(a.attname, json_build_object(
                   'type', format_type(a.atttypid, NULL), 'needed', a.attnotnull,
                   'key', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
                                     AND a.attnum = ANY (i.indkey))) ORDER BY a.attnum)
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%'
   AND n.nspname <> 'information_schema'
 ORDER BY 1
"""
SERVER = """
SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size'), current_database(), current_user,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
"""
PUBLICATIONS = """
SELECT p.pubname, coalesce(string_agg(t.schemaname || '.' || t.tablename, ', '), '')
  FROM pg_publication p LEFT JOIN pg_publication_tables t USING (pubname) GROUP BY 1 ORDER BY 1
"""
SLOTS = "SELECT slot_name, plugin, active, coalesce(wal_status, '') FROM pg_replication_slots ORDER BY 1"


class Column(msgspec.Struct, frozen=True):
    """`needed`: never null; `key`: part of the primary key."""

    type: str
    needed: bool
    key: bool


class Candidate(NamedTuple):
    """A table that may be an outbox. `full`: its log has whole rows."""

    table: str
    partitioned: bool
    full: bool
    columns: Mapping[str, Column]

    def first(self, names: Sequence[str], types: Sequence[str] = ()) -> str:
        """The first of these columns that is there, of one of the types where they are named."""
        return next(
            (n for n in names if n in self.columns and (not types or self.columns[n].type.startswith(tuple(types)))), ""
        )

    @property
    def id(self) -> str:
        """The column that names a message; else the primary key, when it is one column."""
        keys = [name for name, column in self.columns.items() if column.key]
        return self.first(IDS) or (keys[0] if len(keys) == 1 else "")

    @property
    def mark(self) -> str:
        """The column that says that a row was relayed."""
        return next(
            (
                n
                for n in MARKS
                if n in self.columns and (not self.columns[n].needed or self.columns[n].type == "boolean")
            ),
            "",
        )

    @property
    def likely(self) -> bool:
        """By its name, or by what it has: an id, a payload, and where it goes."""
        name = self.table.partition(".")[2].lower()
        shaped = self.first(PAYLOADS, BYTES) and self.first(ROUTES)
        return bool(self.id and (any(part in name for part in NAMED) or shaped))


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the database of `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    where = settings(OutboxConfig, {"url": url, "tables": [{"table": "t", "flow": "f", "hop": "h"}]}, "discover").where
    what = f"PostgreSQL {where}"
    with driver_errors(what):
        wire = Wire(url, {"default_transaction_read_only": "on", "statement_timeout": f"{TIMEOUT:.0f}s"})
        try:
            server, tables = wire.ask(SERVER)[0], wire.ask(TABLES)
            publications, slots = wire.ask(PUBLICATIONS), wire.ask(SLOTS)
        finally:
            wire.close()
    found = [
        Candidate(str(name), parted == "t", full == "t", msgspec.json.decode(columns or "{}", type=dict[str, Column]))
        for name, parted, full, columns in tables
    ]
    candidates = [candidate for candidate in found if candidate.likely]
    items: list[Mapping[str, Any]] = [
        {"table": c.table, "columns": {name: column.type for name, column in c.columns.items()}} for c in candidates
    ]
    items += [{"publication": name, "tables": named_} for name, named_ in publications]
    items += [
        {"slot": name, "plugin": plugin, "active": active == "t", "wal": wal} for name, plugin, active, wal in slots
    ]
    database = str(server[2])
    name = named(f"{database}_outbox")
    notes = [*_server(server), *_others(publications, slots)]
    if not candidates:
        return Found(what, notes, items, [], [])
    values: dict[str, Any] = {"name": name, "kind": "postgres-outbox", "url": given}
    hop = named(database)
    values["tables"] = [_table(candidate, hop) for candidate in candidates]
    above = [note for candidate in candidates for note in _of_table(candidate, slot_name(name))]
    return Found(what, notes, items, [Entry(above, values)], [_flow(candidate, hop) for candidate in candidates])


def _server(server: Sequence[str | None]) -> Iterator[str]:
    level, kept, _, user, replicates = server
    if level != "logical":
        yield f"TODO wal_level is {level}: ALTER SYSTEM SET wal_level = logical; then restart the server."
    if kept == "-1":
        yield "TODO nothing bounds what a slot holds back: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; reload."
    if replicates != "t":
        yield f"TODO the role may not read the log: ALTER ROLE {user} REPLICATION, or a role of its own."


def _others(publications: Sequence[Sequence[str | None]], slots: Sequence[Sequence[str | None]]) -> Iterator[str]:
    for name, tables in publications:
        yield f"There is a publication {name}: {tables or 'of no table, or of all'}."
    for name, plugin, active, wal in slots:
        yield f"There is a slot {name} ({plugin or 'physical'}, {'active' if active == 't' else 'not active'}, {wal})."


def _table(candidate: Candidate, hop: str) -> dict[str, Any]:
    found = {
        "id": candidate.id,
        "payload": candidate.first(PAYLOADS, BYTES),
        "key": candidate.first(KEYS),
        "origin": candidate.first(ORIGINS, ("timestamp",)),
        "headers": candidate.first(HEADERS, ("json",)),
    }
    values: dict[str, Any] = {"table": candidate.table, "flow": _flow_name(candidate), "hop": hop}
    values |= {key: column for key, column in found.items() if column}
    return values | ({"relayed": {"column": candidate.mark}} if _followed(candidate) else {})


def _followed(candidate: Candidate) -> bool:
    """Whether its mark can be followed: deletions can only be published where the log can name a row."""
    keyed = any(column.key for column in candidate.columns.values())
    return bool(candidate.mark and (keyed or (candidate.full and not candidate.partitioned)))


def _flow_name(candidate: Candidate) -> str:
    return named(candidate.table.removeprefix("public."))


def _of_table(candidate: Candidate, slot: str) -> Iterator[str]:
    table = candidate.table
    yield f"TODO table {table}: is it an outbox? Each row that is committed is taken for a message that was promised."
    route = candidate.first(ROUTES)
    if route:
        yield f"TODO table {table}: one flow for all? `where: {{{route}: VALUE}}` tells flows apart."
    if candidate.mark and not _followed(candidate):
        yield f"TODO table {table}: give it a primary key, or ALTER TABLE {table} REPLICA IDENTITY FULL; then"
        yield f"  `relayed: {{column: {candidate.mark}}}` tells what has left; and `outbox: true` in the flow."
    if not candidate.mark:
        yield f"TODO table {table}: does the relay delete rows? Then `relayed: delete`, and `outbox: true` in the flow."
    yield f"TODO table {table}: its owner makes the publication, or this role does: CREATE PUBLICATION {slot} FOR TABLE"
    followed = "insert, update, delete, truncate" if _followed(candidate) else "insert"
    yield f"  {table} WITH (publish = '{followed}', publish_via_partition_root = true);"


def _flow(candidate: Candidate, hop: str) -> Flow:
    point: dict[str, Any] = {"hop": hop, "stage": "produce"}
    notes = [
        "TODO where it goes: {hop: BROKER, stage: persist, after: " + hop + ", within: ...}, and who must have it."
    ]
    return Flow(_flow_name(candidate), notes, [point | ({"outbox": True} if _followed(candidate) else {})])
