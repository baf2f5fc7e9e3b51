"""The store as one object: `Store.open(url)`, then write, ask, or run a pass on it."""

from __future__ import annotations

import secrets
import threading
from typing import Literal

import pyarrow as pa

from tracker.store.anomalies import Anomalies
from tracker.store.answers import Answers
from tracker.store.engine import Engine
from tracker.store.exceptions import Exceptions
from tracker.store.findings import Findings
from tracker.store.folding import Folding
from tracker.store.held import Held
from tracker.store.migrate import migrate
from tracker.store.order import Order
from tracker.store.passes import Passing
from tracker.store.quarantine import Quarantine
from tracker.store.recovery import Recovery
from tracker.store.settled import Settled
from tracker.store.timers import Timers
from tracker.store.vouched import Vouched
from tracker.store.writer import Writer

PROMISED = ("events", "ranges", "reports", "quarantine")
"""Tables whose rows were promised to somebody when an insert returns."""
CONCLUDED = (
    "states", "timers", "findings", "positions", "lines", "reordered", "coverage", "heard",
    "settled", "settled_hours", "latencies", "latency_hours", "unwatched", "anomalies",
)  # fmt: skip
"""What passes make of them. The control database, which is synced, says that a pass is done: what it left out would be
looked for by nobody."""


class Store(
    Anomalies,
    Answers,
    Exceptions,
    Findings,
    Folding,
    Held,
    Order,
    Passing,
    Quarantine,
    Recovery,
    Settled,
    Timers,
    Vouched,
):
    """An open ClickHouse store. Any thread may call it; calls block."""

    def __init__(self, engine: Engine, durability: Literal["fsync", "process"]) -> None:
        super().__init__(engine)
        self.engine = engine
        self._token = secrets.token_hex(4)
        self._durability = durability
        self._writer: Writer | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, url: str, durability: Literal["fsync", "process"] = "fsync") -> Store:
        """Connect to `chdb:///folder` or `clickhouse://user:password@host:port/database`.

        `fsync`: what an insert answered survives power loss; `process`: it survives `kill -9`.
        Raises Invalid for a URL that means nothing, Unavailable when nothing answers or the folder is held.
        """
        return cls(Engine.open(url), durability)

    def yielding(self) -> Store:
        """The same store for work that gives way to what others ask of an embedded engine; close it, too."""
        return Store(self.engine.yielding(), self._durability)

    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the migrations that were applied."""
        done = migrate(self.engine)
        sync = int(self._durability == "fsync")
        for table in PROMISED + CONCLUDED:
            self.engine.command(
                f"ALTER TABLE {self.engine.database}.{table} "
                f"MODIFY SETTING fsync_after_insert = {sync}, fsync_part_directory = {sync}"
            )
        return done

    def insert_events(self, columns: pa.Table) -> None:
        """Append events (`columns.EVENTS`); returns when they are durable."""
        self._write().insert_events(columns)

    def insert_ranges(self, columns: pa.Table) -> None:
        """Append range evidence (`columns.RANGES`); returns when it is durable."""
        self._write().insert_ranges(columns)

    def insert_reports(self, columns: pa.Table) -> None:
        """Append coverage reports (`columns.REPORTS`); call it after the events they vouch for were stored."""
        self._write().insert_reports(columns)

    def insert_quarantine(self, columns: pa.Table) -> None:
        """Append what could not be used (`columns.QUARANTINE`)."""
        self._write().insert_quarantine(columns)

    def _write(self) -> Writer:
        """The lane of this process; made on first use, since it needs the tables."""
        with self._lock:
            if self._writer is None:
                self._writer = Writer(self.engine)
            return self._writer

    def installation(self) -> str | None:
        """The installation that this ledger belongs to; None before `claim`."""
        rows = self.engine.rows(f"SELECT id FROM {self.engine.database}.installation ORDER BY id LIMIT 1")
        return rows[0]["id"] if rows else None

    def claim(self, installation: str) -> None:
        """This ledger belongs to that installation from now on."""
        self.engine.insert("installation", pa.table({"id": [installation]}))

    def ping(self) -> None:
        """Raises Unavailable when the engine does not answer."""
        self.engine.command("SELECT 1")

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.close()
