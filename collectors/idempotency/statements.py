"""What PostgreSQL is asked, and what its rows mean: shared by the store, the marks, and their twins for event loops."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from collectors.errors import CollectorError, ConfigInvalid
from collectors.idempotency.answers import Claim, Key, Told, lock_of
from collectors.idempotency.errors import StoreUnavailable

TABLE = "message_once"
PATIENCE = 1.0
"""Seconds to wait for somebody who is asking about the same message at this moment."""
PAUSE = 0.005
"""Seconds between looks."""
BATCH = 1000
"""Rows that one statement of `prune` deletes."""
ALIVE: Mapping[str, Any] = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""How a connection that was cut somewhere on the way is noticed."""
_FOLDER = Path(__file__).with_name("sql")
_NAME = re.compile(r"([a-z_][a-z0-9_]{0,50})(\.[a-z_][a-z0-9_]{0,50})?")
_FINAL = ("28", "3D", "3F", "42")
"""What trying again does not cure, by code: login, no such database or schema, no such table, no privilege."""
_REFUSED = ("password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist")
"""The same where a connection is refused: that has no code, only words."""


class Statements:
    """The statements for one table, which may be named with its schema. Raises `ConfigInvalid` for other names."""

    def __init__(self, table: str = TABLE) -> None:
        if not _NAME.fullmatch(table):
            raise ConfigInvalid(f"table {table!r}: write a name of a-z, 0-9 and _, with its schema or without")
        self._table = table
        self.create, self.claim = self._read("create"), self._read("claim")
        self.done, self.release, self.prune = self._read("done"), self._read("release"), self._read("prune")

    def key(self, key: Key, **more: Any) -> dict[str, Any]:
        """Parameters that name a message."""
        named = {"consumer": key.consumer, "flow": key.flow, "message_id": key.message_id}
        return named | {"lock": lock_of(key)} | more

    def claimed(self, claim: Claim, **more: Any) -> dict[str, Any]:
        """Parameters that name a claim."""
        return self.key(claim.key, token=claim.token, **more)

    def create_lock(self) -> int:
        """Held while the table is made: two at once would collide in the catalog, `IF NOT EXISTS` or not."""
        return lock_of(Key("", "", "create"))

    def _read(self, name: str) -> LiteralString:
        text = (_FOLDER / f"{name}.sql").read_text("utf-8")
        index = self._table.rpartition(".")[2] + "_expires"
        return text.replace("message_once_expires", index).replace(TABLE, self._table)


def told(rows: list[tuple[Any, ...]]) -> Told:
    """The answer of `claim`. No row: somebody is writing it at this moment."""
    return Told(*rows[0]) if rows else Told("busy")


def held(what: object) -> StoreUnavailable:
    """Somebody kept the lock of a message for too long."""
    return StoreUnavailable(f"{what}: another transaction has held it for more than {PATIENCE:g} s")


def translated(error: psycopg.Error) -> CollectorError:
    """The driver's error as ours: `ConfigInvalid` where trying again is no use."""
    reason = " ".join(str(error).split())
    final = error.sqlstate.startswith(_FINAL) if error.sqlstate else any(word in reason for word in _REFUSED)
    if final:
        return ConfigInvalid(f"PostgreSQL refuses: {reason}")
    return StoreUnavailable(f"PostgreSQL: {reason}")
