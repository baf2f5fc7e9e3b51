"""PostgreSQL: `produce` from an outbox table, read from the write-ahead log by logical decoding (pgoutput).

What is committed is seen, in the order of commits, and what is rolled back is not, whatever the application does to
the row afterwards. The place is the slot's own: nothing is kept elsewhere, and a slot has one reader at a time.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from pydantic import Field, field_validator

from collectors.base import NOTHING_YET_MS, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import Unavailable, Undecodable
from collectors.part import Part, settings
from collectors.pgoutput import LSN, Begin, Commit, Note, Relation, Truncate, parsed
from collectors.postgres_rows import Place, Rows, Table
from collectors.postgres_slot import canary, made_ready, slot_name, sung
from collectors.postgres_stream import TIMEOUT, Stream, Wire, driver_errors
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

HOLE_TICKS = 10_000_000
"""How long a table of which changes were lost is not vouched for: longer than the time between two reports."""
SETTLE_TICKS = 250_000
"""A commit is dated a moment before it stands in the log; a canary that was sent then may stand before it."""
FEEDBACK_TICKS = 5_000_000
"""How often to say that we are here: a server cuts off whom it did not hear for a minute (`wal_sender_timeout`)."""
ROWS = b"IUDT"


class OutboxConfig(Part):
    """The `config` of a `postgres-outbox` collector; `docs/collectors/postgres.md` explains each key."""

    url: str
    tables: tuple[Table, ...] = Field(min_length=1)
    key: Literal["omit", "plain"] = "omit"
    node: str = ""
    region: str = ""
    look_every: float = Field(0.5, gt=0)
    read_mb: int = Field(16, ge=1)
    unbounded_wal: bool = False

    @field_validator("url")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("write postgresql://user:password@host:5432/database")
        return value


def outbox(name: str, config: Mapping[str, Any]) -> PostgresOutbox:
    """An outbox as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return PostgresOutbox(name, settings(OutboxConfig, config, f"collector {name}"))


class _Canary(msgspec.Struct):
    """A note that we wrote into the log at tick `at`: `answered` when the server said that it is there."""

    at: int
    answered: bool = False
    read: bool = False


