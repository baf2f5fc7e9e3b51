"""Where polling of an outbox stands: a small file that outlives the process. It holds nothing back in the database.

What was read is told by a *snapshot*, PostgreSQL's own word for which transactions had ended at a moment (`xmin:xmax:`
and those between that had not, `pg_current_snapshot`). Numbers are given before transactions commit, so no single
number could tell it: one that is still open lies below others whose rows were read long ago.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from collectors.errors import ConfigInvalid, Unavailable


class Seen(msgspec.Struct, frozen=True):
    """What the server answered to one look: `snapshot`, taken between `since` and `at` (our clock, epoch µs)."""

    snapshot: str
    since: int
    at: int

    @property
    def xmin(self) -> int:
        """Transactions below this number had ended."""
        return int(self.snapshot.split(":")[0])

    @property
    def xmax(self) -> int:
        """Transactions from this number on had not begun."""
        return int(self.snapshot.split(":")[1])

    @property
    def open(self) -> tuple[int, ...]:
        """Transactions that had begun, and not ended, in order."""
        return tuple(sorted(int(number) for number in self.snapshot.split(":")[2].split(",") if number))


class Cursor(msgspec.Struct, frozen=True):
    """All that `base` shows was read; and of what `target` shows beyond it, the rows of the feed `feed` up to (`tx`,
    `row`), and those of the feeds before it. `server` and `tables` (name: oid) are what it was read of."""

    collector: str
    server: str
    tables: dict[str, int]
    base: Seen
    target: Seen | None = None
    feed: str = ""
    tx: int = 0
    row: str = ""


def kept(path: Path, collector: str) -> Cursor | None:
    """The cursor as it was written last; None where there is none. Raises `ConfigInvalid`."""
    try:
        cursor = msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigInvalid(
            f"cursor {path} cannot be read ({error}); without the file the collector begins anew, with a blind spot"
        ) from None
    if cursor.collector != collector:
        raise ConfigInvalid(f"cursor {path} is that of the collector {cursor.collector!r}: give each a file of its own")
    return cursor


def keep(path: Path, cursor: Cursor) -> None:
    """Write it; whoever is killed in the midst of that leaves the old one. Raises `Unavailable`."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(msgspec.json.encode(cursor))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise Unavailable(f"cursor {path} cannot be written: {error.strerror}") from error
