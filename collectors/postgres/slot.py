"""What a stream of an outbox needs of the server: a publication of its tables, and a slot. Looked at first, then made.

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
from collectors.postgres.known import Known
from collectors.postgres.pgoutput import LSN
from collectors.postgres.publication import HIDDEN, filled, published, signs_in, whole
from collectors.postgres.rows import FULL, Mark, Table
from collectors.postgres.stream import TIMEOUT, Wire

PATIENCE = 600.0
"""Seconds that the server may take to make a slot: it waits for the transactions that are under way."""
_OPERATIONS = {False: "insert", True: "insert, update, delete, truncate"}


class Work(msgspec.Struct, frozen=True):
    """What has to be made before the slot can be read. `lacking`: tables that are in no publication of ours; `slot`:
    what there is of it; `partitioned`: those of the tables that are; `changed`: those of which the publication has been
    another since it was read by, all where the slot has been moved by somebody else; `cut`: those of which it leaves
    something out; `hidden`: by table, what is part of it and not in the log; `signs`: by table, what tells one making
    of the publication from another."""

    tables: frozenset[str]
    published: bool
    lacking: tuple[str, ...]
    slot: str
    followed: bool
    partitioned: frozenset[str]
    changed: frozenset[str]
    cut: frozenset[str]
    hidden: dict[str, str]
    signs: dict[str, str]

    @property
    def makes_slot(self) -> bool:
        """There is none that shows all: it is not there, the server let go of it, or it outlived its publication."""
        return self.slot != "there" or not self.published

    @property
    def blind(self) -> frozenset[str]:
        """Tables of which changes may be missing before it is done."""
        return self.tables if self.makes_slot else self.changed.union(self.lacking, self.cut, self.hidden)


def slot_name(collector: str) -> str:
    """The name of a collector's slot and publication: at most 63 lower-case letters, digits and `_`."""
    plain = re.sub(r"[^a-z0-9_]", "_", collector.lower())
    if plain == collector and len(plain) <= 50:
        return f"tracker_{plain}"
    return f"tracker_{plain[:42]}_{xxhash.xxh32_hexdigest(collector.encode())}"


def looked(wire: Wire, name: str, tables: Sequence[Table], unbounded: bool, known: Known) -> Work:
    """What there is, and what is to be made; changes nothing. `known`: what the slot and the publication were when they
    were read last. Raises `ConfigInvalid` for what somebody has to change first, `Unavailable` where another process
    reads the slot, `psycopg.Error`."""
    _checked(wire, unbounded)
    slot = _slot(wire, name)
    wanted = sorted({table.table for table in tables})
    has = wire.ask(published(name, wanted))
    there = bool(wire.ask(filled("SELECT 1 FROM pg_publication WHERE pubname = {}", name)))
    followed = any(table.relayed for table in tables)
    shows = followed or any(changes != "f" for _, _, changes, *_ in has)
    partitioned, hidden = _fitting(wire, tables, shows)
    lacking = tuple(sorted(set(wanted) - {row[0] for row in has}))
    cut = frozenset(wanted).difference(lacking) - whole(has, tables)
    found = signs_in(has)
    changed = frozenset(table for table, sign in found.items() if known.signs.get(table, sign) != sign)
    if slot == "there" and known.another(found):
        slot = "outlived"
    elif slot == "there" and known.passed(confirmed(wire, name)):
        changed = frozenset(wanted)
    return Work(frozenset(wanted), there, lacking, slot, followed, partitioned, changed, cut, hidden, found)


def refused(name: str, work: Work) -> None:
    """Raises `ConfigInvalid` where rows of a table are not told, and will not be until somebody mends it: to be asked
    when the hole is known, for whoever begins after that finds everything in order."""
    if work.cut:
        raise ConfigInvalid(
            f"publication {name} leaves out changes of {', '.join(sorted(work.cut))}, by its `publish` or by a WHERE: "
            f"ALTER PUBLICATION {name} SET (publish = '{_OPERATIONS[work.followed]}'), and its tables without a WHERE"
        )
    for table, parts in work.hidden.items():
        raise ConfigInvalid(
            f"table {table}: rows in {parts} are not told as its own. A partition that is unlogged or foreign is not "
            "in the log: ALTER TABLE ... SET LOGGED, or detach it. Of tables that inherit, name each instead of it"
        )


