"""Redis Streams: `persist`, `deliver`, `ack` and `drop` of entries, seen as a replica sees them; by polling where the
server lets nobody be one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import redis

from collectors.base import NOTHING_YET_MS, Content, Lag, Raw, Unavailable, Undecodable
from collectors.carried import digest_of
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, ConfigInvalid
from collectors.logs import logger
from collectors.part import settings
from collectors.redis.books import Books, Said
from collectors.redis.config import RedisConfig, address, shown, sources_of
from collectors.redis.cursor import Change, Cursor, change_of, position_change
from collectors.redis.entry import (
    Fields,
    Id,
    headers_of,
    id_of,
    id_text,
    offset_of,
    origin_of,
    packed,
    payload_of,
    said,
    unpacked,
)
from collectors.redis.link import Link, Position, Refused, listening
from collectors.redis.look import Since, client_errors, connected, entry_at, looked
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

TIMEOUT = 5.0
"""Seconds that an answer may take."""
LAST_WORDS = 0.1
"""Seconds in which the end of a connection shows that another one to the same server has met."""
PATIENCE = 2.0
"""Seconds after which a connection that still says something has not ended."""
MOST = 5_000
"""Observations that wait to be read, at most, but for those of one command."""
MOST_BYTES = 16 << 20
"""The same of their content."""
KEEP_TICKS = 1_000_000
"""How often to note where we are while nothing concerns us: the server forgets what we do not ask for in time."""
DELIVERED = "\0deliver"
"""Instead of a group: the deliveries of all of them."""
LONG_AGO = 1_262_304_000_000_000
"""Epoch µs, 2010: before there were streams."""


def streams(name: str, config: Mapping[str, Any]) -> RedisStreams:
    """A collector as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return RedisStreams(name, settings(RedisConfig, config, f"collector {name}"))


class Place(NamedTuple):
    """What `decode` and `commit` need of a raw: its number in this life, what was said, and, where it happened some
    time before it was read, after when (epoch µs)."""

    life: int
    number: int
    said: Said
    since: int | None


class _Probe(NamedTuple):
    """Asked at `tick`: the server had written up to `offset`, and these streams began with these entries."""

    tick: int
    wall: int
    offset: int
    firsts: dict[str, Id | None]


