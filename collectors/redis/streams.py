"""Redis Streams: `persist`, `deliver`, `ack` and `drop` of entries, seen as a replica sees them; by polling where the
server lets nobody be one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis

from collectors.base import NOTHING_YET_MS, Content, Lag, Raw, Unavailable
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, ConfigInvalid
from collectors.logs import logger
from collectors.part import settings
from collectors.redis.books import Books, Said
from collectors.redis.commands import Commands
from collectors.redis.config import RedisConfig, address, shown
from collectors.redis.cursor import Cursor, change_of, position_change
from collectors.redis.decoder import Decoder
from collectors.redis.entry import Fields, Id
from collectors.redis.link import Link, Position, Refused, listening
from collectors.redis.look import Since, client_errors, connected, entry_at, looked
from collectors.redis.probe import Probe, probed
from collectors.redis.vouched import DELIVERED, Vouched
from collectors.redis.waiting import Waiting
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

TIMEOUT = 5.0
"""Seconds that an answer may take."""
LAST_WORDS = 0.1
"""Seconds in which the end of a connection shows that another one to the same server has met."""
PATIENCE = 2.0
"""Seconds after which a connection that still says something has not ended."""
KEEP_TICKS = 1_000_000
"""How often to note where we are while nothing concerns us: the server forgets what we do not ask for in time."""
LONG_AGO = 1_262_304_000_000_000
"""Epoch µs, 2010: before there were streams."""


def streams(name: str, config: Mapping[str, Any]) -> RedisStreams:
    """A collector as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return RedisStreams(name, settings(RedisConfig, config, f"collector {name}"))