def publish(wire: Wire, name: str, work: Work) -> None:
    """See that the publication has all tables, and that no slot is there that does not show them."""
    tables = ", ".join(map(_quoted, work.lacking))
    if not work.published:
        statement = (
            f"CREATE PUBLICATION {_quoted(name)} FOR TABLE {tables} "
            f"WITH (publish = '{_OPERATIONS[work.followed]}', publish_via_partition_root = true)"
        )
    else:
        statement = f"ALTER PUBLICATION {_quoted(name)} ADD TABLE {tables}"
    if work.lacking:
        try:
            wire.ask(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            said = error.diag.message_primary
            raise Unavailable(f"{said}; let the owner of the tables do it: {statement}") from error
    if work.makes_slot and work.slot:
        wire.ask(filled("SELECT pg_drop_replication_slot({})", name))


def make(wire: Wire, name: str) -> None:
    """Begin to make the slot; `made` tells when it is there."""
    wire.ask(f"SET statement_timeout = '{PATIENCE:.0f}s'")
    wire.send(filled("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", name))


def made(wire: Wire, name: str, wait: float) -> bool:
    """Whether the slot is made, within `wait` seconds. The server waits for the transactions that are under way."""
    try:
        if wire.answer(wait) is None:
            return False
    except psycopg.errors.QueryCanceled as error:
        raise Unavailable(
            f"the slot {name} could not be made within {PATIENCE:.0f} s: all transactions that began before that have "
            "to end first; pg_stat_activity shows the oldest by its xact_start, pg_prepared_xacts those left over"
        ) from error
    wire.ask(f"SET statement_timeout = '{TIMEOUT:.0f}s'")
    return True


def confirmed(wire: Wire, name: str) -> LSN:
    """Up to where somebody said of the slot that it need not be sent again."""
    found = wire.ask(filled("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = {}", name))
    return int(found[0][0] or 0) if found else 0


def horizon(wire: Wire) -> int:
    """Transactions below this number may have begun before now."""
    return int(wire.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())")[0][0] or 0)


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


def _slot(wire: Wire, name: str) -> str:
    """`there`, `lost`, or nothing."""
    found = wire.ask(
        filled("SELECT wal_status, active, plugin, database = current_database() FROM pg_replication_slots "
              "WHERE slot_name = {}", name)
    )  # fmt: skip
    if not found:
        return ""
    status, active, plugin, ours = found[0]
    if plugin != "pgoutput" or ours != "t":
        raise ConfigInvalid(f"the slot {name} is not ours: it decodes another database, or by {plugin}")
    if active == "t":
        raise Unavailable(f"the slot {name} is read by another process; this one stands by")
    return "lost" if status == "lost" else "there"


class _Column(msgspec.Struct, frozen=True):
    needed: bool
    truth: bool


class _Known(msgspec.Struct, frozen=True):
    """A table as the catalog has it. `keys`: the columns of its replica identity; of a partitioned one, whose leaves
    have identities of their own, of its primary key."""

    kind: str
    identity: str
    columns: dict[str, _Column]
    keys: list[str]
    hidden: str | None


_TABLES = """
SELECT n.nspname || '.' || c.relname, json_build_object(
       'kind', c.relkind, 'identity', c.relreplident,
       'columns', (SELECT json_object_agg(a.attname, json_build_object(
                              'needed', a.attnotnull, 'truth', a.atttypid = 'bool'::regtype))
                     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       'keys', (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_index i
                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                 WHERE i.indrelid = c.oid AND CASE
                       WHEN c.relkind = 'p' OR c.relreplident = 'd' THEN i.indisprimary
                       WHEN c.relreplident = 'i' THEN i.indisreplident ELSE false END),
       'hidden', {hidden})
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname IN ({})
"""


def _fitting(wire: Wire, tables: Sequence[Table], shows: bool) -> tuple[frozenset[str], dict[str, str]]:
    """The tables are there, with the columns, and with an identity where changes and deletions are published (`shows`):
    without one the server would refuse those to the application. Gives those that are partitioned, and what is hidden
    of which."""
    names = sorted({table.table for table in tables})
    asked = _TABLES.replace("{hidden}", HIDDEN).replace(
        "{}", ", ".join(sql.Literal(name).as_string() for name in names)
    )
    found = {row[0]: msgspec.json.decode(row[1] or "", type=_Known) for row in wire.ask(asked)}
    missing = sorted(set(names) - found.keys())
    if missing:
        raise Unavailable(f"there is no table {', '.join(missing)}; create it, or correct `tables`")
    for table in tables:
        _fits(table, found[table.table], shows)
    hidden = {name: parts for name in names if (parts := found[name].hidden)}
    return frozenset(name for name in names if found[name].kind == "p"), hidden


def _fits(table: Table, known: _Known, shows: bool) -> None:
    lacking = [name for name in table.columns if name not in known.columns]
    if lacking:
        raise ConfigInvalid(f"table {table.table} has no column {', '.join(map(repr, lacking))}")
    if isinstance(table.relayed, Mark):
        mark = known.columns[table.relayed.column]
        if mark.needed and not mark.truth:
            raise ConfigInvalid(
                f"table {table.table}: {table.relayed.column!r} always has a value, so it cannot tell that a row was "
                "relayed; name a column that is null before, or a boolean"
            )
    if not shows or (known.identity == FULL and known.kind != "p"):
        return
    unknown = [name for name in (table.id, *table.where) if name not in known.keys]
    if not known.keys or (table.relayed == "delete" and unknown):
        why = f"its replica identity lacks {', '.join(unknown)}" if known.keys else "it has no replica identity"
        cure = "give it a primary key" if known.kind == "p" else f"ALTER TABLE {table.table} REPLICA IDENTITY FULL"
        raise ConfigInvalid(
            f"table {table.table}: {why}, so a deleted row could not be named, or not be deleted at all: {cure}"
        )


def _quoted(name: str) -> str:
    return sql.Identifier(*name.split(".")).as_string()