class RedisStreams:
    """The collector. One thread at a time. `clock` dates what is observed, `ticks` (µs, never jumping) measures the
    lag."""

    def __init__(self, name: str, config: RedisConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._name, self._config, self._clock, self._ticks = name, config, clock, ticks or steady()
        self._at = address(config.url)
        self._what = shown(self._at)
        self._db = int(self._at.get("db") or 0)
        self._parts = {part.stream: part for part in config.streams}
        self._hops = {(part.stream, group.group): group.hop for part in config.streams for group in part.groups}
        self._polled = config.watch == "poll"
        self._log = logger("collectors.redis").bind(collector=name)
        self._client = connected(config.url, TIMEOUT)
        self._life = 0
        self._cursor: Cursor | None = None
        self._link: Link | None = None
        self._server = ""
        self._ended = False
        self._complete_to: int | None = None
        self._complete_at = 0
        self._covered: dict[SourceRef, tuple[str, str]] = {}
        self._left_out: dict[tuple[str, str], int] = {}
        """(stream, group) of which something is missing -> the tick from which on it may be vouched for again; 0: it
        was not told yet."""
        self._clear()

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`."""
        until = time.monotonic() + wait
        while True:
            with self._cut_off_on_errors():
                self._step(max(0.0, until - time.monotonic()) if not self._waiting else 0.0)
            raws = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
            self._bytes -= sum(len(raw.value) for raw in raws)
            if not self._waiting:
                self._settled()
            if raws or time.monotonic() >= until:
                return raws

    def decode(self, raw: Raw) -> list[Event]:
        """One event. Raises `Undecodable`."""
        if not isinstance(raw.position, Place):
            raise Undecodable("an entry without its place")
        one, since = raw.position.said, raw.position.since
        part = self._parts[one.stream]
        where = f"{one.stream}/{id_text(one.entry)}"
        read_at = raw.observed_at or 0
        origin = origin_of(one.entry, read_at)
        event = Event(
            flow=part.flow,
            message_id=one.message_id,
            hop=self._hops[one.stream, one.group] if one.group else part.hop,
            stage=one.stage,
            reason=one.reason,
            observed_at=read_at,
            observed_from=None if since is None else min(read_at, max(since, origin or 0)),
            delivery=where if not one.group else _delivery(where, one),
            node=self._config.node,
            region=self._config.region,
            partition=one.stream,
            offset=offset_of(one.entry),
            group=one.group,
            attempt=one.attempt,
        )
        return [self._persisted(event, raw, where, origin) if one.stage is Stage.persist else event]

    def content(self, raw: Raw, event: Event) -> Content:
        """The message, as it stands in the payload's field; its other fields are the headers."""
        part, fields = self._parts[raw.position.said.stream], unpacked(raw.value)
        value = payload_of(fields, part.payload, self._config.identity_of(part.flow))
        return Content(None, value, headers_of(fields, part.payload))

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep where the last of these leaves us."""
        done = max((raw.position.number for raw in raws if raw.position.life == self._life), default=0)
        if self._cursor is not None and done > self._committed:
            self._keep(done)

    def sources(self) -> list[SourceRef] | None:
        """The streams and groups of which nothing is missing. None while that is not known: while we connect, or
        look."""
        if not self._covered:
            return None
        done = self._complete_to or 0
        for about, tick in list(self._left_out.items()):
            if tick and tick <= done:
                del self._left_out[about]
            elif not tick:
                self._left_out[about] = self._ticks()
        return [source for source, about in self._covered.items() if not self._missing(source, *about)]

    def lag(self) -> Lag:
        """Since we last asked the server how far it had come, and have read as far."""
        if self._complete_to is None:
            return Lag(NOTHING_YET_MS, len(self._waiting))
        return Lag(max(0, self._ticks() - self._complete_to) // 1000, len(self._waiting))

    def close(self) -> None:
        """Let go of connections and the cursor; nothing is committed."""
        self._disconnect()
        if self._cursor is not None:
            self._cursor.close()
        self._clear()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _missing(self, source: SourceRef, stream: str, group: str) -> bool:
        own = {(stream, ""), (stream, group)} | ({(stream, DELIVERED)} if source.stage == Stage.deliver else set())
        return not own.isdisjoint(self._left_out)

    def _clear(self) -> None:
        self._cursor = None
        self._position: Position | None = None
        self._kept_position: Position | None = None
        watched = {part.stream: [group.group for group in part.groups] for part in self._config.streams}
        noack = {(part.stream, group.group) for part in self._config.streams for group in part.groups if group.noack}
        self._books = Books(watched, frozenset(noack), self._id_of, self._entry_at)
        self._books.trimmed = set(self._parts)  # what was noted before this life is not known any more
        self._waiting: deque[Raw] = deque()
        self._bytes = 0
        self._journal: deque[tuple[int, dict[Change, bytes | None]]] = deque()
        self._number = self._committed = 0
        self._missed = False
        self._looking: Iterator[None] | None = None
        self._probe: _Probe | None = None
        self._passed: _Probe | None = None
        self._look_at = self._keep_at = 0

    def _step(self, wait: float) -> None:
        """Do what is next, waiting so long for the server at most."""
        if self._cursor is None:
            self._life += 1
            self._cursor = Cursor(self._config.cursor, self._name)
            self._cursor.restore(self._books.streams)
            self._position = self._kept_position = self._cursor.position
        if self._full():
            return
        if self._looking is not None:
            if self._link is not None:
                self._link.pump(0.0)
            while not self._full():
                if next(self._looking, self) is self:
                    self._looking = None
                    break
        elif self._polled:
            self._poll(wait)
        elif self._link is None:
            self._begin()
        elif not self._covered:
            self._answered(self._link, wait)
        else:
            self._follow(self._link, wait)

    def _begin(self) -> None:
        try:
            server = self._told()
            if self._config.watch == "auto" and "min_slaves_good_slaves" in server:
                raise Refused("min-replicas-to-write is set, and we would be counted")
            self._link = Link(self._at, self._position, TIMEOUT)
        except Refused as refused:
            if self._config.watch == "replica":
                raise ConfigInvalid(f"{self._what}: {refused}: grant PSYNC and REPLCONF, or `watch: poll`") from None
            self._log.warning("polling, for this server lets nobody be its replica", reason=str(refused))
            self._polled = True

    def _answered(self, link: Link, wait: float) -> None:
        answer = link.answer(wait)
        if answer is None:
            return
        told = self._told("server")
        before, self._server = self._server, str(told["run_id"])
        self._books.clustered = told.get("redis_mode") == "cluster"
        self._ended = self._ended and before != self._server  # else somebody on the way refused us
        if not answer.whole:
            self._position, self._ended = answer.position, False
            self._cover()
            return
        self._look_anew(answer.position)

    def _look_anew(self, now: Position) -> None:
        """Nobody tells what was written between where we were and `now`."""
        before, self._position = self._position, None  # until the look is done
        self._missed = self._missed or before is not None
        same = before is not None and before.history == now.history
        since: Since = "ended" if self._ended else "same" if same or not self._missed else "other"
        self._looking = self._looks(since, self._books.streams, now)

    def _looks(self, since: Since, keys: Iterable[str], then: Position | None) -> Iterator[None]:
        """Look at streams, one after the other; then we are at `then`, None: where we were."""
        asked, wall = self._ticks(), self._clock()
        for key in list(keys):
            if then is not None and self._missed and not self._polled:
                self._left_out[key, "" if since != "same" else DELIVERED] = 0
            about: Since = "replaced" if self._books.stale.get(key) else since
            for page in looked(self._client, self._books, key, about, self._config.from_ == "next"):
                self._say(page)
                yield
            self._say(())  # what changed behind the last page
            self._books.stale.pop(key, None)
        if then is not None:
            self._position, self._ended, self._missed = then, False, False
        if self._polled:
            self._passed = _Probe(asked, wall, 0, {})
        self._cover()

    def _cover(self) -> None:
        """From here on it is known what is vouched for."""
        if not self._covered:
            found: dict[SourceRef, tuple[str, str]] = {}
            for part in self._config.streams:
                found |= sources_of(part, self._polled)
            self._covered = found

    def _poll(self, wait: float) -> None:
        now = self._ticks()
        if now < self._look_at:
            time.sleep(min(wait, (self._look_at - now) / 1_000_000))
            return
        self._look_at = now + int(self._config.look_every * 1_000_000)
        self._look_anew(Position(str(self._told("server")["run_id"]), 0, 0))

    def _follow(self, link: Link, wait: float) -> None:
        """Take commands as they come, and ask how far the server is when it is time."""
        now = self._ticks()
        if self._probe is None and now >= self._look_at:
            self._look_at = now + int(self._config.look_every * 1_000_000)
            self._probe = self._probed(now)
        due = (self._look_at - now) / 1_000_000
        if not self._take(link) and not link.pump(min(wait, due)) and link.ended:
            raise Unavailable(f"{self._what}: the server closed the connection")
        self._take(link)
        if self._books.stale:
            self._looking = self._looks("same", self._books.stale, None)

    def _full(self) -> bool:
        return len(self._waiting) >= MOST or self._bytes >= MOST_BYTES

    def _take(self, link: Link, everything: bool = False) -> bool:
        """Whether there was a command."""
        some = False
        while (everything or not self._full()) and not self._books.stale:
            if self._probe is not None and link.offset >= self._probe.offset:
                self._reached(self._probe)
            words = link.next()
            if words is None:
                break
            some = True
            self._understood(words, link.offset)
        return some

    def _last_words(self) -> None:
        """Before the connection is let go: has the server ended, and have we read all that it said?"""
        link = self._link
        if link is None or not self._covered or self._looking is not None:
            return
        until = time.monotonic() + PATIENCE
        while link.pump(LAST_WORDS) and time.monotonic() < until:
            self._take(link, everything=True)
        if link.ended:
            self._take(link, everything=True)
            self._ended = not self._books.stale and self._is_gone()

    def _understood(self, words: list[bytes], offset: int) -> None:
        assert self._position is not None
        db = int(words[1]) if words[0].upper() == b"SELECT" else self._position.db
        self._position = Position(self._position.history, offset, db)
        try:
            found = self._books.apply(words, db == self._db)
        except (ValueError, IndexError):  # of a version that we do not know
            self._books.doubt(*self._parts)
            found = []
        if found or self._books.changed:
            self._say(found)

    def _reached(self, probe: _Probe) -> None:
        """We have read what the server had written when it was asked."""
        self._probe, self._passed = None, probe
        for key, first in probe.firsts.items():
            self._say(self._books.cut(key, first))

    def _probed(self, now: int) -> _Probe:
        """How far the server is, and with what streams begin that were trimmed by length: both at one moment."""
        wall, keys = self._clock(), sorted(self._books.trimmed)
        with self._client.pipeline(transaction=True) as asked:
            asked.info("replication")
            for key in keys:
                asked.xrange(key, count=1)
            info, *firsts = asked.execute()
        self._books.trimmed.clear()
        begin = {key: _first(found) for key, found in zip(keys, firsts, strict=True)}
        return _Probe(now, wall, int(info["master_repl_offset"]), begin)

    def _settled(self) -> None:
        """Everything that was found out has been returned: so far reading is complete."""
        if self._passed is not None:
            self._complete_to, self._complete_at, self._passed = self._passed.tick, self._passed.wall, None
        if self._number == self._committed and self._cursor is not None and self._ticks() >= self._keep_at:
            self._keep_at = self._ticks() + KEEP_TICKS
            self._keep(self._number)

    def _say(self, found: Iterable[Said]) -> None:
        """Observations, to be read; and what has to be kept once they were committed."""
        now = self._clock()
        late = now - self._complete_at > 2_000_000 * max(1.0, self._config.look_every)
        since = (self._complete_at or LONG_AGO) if late or self._looking is not None else None
        for one in found:
            self._number += 1
            value = b"" if one.fields is None else packed(one.fields)
            place = Place(self._life, self._number, one._replace(fields=None), since)
            self._waiting.append(Raw(value, position=place, observed_at=now))
            self._bytes += len(value)
        changed, self._books.changed = self._books.changed, set()
        changes = dict(change_of(self._books.streams, *each) for each in changed)
        if self._position is not None and self._looking is None:
            change, body = position_change(self._position)
            changes[change] = body
        self._journal.append((self._number, changes))
        for about in self._books.unsure:
            self._left_out[about] = 0
        self._books.unsure.clear()

    def _keep(self, number: int) -> None:
        assert self._cursor is not None
        changes: dict[Change, bytes | None] = {}
        while self._journal and self._journal[0][0] <= number:
            changes |= self._journal.popleft()[1]
        idle = number == self._number and self._looking is None and self._covered and self._position is not None
        if idle and self._position is not None and self._position != self._kept_position:
            change, body = position_change(self._position)
            changes[change], self._kept_position = body, self._position
        if changes:
            self._cursor.keep(changes)
        self._committed = number

    # -- the server ----------------------------------------------------------------------------------------------------

    def _told(self, section: str = "replication") -> dict[str, Any]:
        return dict(self._client.info(section))

    def _is_gone(self) -> bool:
        """Whether the server has ended: nobody listens there any more, or somebody else does."""
        self._client.close()
        try:
            return not listening(self._at) or str(self._told("server")["run_id"]) != self._server
        except (redis.RedisError, CollectorError, OSError):
            return False

    def _id_of(self, stream: str, fields: Fields) -> str:
        return said(fields, self._config.identity_of(self._parts[stream].flow)).message_id

    def _entry_at(self, stream: str, entry: Id) -> Fields | None:
        return entry_at(self._client, stream, entry)

    def _persisted(self, event: Event, raw: Raw, where: str, origin: int | None) -> Event:
        part, fields = self._parts[event.partition], unpacked(raw.value)
        identity = self._config.identity_of(part.flow)
        told, payload = said(fields, identity), payload_of(fields, part.payload, identity)
        if not told.message_id:
            raise Undecodable(f"flow {part.flow!r}: no message id (field {identity} empty) in entry {where}")
        return Event(
            flow=event.flow, message_id=told.message_id, hop=event.hop, stage=event.stage,
            observed_at=event.observed_at, observed_from=event.observed_from,
            origin_at=origin if told.origin_at is None else told.origin_at,
            delivery=where, node=event.node, region=event.region, digest=digest_of(payload), size=len(payload),
            partition=event.partition, offset=event.offset, attempt=told.attempt, trace_id=told.trace_id,
            span_id=told.span_id, correlation_id=told.correlation_id, causation_id=told.causation_id,
            replay_id=told.replay_id,
        )  # fmt: skip

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._probe is not None:
            self._books.trimmed |= self._probe.firsts.keys()
        self._link = self._looking = self._probe = None
        self._covered = {}
        self._client.close()

    @contextmanager
    def _cut_off_on_errors(self) -> Iterator[None]:
        """Whatever goes wrong closes the connections: the next read makes new ones and goes on behind what was read."""
        try:
            with client_errors(self._what):
                yield
        except CollectorError as error:
            with suppress(CollectorError):
                self._last_words()
            self._disconnect()
            if self._what in str(error):
                raise
            raise type(error)(f"{self._what}: {error}") from None
        except BaseException:
            self._disconnect()
            raise


def _first(found: Any) -> Id | None:
    return id_of(found[0][0]) if found else None


def _delivery(where: str, one: Said) -> str:
    """A hand-over by who has it and for the how manieth time; a group is done with an entry once."""
    return f"{where}:{one.group}:{one.consumer}:{one.attempt}" if one.attempt is not None else f"{where}:{one.group}"
