"""PostgreSQL: `produce` from an outbox table, read from the write-ahead log by logical decoding (pgoutput).

What is committed is seen, in the order of commits, and what is rolled back is not, whatever the application does to
the row afterwards. The place is the slot's own: nothing is kept elsewhere, and a slot has one reader at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field

from collectors.base import NOTHING_YET_MS, Content, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import ConfigInvalid, Unavailable, Undecodable
from collectors.part import settings
from collectors.postgres.config import DatabaseConfig
from collectors.postgres.known import Known, Memory
from collectors.postgres.leaving import Leaving
from collectors.postgres.pgoutput import Begin, Commit, Note, Relation, parsed
from collectors.postgres.publication import canary, signs_of, sung
from collectors.postgres.reading import Reading
from collectors.postgres.rows import PARTED, Rows, Table
from collectors.postgres.slot import Work, confirmed, horizon, looked, made, make, publish, refused, slot_name
from collectors.postgres.stream import TIMEOUT, Answer, Stream, Wire, driver_errors
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

REPAIRED = 1 << 62
"""A tick that never comes: until what a table lacks was mended."""
UNREAD_TICKS = 60_000_000
"""A note that the server has answered is read within this time, where anything is read at all."""
SETTLE_TICKS = 250_000
"""A commit is dated a moment before it stands in the log; a canary that was sent then may stand before it."""
PAUSE = 0.05
"""Seconds between two looks whether a hole was told of."""
FEEDBACK_TICKS = 5_000_000
"""How often to say that we are here: a server cuts off whom it did not hear for a minute (`wal_sender_timeout`)."""
ROWS = b"IUDT"


class OutboxConfig(DatabaseConfig):
    """The `config` of a `postgres-outbox` collector; `docs/collectors/postgres.md` explains each key."""

    tables: tuple[Table, ...] = Field(min_length=1)
    look_every: float = Field(0.5, gt=0)
    read_mb: int = Field(16, ge=1)
    unbounded_wal: bool = False


def outbox(name: str, config: Mapping[str, Any], folder: Path | None = None) -> PostgresOutbox:
    """An outbox as the configuration file describes it; `folder`: the collector's own. Raises `ConfigInvalid` that
    names the key."""
    return PostgresOutbox(name, settings(OutboxConfig, config, f"collector {name}"), folder)


class _Canary(msgspec.Struct):
    """A note that we wrote into the log at tick `at`. `ended`, once the server answered: transactions below this number
    had ended then."""

    at: int
    ended: int | None = None
    read: bool = False


class PostgresOutbox:
    """Reads what is committed to the configured tables. One thread at a time.

    `clock` dates our words to the server, `ticks` (microseconds, never jumping) measures the lag.

    Where changes of a table may be missing, it is left out of `sources` first, and what is missing is made only once
    somebody has asked for these: by then its hole is known, and outlives this process.
    """

    def __init__(
        self,
        name: str,
        config: OutboxConfig,
        folder: Path | None = None,
        clock: Clock = now_micros,
        ticks: Clock | None = None,
    ) -> None:
        self.slot = slot_name(name)
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        self._what = f"PostgreSQL {config.where}, slot {self.slot}"
        self._rows = Rows(config.tables, config.key == "plain", config.node, config.region)
        self._reading, self._leaving = Reading(0), self._emptied()
        self._session = os.urandom(6).hex()
        self._wire: Wire | None = None
        self._work: Work | None = None
        self._making = False
        self._stream: Stream | None = None
        self._open_until = 0
        self._canary: _Canary | None = None
        self._look_at = self._spoke_at = self._read_at = 0
        self._vouched_from: dict[str, int] = {}
        self._memory = Memory(folder)
        self._told = False
        self._complete_to: int | None = None

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`. Changes come when their transaction is committed."""
        until = time.monotonic() + wait
        raws: list[Raw] = []
        size, most = 0, self._config.read_mb << 20
        with self._cut_off_on_errors():
            stream = self._connected(wait)
            if stream is None:
                return []
            while len(raws) < limit and size < most:
                payload = self._leaving.get()
                if payload is not None:
                    raws += self._sorted_out(payload)
                    continue
                payload = stream.next(0.0 if raws else until - time.monotonic())
                if payload is None:
                    break
                self._leaving.put(payload)
                size += len(payload)
            if size:
                self._read_at = self._ticks()
            self._reading.passed(stream.reached)
            if stream.wants_word or self._ticks() - self._spoke_at >= FEEDBACK_TICKS:
                self._confirm(stream)
            self._look()  # last: when it fails, these rows come again, and nothing beyond them was vouched for
        return raws

    def decode(self, raw: Raw) -> list[Event]:
        """`produce` of a row that was written, `ack` of one that was relayed. Its time is that of the commit."""
        return self._rows.events_of(raw)

    def content(self, raw: Raw, event: Event) -> Content:
        """The message in the row. Raises `ConfigInvalid` where its payload is not configured."""
        return self._rows.content(raw)

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
        done = self._complete_to or 0
        self._vouched_from = {table: tick for table, tick in self._vouched_from.items() if done < tick}
        if self._wire is None and self._complete_to is None:
            return []
        self._told = True
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
        self._stream = self._wire = self._canary = self._work = None
        self._making = False

    def _connected(self, wait: float) -> Stream | None:
        """The stream; None while what it needs is being made."""
        if self._stream:
            return self._stream
        if self._wire is None or self._work is None:
            self._wire = Wire(self._config.url, {"synchronous_commit": "local", "statement_timeout": f"{TIMEOUT:.0f}s"})
            config = self._config
            self._work = looked(self._wire, self.slot, config.tables, config.unbounded_wal, self._memory.known)
            self._vouched_from |= dict.fromkeys(self._work.blind, REPAIRED)
            self._told = False
        wire, work = self._wire, self._work
        if work.blind and not self._told:
            time.sleep(min(wait, PAUSE))
            return None
        refused(self.slot, work)
        if work.blind and not self._making:
            publish(wire, self.slot, work)
            if work.makes_slot:
                make(wire, self.slot)
            self._making = True
        if work.makes_slot and not made(wire, self.slot, wait):
            return None
        return self._begun(wire, work)

    def _begun(self, wire: Wire, work: Work) -> Stream:
        """A stream from where the server knows we were. Transactions that are under way may have begun before a table
        was published, and are not decoded then: nothing is vouched for until they have ended."""
        now = self._ticks()
        signs = signs_of(wire, self.slot, self._config.tables) if work.lacking or work.makes_slot else work.signs
        self._memory.remember(Known(confirmed(wire, self.slot), signs))
        self._vouched_from = {table: min(tick, now) for table, tick in self._vouched_from.items()}
        self._open_until = horizon(wire)
        self._reading, self._leaving = Reading(self._reading.stream + 1), self._emptied()
        self._stream = Stream(self._config.url, self.slot, self.slot)
        self._rows.node = self._rows.node or self._stream.system
        self._look_at, self._read_at, self._work = 0, now, work
        return self._stream

    def _emptied(self) -> Leaving:
        return Leaving(self._leaves, self._config.read_mb << 20)

    def _leaves(self, payload: bytes) -> Hashable | None:
        relation = self._reading.relations.get(int.from_bytes(payload[1:5], "big"))
        return None if relation is None else self._rows.leaves(payload, relation)

    def _sorted_out(self, payload: bytes) -> list[Raw]:
        if payload[:1] in ROWS:
            return self._reading.changes(payload)
        match parsed(payload):
            case Relation() as relation:
                self._note_table(relation)
            case Begin() as begin:
                self._reading.begin(begin)
            case Commit(end):
                self._reading.end(end)
            case Note(prefix, content) if prefix == self.slot:
                self._heard(content.decode(errors="replace"))
        return []

    def _note_table(self, relation: Relation) -> None:
        """What a table looks like from here on. Others than ours are passed over."""
        for table in self._rows.of(relation):
            lacking = sorted(set(table.columns) - set(relation.columns))
            if lacking:
                raise ConfigInvalid(
                    f"{self._what}: table {table.table} has no column {', '.join(map(repr, lacking))} any more, or "
                    "they are not published: correct `tables`; its rows since then are read at the next start"
                )
            parted = self._work is not None and table.table in self._work.partitioned
            known = msgspec.structs.replace(relation, identity=PARTED) if parted else relation
            self._reading.relations[relation.oid] = known

    def _look(self) -> None:
        """Send a canary when it is time, and see what the server says of the last one. All that was committed before it
        was sent stands before it in the log."""
        wire, now = self._wire, self._ticks()
        if wire is None:
            return
        if self._canary is None and now >= self._look_at:
            self._look_at = now + int(self._config.look_every * 1_000_000)
            self._canary = _Canary(now)
            wire.send(canary(self.slot, f"{self._session}:{now}", self._config.tables))
        asked = self._canary
        if asked is None:
            return
        if asked.ended is None:
            answer = wire.answer(0.0)
            if answer is None and now - asked.at > TIMEOUT * 1_000_000:
                raise Unavailable(f"{self._what}: no answer within {TIMEOUT:g} s")
            asked.ended = self._all_published(answer) if answer else None
        elif not asked.read and now - max(asked.at, self._read_at) > UNREAD_TICKS:
            raise Unavailable(f"{self._what}: the stream is silent, though there is something to read")
        if asked.ended is not None and asked.read:
            self._canary = None
            if asked.ended >= self._open_until:
                self._complete_to = max(self._complete_to or 0, asked.at - SETTLE_TICKS)

    def _heard(self, content: str) -> None:
        if self._canary and content == f"{self._session}:{self._canary.at}":
            self._canary.read = True

    def _all_published(self, answer: Answer) -> int:
        """Transactions below this number have ended. A table that was dropped and made again is in no publication: what
        is written to it is not seen."""
        ended, lacking = sung(answer, self._config.tables, self._memory.known.signs)
        if lacking:
            raise Unavailable(
                f"{self._what}: {', '.join(lacking)} was dropped, left its publication {self.slot}, came back to it, "
                "or has a part that is not in the log"
            )
        return ended

    def _confirm(self, stream: Stream) -> None:
        lsn, known = self._reading.confirmable, self._memory.known
        self._memory.remember(Known(max(lsn, known.confirmed), known.signs))  # first: it must never be behind
        stream.confirm(lsn, self._clock())
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
