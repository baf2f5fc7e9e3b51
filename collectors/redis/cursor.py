"""Where a collector of Redis streams stands: a SQLite file that outlives the process, and belongs to one at a time.

A server keeps no place for a replica, and what groups owe cannot be asked for afterwards: an entry that was acked and
deleted while nobody looked has no name any more.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from collectors.errors import ConfigInvalid, Unavailable
from collectors.redis.books import Owed, Stream
from collectors.redis.entry import Id, id_of, id_text
from collectors.redis.link import Position

MADE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (stream TEXT, id TEXT, body BLOB NOT NULL, PRIMARY KEY (stream, id)) WITHOUT ROWID;
"""
COLLECTOR, POSITION, STREAM = "collector", "position", "stream:"
Change = tuple[str, str]
"""("", name of a mark), or (stream, id of an entry)."""


class Cursor:
    """Opens the file and takes it for this process. Raises `Unavailable` while another one has it: this one stands by;
    and `ConfigInvalid` for the file of another collector, or none at all."""

    def __init__(self, path: Path, collector: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(f"{path.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise Unavailable(f"another collector has the cursor {path}; this one stands by") from None
        try:
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.executescript(MADE)
            self.keep({("", COLLECTOR): self._owner(path, collector)})
        except BaseException as error:
            self._lock.close()
            if isinstance(error, sqlite3.Error):
                raise ConfigInvalid(f"cursor {path} cannot be used: {error}") from None
            raise

    def _owner(self, path: Path, collector: str) -> bytes:
        found = self._mark(COLLECTOR)
        if found is not None and found != collector.encode():
            raise ConfigInvalid(
                f"cursor {path} is that of the collector {found.decode()!r}: give each a file of its own"
            )
        return collector.encode()

    @property
    def position(self) -> Position | None:
        """Up to where the stream of writes was read; None before the first time."""
        found = self._mark(POSITION)
        return None if found is None else Position(*msgspec.msgpack.decode(found, type=tuple[str, int, int]))

    def restore(self, streams: Mapping[str, Stream]) -> None:
        """What was kept of these streams. Groups that were added to the configuration owe nothing of what was read."""
        for key, stream in streams.items():
            body = self._mark(STREAM + key)
            if body is None:
                continue
            kept = msgspec.msgpack.decode(body, type=Stream)
            stream.last, stream.added = kept.last, kept.added
            stream.groups = {group: kept.groups.get(group, kept.last) for group in stream.groups}
            rows = self._file.execute("SELECT id, body FROM entries WHERE stream = ?", (key,))
            entries = ((id_of(name), msgspec.msgpack.decode(body, type=Owed)) for name, body in rows)
            stream.entries = dict(sorted(entries))

    def keep(self, changes: Mapping[Change, bytes | None]) -> None:
        """All of it or nothing; None takes an entry away. Raises `Unavailable`."""
        marks = [(name, body) for (stream, name), body in changes.items() if not stream]
        entries = [(stream, name, body) for (stream, name), body in changes.items() if stream]
        try:
            with closing(self._file.cursor()) as cursor:
                cursor.execute("BEGIN")
                cursor.executemany("REPLACE INTO marks VALUES (?, ?)", marks)
                cursor.executemany("REPLACE INTO entries VALUES (?, ?, ?)", _there(entries))
                gone = [(stream, name) for stream, name, body in entries if body is None]
                cursor.executemany("DELETE FROM entries WHERE stream = ? AND id = ?", gone)
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:  # or the next time could not begin one
                self._file.rollback()
            raise Unavailable(f"the cursor cannot be written: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._lock.close()

    def _mark(self, name: str) -> bytes | None:
        row = self._file.execute("SELECT body FROM marks WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])


def _there(entries: Iterable[tuple[str, str, bytes | None]]) -> list[tuple[str, str, bytes]]:
    return [(stream, name, body) for stream, name, body in entries if body is not None]


def change_of(streams: Mapping[str, Stream], stream: str, entry: Id | None) -> tuple[Change, bytes | None]:
    """What `keep` takes of a change of the books: an entry as it is now, or all of the stream but its entries."""
    found = streams[stream]
    if entry is None:
        return ("", STREAM + stream), msgspec.msgpack.encode(Stream(found.last, found.added, found.groups))
    owed = found.entries.get(entry)
    return (stream, id_text(entry)), None if owed is None else msgspec.msgpack.encode(owed)


def position_change(position: Position) -> tuple[Change, bytes]:
    """The same of a position."""
    return ("", POSITION), msgspec.msgpack.encode(tuple(position))
