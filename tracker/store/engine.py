"""One client, two engines: an embedded folder (`chdb:///path`) or a ClickHouse server (`clickhouse://...`).

A client runs one query at a time, so the engine lends them from a pool; any thread may ask. Driver errors become ours.
"""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tracker.model.errors import Invalid, Unavailable

CLIENTS = 8
"""How many queries of ours may run at once."""

SETTINGS: dict[str, Any] = {
    "async_insert": 0,
    # Timers of one pass, or backfilled events, may lie on any number of days.
    "max_partitions_per_insert_block": 0,
    "max_memory_usage": 3_000_000_000,
    # An insert is one block, hence one part, hence visible as a whole or not at all (docs/adr/0001).
    "min_insert_block_size_rows": 4_000_000,
    "min_insert_block_size_bytes": 2_000_000_000,
    "max_insert_block_size": 4_000_000,
    # What we insert holds no row twice, so there is nothing to merge in it yet; half of an insert's time is saved.
    "optimize_on_insert": 0,
}
YIELDING = {"os_threads_nice_value_query": 10}
"""Queries in an embedded engine that leave the processors to others where these want them; the same capability."""
EMBEDDED = {"os_threads_nice_value_merge_mutate": 10}
"""An embedded engine merges with what its queries leave it of the processors, where CAP_SYS_NICE lets it say so."""
DATA_ERRORS = frozenset({6, 26, 27, 38, 41, 53, 69, 70, 72, 117, 128, 321, 349, 457, 691})
"""Codes by which ClickHouse says that the rows or values themselves are at fault: parsing, type, range, null, enum. All
others (too many parts, no space, read-only, no access, no table yet) pass or can be repaired, so callers try again."""
ADVICE = {
    516: "; the user or password in TRACKER_STORE is wrong",
    497: "; grant it to the user in TRACKER_STORE (docs/clickhouse-server.md)",
    243: "; the server's disk is full: free some space, what was sent meanwhile is spooled",
    252: "; more is inserted than it merges: look at its disk and processor, what was sent meanwhile is spooled",
}
"""What to do, by ClickHouse's code."""
STREAM = "ArrowStream"
_SILENT = re.compile(r"Connection refused|timed out|Name or service not known|No route to host|Connection reset|"
                     r"Temporary failure in name resolution|Connection aborted|Network is unreachable")  # fmt: skip
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Engine:
    """Queries and inserts against one engine. Make it with `Engine.open`; close it once."""

    def __init__(
        self, kwargs: dict[str, Any], database: str, where: str, settings: Mapping[str, Any] = SETTINGS
    ) -> None:
        self._kwargs, self._settings = kwargs, settings
        self.database = database
        self.where = where
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._slots = queue.Queue[None]()
        for _ in range(CLIENTS):
            self._slots.put(None)

    @classmethod
    def open(cls, url: str) -> Engine:
        """The engine at `url`. Raises Invalid for a URL that means nothing, Unavailable when it does not answer."""
        kwargs, database, where = _parse(url)
        engine = cls(kwargs, database, where)
        engine.command("SELECT 1")
        engine.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        return engine

    @property
    def embedded(self) -> bool:
        """True when the data lives in a folder that this process holds."""
        return self._kwargs.get("interface") == "chdb"

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What a client of one's own is made of: address, and user and password or the engine's options."""
        return self._kwargs

    def yielding(self) -> Engine:
        """The same engine, with clients of its own, for work that gives way to what others ask of an embedded one. A
        server has priorities of its own."""
        settings = {**self._settings, **YIELDING} if self.embedded else self._settings
        return Engine(self._kwargs, self.database, self.where, settings)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of one's own for the time of the block; driver errors leave it as Invalid or Unavailable."""
        self._slots.get()
        try:
            client = self._take()
            yield client
            self._idle.put(client)
        except ClickHouseError as error:
            raise _ours(error, self.where) from error
        finally:
            self._slots.put(None)

    def _take(self) -> Client:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect()

    def _connect(self) -> Client:
        try:
            return clickhouse_connect.get_client(**self._kwargs, settings=dict(self._settings))
        except (ClickHouseError, RuntimeError, OSError) as error:
            raise _ours(error, self.where) from error

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a statement that gives at most one value."""
        with self.client() as client:
            return client.command(sql, parameters=dict(parameters or {}))

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer as columns."""
        with self.client() as client:
            return client.query_arrow(sql, parameters=dict(parameters or {}), use_strings=True)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The answer as few rows."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def insert(self, table: str, columns: pa.Table) -> None:
        """Append columns as one block; columns that are left out get the table's defaults, and so do nulls."""
        name, columns = f"{self.database}.{table}", columns.combine_chunks().unify_dictionaries()
        with self.client() as client:
            if self.embedded and hasattr(os, "memfd_create"):
                _insert_from_memory(client, name, columns)
            else:
                block = pa.BufferOutputStream()
                _write(block, columns, compression="lz4")
                client.raw_insert(name, columns.column_names, block.getvalue(), fmt=STREAM)

    def close(self) -> None:
        """Close every idle client; the folder is free for another process afterwards."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


def _insert_from_memory(client: Client, table: str, columns: pa.Table) -> None:
    """The engine reads a file of this process that lies on no disk; the client alone would write one to the disk."""
    descriptor = os.memfd_create("insert")
    try:
        path = f"/proc/self/fd/{descriptor}"
        with pa.OSFile(path, "wb") as file:
            _write(file, columns)
        names = ", ".join(f"`{name}`" for name in columns.column_names)
        client.command(f"INSERT INTO {table} ({names}) FROM INFILE '{path}' FORMAT {STREAM}")
    finally:
        os.close(descriptor)


def _write(sink: pa.NativeFile, columns: pa.Table, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, columns.schema, options=options) as writer:
        writer.write_table(columns)


def _parse(url: str) -> tuple[dict[str, Any], str, str]:
    """Client arguments, database and a name without secrets, of a store URL."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    database = query.pop("database", parts.path.strip("/") if parts.scheme != "chdb" else "") or "tracker"
    if not _DATABASE.fullmatch(database):
        raise Invalid(f"store URL: {database!r} is no database name; use letters, digits and _")
    if parts.scheme == "chdb":
        path = Path(unquote(parts.path))
        if not parts.path.startswith("/") or parts.netloc or path == Path("/"):
            raise Invalid(f"store URL {url!r}: an embedded store is chdb:///absolute/folder")
        path.mkdir(parents=True, exist_ok=True)
        return {"interface": "chdb", "path": str(path), "chdb_options": EMBEDDED}, database, f"chdb://{path}"
    if parts.scheme in ("clickhouse", "clickhouses"):
        secure = parts.scheme == "clickhouses"
        port = _port(parts) or (8443 if secure else 8123)
        if not parts.hostname:
            raise Invalid(f"store URL names no host; write {parts.scheme}://user:password@host:{port}/{database}")
        arguments = {
            "host": parts.hostname,
            "port": port,
            "secure": secure,
            "username": unquote(parts.username or "default"),
            "password": unquote(parts.password or ""),
            "autogenerate_session_id": False,
        }
        return arguments, database, f"{parts.scheme}://{parts.hostname}:{port}/{database}"
    raise Invalid(f"store URL scheme {parts.scheme!r} is unknown; use chdb:///folder or clickhouse://user@host:8123/db")


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise Invalid("store URL: its port is no number from 1 to 65535") from None


def _ours(error: Exception, where: str) -> Exception:
    """Invalid for what fails in the same way every time, else Unavailable: a batch must not be dropped for our sake."""
    text = str(error)
    held = "EmbeddedServer" in text or ("lock" in text.lower() and "status" in text.lower())
    if held and where.startswith("chdb://"):
        folder = where.removeprefix("chdb://")
        return Unavailable(
            f"the data folder {folder} is held by another process (an embedded store has one owner): "
            f"stop that one (`fuser {folder}/status` names it), talk to it (TRACKER_URL), or use another folder"
        )
    silent = _SILENT.search(text)
    if silent and not where.startswith("chdb://"):
        ping = where.replace("clickhouse", "http", 1).rpartition("/")[0] + "/ping"
        return Unavailable(
            f"{where} does not answer ({silent[0].strip()}): is the server running, and is this its HTTP port? "
            f"Try: curl {ping}"
        )
    first = text.splitlines()[0] if text else type(error).__name__
    code = getattr(error, "code", None)
    kind = Invalid if code in DATA_ERRORS else Unavailable
    return kind(f"{where}: {first[:500]}{ADVICE.get(code or 0, '')}")
