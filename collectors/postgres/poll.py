"""PostgreSQL: `produce` from an outbox table that is asked again and again, where logical decoding is not allowed.

Each row carries the number of its transaction (`xid8`), and each look at the table takes a snapshot: which transactions
have ended. What the last snapshot did not show and this one does was committed in between, in whatever order numbers
were given. A transaction that stays open hides its own rows and nothing else, and one that is rolled back leaves none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field, field_validator

from collectors.base import NOTHING_YET_MS, Content, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import Undecodable
from collectors.part import settings
from collectors.postgres.config import DatabaseConfig
from collectors.postgres.cursor import Cursor, Seen, keep, kept
from collectors.postgres.fit import placed, relations
from collectors.postgres.look import SESSION, Feed, Looked, Polled, feeds_of, look, page
from collectors.postgres.pgoutput import Lack, Relation
from collectors.postgres.rows import Columns, Rows, Table
from collectors.postgres.stream import TIMEOUT, Wire, driver_errors
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

KEEP_TICKS = 60_000_000
"""How often the cursor follows an outbox in which nothing happens."""
PAUSE = 0.05
"""Seconds between two thoughts whether it is time to look again."""


class PollConfig(DatabaseConfig):
    """The `config` of a `postgres-outbox-poll` collector; `docs/collectors/postgres.md` explains each key."""

    tables: tuple[Polled, ...] = Field(min_length=1)
    cursor: Path
    look_every: float = Field(1.0, gt=0)
    rows: int = Field(500, ge=1)

    @field_validator("tables")
    @classmethod
    def _agreeing(cls, value: tuple[Polled, ...]) -> tuple[Polled, ...]:
        columns = {table.table: table.tx for table in value}
        wrong = [table.table for table in value if columns[table.table] != table.tx]
        if wrong:
            raise ValueError(f"{wrong[0]} stands there with more than one `tx`")
        return value


def poll(name: str, config: Mapping[str, Any]) -> PolledOutbox:
    """An outbox as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return PolledOutbox(name, settings(PollConfig, config, f"collector {name}"))


class Place(msgspec.Struct, frozen=True):
    """A row that was read as the `number`th of this process: `cursor` is where reading stands behind it, `base` and
    `target` of which say when it was committed."""

    number: int
    cursor: Cursor
    feed: Feed
    relation: Relation