class PostgresOutbox:
    """Reads what is committed to the configured tables. One thread at a time.

    `clock` dates our words to the server, `ticks` (microseconds, never jumping) measures the lag.
    """

    def __init__(self, name: str, config: OutboxConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self.slot = slot_name(name)
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        where = config.url.rpartition("@")[2].partition("?")[0].removeprefix("postgresql://")
        self._what = f"PostgreSQL {where}, slot {self.slot}"
        self._rows = Rows(config.tables, config.key == "plain", config.node, config.region)
        self._reading = _Reading()
        self._session = os.urandom(6).hex()
        self._wire: Wire | None = None
        self._stream: Stream | None = None
        self._canary: _Canary | None = None
        self._look_at = self._spoke_at = 0
        self._vouched_from: dict[str, int] = {}
        self._complete_to: int | None = None

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`. Changes come when their transaction is committed."""
        until = time.monotonic() + wait
        raws: list[Raw] = []
        size, most = 0, self._config.read_mb << 20
        with self._cut_off_on_errors():
            stream = self._connected()
            while len(raws) < limit and size < most:
                payload = stream.next(0.0 if raws else until - time.monotonic())
                if payload is None:
                    break
                raws += self._sorted_out(payload)
                size += len(payload)
            self._reading.passed(stream.reached)
            self._look()
            if stream.wants_word or self._ticks() - self._spoke_at >= FEEDBACK_TICKS:
                self._confirm(stream)
        return raws

    def decode(self, raw: Raw) -> list[Event]:
        """`produce` of a row that was written, `ack` of one that was relayed. Its time is that of the commit."""
        return self._rows.events_of(raw)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Everything up to the last of `raws` need not come again. Of a transaction that was not committed whole, all
        comes again."""
        for raw in raws:
            self._reading.done(raw.position)
        if self._stream:
            with self._cut_off_on_errors():
                self._confirm(self._stream)

    def sources(self) -> list[SourceRef]:
        """The tables. Left out: one of which changes are missing, until reading is known to be past that."""
        if self._stream is None:
            return []
        done = self._complete_to or 0
        self._vouched_from = {table: tick for table, tick in self._vouched_from.items() if done < tick}
        return [s for table in self._config.tables if table.table not in self._vouched_from for s in table.sources]

    def lag(self) -> Lag:
        """The age of the newest of our own notes in the log that reading has come to."""
        if self._complete_to is None:
            return Lag(NOTHING_YET_MS)
        return Lag(max(0, self._ticks() - self._complete_to) // 1000)

    def close(self) -> None:
        """Close the connections; nothing is committed. Closing again does nothing."""
        for connection in (self._stream, self._wire):
            if connection:
                connection.close()
        self._stream = self._wire = self._canary = None

    def _connected(self) -> Stream:
        if self._stream and self._wire:
            return self._stream
        self._wire = Wire(self._config.url, {"synchronous_commit": "local", "statement_timeout": f"{TIMEOUT:.0f}s"})
        ready = made_ready(self._wire, self.slot, self._config.tables, self._config.unbounded_wal)
        now = self._ticks()
        if ready.new:
            self._vouched_from |= {table.table: now for table in self._config.tables}
        self._vouched_from |= dict.fromkeys(ready.blind, now + HOLE_TICKS)
        self._reading = self._reading.again()
        self._stream = Stream(self._config.url, self.slot, self.slot)
        self._rows.node = self._rows.node or self._stream.system
        self._look_at = 0
        return self._stream

    def _sorted_out(self, payload: bytes) -> list[Raw]:
        if payload[:1] in ROWS:
            return self._reading.changes(payload)
        match parsed(payload):
            case Relation() as relation:
                self._reading.relations[relation.oid] = relation
            case Begin() as begin:
                self._reading.begin(begin)
            case Commit(end):
                self._reading.end(end)
            case Note(prefix, content) if prefix == self.slot:
                self._heard(content.decode(errors="replace"))
        return []

    def _look(self) -> None:
        """Send a canary when it is time, and see what the server says of the last one. All that was committed before it
        was sent stands before it in the log."""
        wire, now = self._wire, self._ticks()
        if wire is None:
            return
        if self._canary is None and now >= self._look_at:
            self._look_at = now + int(self._config.look_every * 1_000_000)
            self._canary = _Canary(now)
            wire.send(canary(self.slot, f"{self._session}:{now}"))
        asked = self._canary
        if asked and not asked.answered:
            answer = wire.answer(0.0)
            if answer is None and now - asked.at > TIMEOUT * 1_000_000:
                raise Unavailable(f"{self._what}: no answer within {TIMEOUT:g} s")
            if answer is not None:
                asked.answered = True
                self._published(sung(answer))
        if asked and asked.answered and asked.read:
            self._complete_to = max(self._complete_to or 0, asked.at - SETTLE_TICKS)
            self._canary = None

    def _heard(self, content: str) -> None:
        if self._canary and content == f"{self._session}:{self._canary.at}":
            self._canary.read = True

    def _published(self, tables: frozenset[str]) -> None:
        """A table that was dropped and made again is in no publication: what is written to it is not seen."""
        lacking = sorted({table.table for table in self._config.tables} - tables)
        if lacking:
            self._vouched_from |= dict.fromkeys(lacking, self._ticks() + HOLE_TICKS)
            raise Unavailable(f"{self._what}: {', '.join(lacking)} was dropped, or left its publication {self.slot}")

    def _confirm(self, stream: Stream) -> None:
        stream.confirm(self._reading.confirmable, self._clock())
        self._spoke_at = self._ticks()

    @contextmanager
    def _cut_off_on_errors(self) -> Iterator[None]:
        """Whatever goes wrong closes the connections: the next read makes new ones, and what was not committed comes
        again."""
        try:
            with driver_errors(self._what):
                yield
        except Undecodable as error:
            self.close()
            raise Unavailable(f"{self._what}: the stream is damaged: {error}") from error
        except BaseException:
            self.close()
            raise


class _Reading:
    """Where reading stands in the log, and what of it may be confirmed. Pure."""

    def __init__(self, committed: tuple[LSN, int] = (0, 0)) -> None:
        self.relations: dict[int, Relation] = {}
        self.confirmable: LSN = 0
        self._committed = committed
        self._last = (0, 0)
        self._begun: Begin | None = None
        self._count = 0
        self._ends: deque[tuple[tuple[LSN, int], LSN]] = deque()
        self._reached: LSN = 0

    def again(self) -> _Reading:
        """Of a new stream: it begins where the server knows we were."""
        return _Reading(self._committed)

    def begin(self, begin: Begin) -> None:
        """A transaction comes."""
        self._begun, self._count = begin, 0

    def changes(self, payload: bytes) -> list[Raw]:
        """A change of the transaction under way, as raw records: one, or one per table that was truncated."""
        begun = self._begun
        if begun is None:
            return []
        truncated = parsed(payload) if payload[:1] == b"T" else None
        oids = truncated.oids if isinstance(truncated, Truncate) else (int.from_bytes(payload[1:5], "big"),)
        raws = []
        for relation in (self.relations[oid] for oid in oids if oid in self.relations):
            self._count += 1
            self._last = (begun.lsn, self._count)
            raws.append(Raw(payload, position=Place(begun.lsn, self._count, begun.at, relation)))
        return raws

    def end(self, end: LSN) -> None:
        """The transaction was handed out whole."""
        if self._begun and self._count:
            self._ends.append(((self._begun.lsn, self._count), end))
        self._begun = None
        self.passed(end)

    def passed(self, lsn: LSN) -> None:
        """All in the log before `lsn` was handed out, or is none of ours."""
        if self._begun is None:
            self._reached = max(self._reached, lsn)
            self._settle()

    def done(self, place: Place) -> None:
        """The tracker has everything up to this change."""
        self._committed = max(self._committed, (place.lsn, place.index))
        self._settle()

    def _settle(self) -> None:
        while self._ends and self._ends[0][0] <= self._committed:
            self.confirmable = max(self.confirmable, self._ends.popleft()[1])
        if not self._ends and self._committed >= self._last:
            self.confirmable = max(self.confirmable, self._reached)