class RedisStreams:
    """The collector. One thread at a time. `clock` dates what is observed, `ticks` (µs, never jumping) measures the
    lag."""

    def __init__(self, name: str, config: RedisConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._name, self._config, self._clock, self._ticks = name, config, clock, ticks or steady()
        self._at = address(config.url)
        self._what = shown(self._at)
        self._db = int(self._at.get("db") or 0)
        self._decoder = Decoder(config)
        self._polled = config.watch == "poll"
        self._log = logger("collectors.redis").bind(collector=name)
        self._client = connected(config.url, TIMEOUT)
        self._life = 0
        self._cursor: Cursor | None = None
        self._link: Link | None = None
        self._server = ""
        self._ended = self._heir = ""  # the server that ended when all that it said was read; the next one
        self._complete_to: int | None = None
        self._complete_at = 0
        self._vouched = Vouched()
        self._clear()

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`."""
        until = time.monotonic() + wait
        while True:
            with self._cut_off_on_errors():
                self._step(max(0.0, until - time.monotonic()) if not self._waiting else 0.0)
            raws = self._waiting.take(limit)
            if not self._waiting:
                self._settled()
            if raws or time.monotonic() >= until:
                return raws

    def decode(self, raw: Raw) -> list[Event]:
        """One event. Raises `Undecodable`."""
        return [self._decoder.event(raw)]

    def content(self, raw: Raw, event: Event) -> Content:
        """The message, as it stands in the payload's field; its other fields are the headers."""
        return self._decoder.content(raw)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep where the last of these leaves us."""
        done = self._waiting.newest(raw.position for raw in raws)
        if self._cursor is not None and done > self._waiting.committed:
            self._keep(done)

    def sources(self) -> list[SourceRef] | None:
        """The streams and groups of which nothing is missing. None while that is not known: while we connect, or
        look."""
        return self._vouched.told(self._complete_to or 0, self._ticks())

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

    def _clear(self) -> None:
        self._cursor = None
        self._position: Position | None = None
        self._kept_position: Position | None = None
        watched = {part.stream: [group.group for group in part.groups] for part in self._config.streams}
        noack = {(part.stream, group.group) for part in self._config.streams for group in part.groups if group.noack}
        self._books = Books(watched, frozenset(noack), self._decoder.message_id, self._entry_at)
        self._commands = Commands(self._books)
        self._books.trimmed = set(watched)  # what was noted before this life is not known any more
        self._life += 1
        self._waiting = Waiting(self._life)
        self._missed = False
        self._looking: Iterator[None] | None = None
        self._probe: Probe | None = None
        self._passed: Probe | None = None
        self._look_at = self._keep_at = 0

    def _step(self, wait: float) -> None:
        """Do what is next, waiting so long for the server at most."""
        if self._cursor is None:
            self._cursor = Cursor(self._config.cursor, self._name)
            self._cursor.restore(self._books.streams)
            self._position = self._kept_position = self._cursor.position
        if self._waiting.full:
            return
        if self._looking is not None:
            if self._link is not None:
                self._link.pump(0.0)
            while not self._waiting.full:
                if next(self._looking, self) is self:
                    self._looking = None
                    break
        elif self._polled:
            self._poll(wait)
        elif self._link is None:
            self._begin()
        elif not self._vouched.known:
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
        self._server = str(told["run_id"])
        self._commands.clustered = told.get("redis_mode") == "cluster"
        self._heir = self._heir or self._server
        if self._ended == self._server or self._heir != self._server:
            self._ended = ""  # somebody on the way refused us, or there was a server between the two
        if not answer.whole:
            self._position, self._ended = answer.position, ""
            self._vouched.begin(self._config, self._polled)
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
                self._vouched.leave_out((key, "" if since != "same" else DELIVERED))
            about: Since = "replaced" if self._books.stale.get(key) else since
            for page in looked(self._client, self._books, key, about, self._config.from_ == "next"):
                self._say(page)
                yield
            self._say(())  # what changed behind the last page
            self._books.stale.pop(key, None)
        if then is not None:
            self._position, self._ended, self._missed = then, "", False
        if self._polled:
            self._passed = Probe(asked, wall)
        self._vouched.begin(self._config, self._polled)

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
            self._probe = probed(self._client, self._books.trimmed, now, self._clock())
            self._books.trimmed.clear()
        due = (self._look_at - now) / 1_000_000
        if not self._take(link) and not link.pump(min(wait, due)) and link.ended:
            raise Unavailable(f"{self._what}: the server closed the connection")
        self._take(link)
        if self._books.stale:
            self._looking = self._looks("same", self._books.stale, None)

    def _take(self, link: Link, everything: bool = False) -> bool:
        """Whether there was a command."""
        some = False
        while (everything or not self._waiting.full) and not self._books.stale:
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
        if link is None or not self._vouched.known or self._looking is not None:
            return
        until = time.monotonic() + PATIENCE
        while link.pump(LAST_WORDS) and time.monotonic() < until:
            self._take(link, everything=True)
        if link.ended:
            self._take(link, everything=True)
            self._ended, self._heir = self._server if not self._books.stale and self._is_gone() else "", ""

    def _understood(self, words: list[bytes], offset: int) -> None:
        assert self._position is not None
        db = int(words[1]) if words[0].upper() == b"SELECT" else self._position.db
        self._position = Position(self._position.history, offset, db)
        try:
            found = self._commands.apply(words, db == self._db)
        except (ValueError, IndexError):  # of a version that we do not know
            self._books.doubt(*self._books.streams)
            found = []
        if found or self._books.changed:
            self._say(found)

    def _reached(self, probe: Probe) -> None:
        """We have read what the server had written when it was asked."""
        self._probe, self._passed = None, probe
        for key, first in probe.firsts.items():
            self._say(self._books.cut(key, first))

    def _settled(self) -> None:
        """Everything that was found out has been returned: so far reading is complete."""
        if self._passed is not None:
            self._complete_to, self._complete_at, self._passed = self._passed.tick, self._passed.wall, None
        waiting = self._waiting
        if waiting.number == waiting.committed and self._cursor is not None and self._ticks() >= self._keep_at:
            self._keep_at = self._ticks() + KEEP_TICKS
            self._keep(waiting.number)

    def _say(self, found: Iterable[Said]) -> None:
        """Observations, to be read; and what has to be kept once they were committed."""
        now = self._clock()
        late = now - self._complete_at > 2_000_000 * max(1.0, self._config.look_every)
        since = (self._complete_at or LONG_AGO) if late or self._looking is not None else None
        said = list(found)  # the books change while it is found
        changed, self._books.changed = self._books.changed, set()
        changes = dict(change_of(self._books.streams, *each) for each in changed)
        if self._position is not None and self._looking is None:
            change, body = position_change(self._position)
            changes[change] = body
        self._waiting.add(said, now, since, changes)
        self._vouched.leave_out(*self._books.unsure)
        self._books.unsure.clear()

    def _keep(self, number: int) -> None:
        assert self._cursor is not None
        changes, position = self._waiting.due(number), self._position
        idle = number == self._waiting.number and self._looking is None and self._vouched.known
        if idle and position is not None and position != self._kept_position:
            change, body = position_change(position)
            changes[change] = body
        if changes:
            self._cursor.keep(changes)
        self._kept_position = position if idle else self._kept_position
        self._waiting.commit(number)

    # -- the server ----------------------------------------------------------------------------------------------------

    def _told(self, section: str = "replication") -> dict[str, Any]:
        return dict(self._client.info(section))

    def _is_gone(self) -> bool:
        """Whether the server has ended: nobody listens there any more, or somebody else does. One that is about to end
        takes connections for a moment longer, and answers nothing."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self._client.close()
            with suppress(redis.RedisError, CollectorError, OSError):
                return not listening(self._at) or str(self._told("server")["run_id"]) != self._server
            time.sleep(LAST_WORDS)
        return False

    def _entry_at(self, stream: str, entry: Id) -> Fields | None:
        return entry_at(self._client, stream, entry)

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._probe is not None:
            self._books.trimmed |= self._probe.firsts.keys()
        self._link = self._looking = self._probe = None
        self._vouched.end()
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