class PolledOutbox:
    """Reads what is committed to the configured tables. One thread at a time.

    `clock` dates what is seen, `ticks` (microseconds, never jumping) measures the lag. Where rows of a table may be
    missing it is left out of `sources` first, and reading goes on only when somebody has asked for these: by then its
    hole is known, and outlives this process. It is among them again when the first look behind the hole was read.
    """

    def __init__(self, name: str, config: PollConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._name, self._config, self._clock, self._ticks = name, config, clock, ticks or steady()
        self._what = f"PostgreSQL {config.where}"
        self._rows = Rows(config.tables, config.key == "plain", config.node, config.region)
        self._feeds = feeds_of(config.tables)
        self._relations: dict[str, Relation] = {}
        self._wire: Wire | None = None
        self._stands: Cursor | None = None
        self._untold: frozenset[str] = frozenset()
        self._resuming: frozenset[str] = frozenset()
        self._told = False
        self._number = self._committed = self._look_at = self._kept_at = 0
        self._asked: int | None = None
        self._complete_to: int | None = None

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`. A row comes with the first look after its transaction was committed."""
        until = time.monotonic() + wait
        with self._cut_off_on_errors():
            while True:
                stands = self._ready()
                if stands is not None and (raws := self._page(stands, min(limit, self._config.rows))):
                    return raws
                left = until - time.monotonic()
                if left <= 0:
                    return []
                time.sleep(min(left, PAUSE))

    def decode(self, raw: Raw) -> list[Event]:
        """`produce` of a row that was written, `ack` of one that was relayed: some time between two looks."""
        place = raw.position
        if not isinstance(place, Place) or place.cursor.target is None:
            raise Undecodable("a row without a place in a table")
        row, table = self._row(raw.value, place)
        if table is None or not place.feed.of(table):
            return []
        at = place.cursor.target.at
        since = min(place.cursor.base.since, at)  # the clock may have been set back between two looks
        return [self._rows.event(table, place.feed.stage, row, at, since)]

    def content(self, raw: Raw, event: Event) -> Content:
        """The message in the row. Raises `ConfigInvalid` where its payload is not configured."""
        row, table = self._row(raw.value, raw.position)
        assert table is not None, "an event was made of it"
        return row.content(table)

    def _row(self, value: bytes, place: Place) -> tuple[Columns, Table | None]:
        """The row that was read, and what is configured for it."""
        try:
            cells = msgspec.json.decode(value, type=list[str | None])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"{place.feed.table}: not a row: {error}") from None
        row = Columns(place.relation, [Lack.null if cell is None else cell for cell in cells])
        return row, next((t for t in self._rows.of(place.relation) if row.fits(t.where)), None)

    def commit(self, raws: Sequence[Raw]) -> None:
        """The cursor moves behind the last of these."""
        last = max((raw.position for raw in raws), key=lambda place: place.number, default=None)
        if last is not None and last.number > self._committed:
            self._keep(last.cursor)
            self._committed = last.number

    def sources(self) -> list[SourceRef]:
        """The tables. Left out: one of which rows may be missing."""
        self._told = True
        if self._stands is None:
            return []
        blind = self._untold | self._resuming
        return [s for table in self._config.tables if table.table not in blind for s in table.sources]

    def lag(self) -> Lag:
        """The age of the newest look of which all rows were given."""
        if self._complete_to is None:
            return Lag(NOTHING_YET_MS)
        return Lag(max(0, self._ticks() - self._complete_to) // 1000)

    def close(self) -> None:
        """Close the connection; nothing is committed. Closing again does nothing."""
        if self._wire:
            self._wire.close()
        self._wire = None

    def _ready(self) -> Cursor | None:
        """Where reading stands, with a target to read up to; None until it is time for the next one."""
        if self._wire is None:
            self._wire = Wire(self._config.url, SESSION | {"statement_timeout": f"{TIMEOUT:.0f}s"})
            self._relations = relations(self._wire, self._config.tables)
        elif self._stands and self._stands.target:
            return self._stands
        elif not self._untold and self._ticks() < self._look_at:
            return None
        asked = self._ticks()
        now = look(self._wire, list(self._relations), self._clock)
        placed(self._wire, self._feeds)  # behind the look: what it shows is among these
        self._rows.node = self._rows.node or now.server.partition("/")[0]
        before = self._stands or kept(self._config.cursor, self._name)
        missed = _missed(before, now)
        if not missed <= self._untold or (missed and not self._told):
            self._untold, self._told = missed, False
            return None
        if before is None or before.base.xmax > now.seen.xmax:
            before = Cursor(self._name, now.server, now.tables, now.seen)
        if before.target is None or missed:
            self._asked = asked
            before = msgspec.structs.replace(before, target=now.seen, feed="", tx=0, row="")
        self._stands = msgspec.structs.replace(before, server=now.server, tables=now.tables)
        if missed:
            self._keep(msgspec.structs.replace(self._stands, target=None))
            self._untold, self._resuming = frozenset(), self._resuming | missed
        return self._stands

    def _page(self, stands: Cursor, limit: int) -> list[Raw]:
        """The next rows of the round; none when it is over."""
        wire, target = self._wire, stands.target
        names = [feed.name for feed in self._feeds]
        if wire is None or target is None:
            return []
        for feed in self._feeds[names.index(stands.feed) if stands.feed in names else 0 :]:
            if stands.feed != feed.name:
                stands = msgspec.structs.replace(stands, feed=feed.name, tx=0, row="")
            relation = self._relations[feed.table]
            raws: list[Raw] = []
            for tx, row, *cells in page(wire, feed, relation.columns, stands, target, limit):
                self._number += 1
                stands = msgspec.structs.replace(stands, tx=int(tx or 0), row=row or "")
                place = Place(self._number, stands, feed, relation)
                raws.append(Raw(msgspec.json.encode(cells), position=place))
            self._stands = stands
            if raws:
                return raws
        self._over(stands, target)
        return []

    def _over(self, stands: Cursor, target: Seen) -> None:
        """All up to `target` was given."""
        self._stands = msgspec.structs.replace(stands, base=target, target=None, feed="", tx=0, row="")
        if self._asked is not None:
            self._complete_to, self._resuming = self._asked, frozenset()
        self._asked = None
        self._look_at = self._ticks() + int(self._config.look_every * 1_000_000)
        if self._number == self._committed and self._ticks() - self._kept_at >= KEEP_TICKS:
            self._keep(self._stands)

    def _keep(self, cursor: Cursor) -> None:
        keep(self._config.cursor, cursor)
        self._kept_at = self._ticks()

    @contextmanager
    def _cut_off_on_errors(self) -> Iterator[None]:
        """Whatever goes wrong closes the connection: the next read makes a new one, and goes on where this one was."""
        try:
            with driver_errors(self._what):
                yield
        except BaseException:
            self.close()
            raise


def _missed(before: Cursor | None, now: Looked) -> frozenset[str]:
    """The tables of which rows may have been missed: all at the first start, and where the server was set back or
    another took over, which may give numbers anew; and one that was made again, with what it held before."""
    if before is None or before.server != now.server or before.base.xmax > now.seen.xmax:
        return frozenset(now.tables)
    return frozenset(name for name, oid in now.tables.items() if before.tables.get(name, oid) != oid)
