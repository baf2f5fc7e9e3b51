"""NATS JetStream: `persist` of what streams hold (`replicate` of what is copied from others), `ack` and its kin of what
durable consumers say, and `drop` of what a stream forgot before it was given to them.

Streams are read by the numbers of their messages; no consumer is made in them. Three things of our own stand beside
them: a bucket that keeps where we are, per followed consumer a stream that catches what it says, and where there are
such one stream that keeps what is not settled.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from collectors.base import NOTHING_YET_MS, Content, Lag, Observation, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.holes import Holes
from collectors.nats import acks, cursor
from collectors.nats.config import NatsConfig
from collectors.nats.consumer import Consumer
from collectors.nats.feed import Feed, Info, Stands, Stored
from collectors.nats.journal import Journal
from collectors.nats.link import NO_STREAM, Link, Refused
from collectors.nats.memory import Memory
from collectors.nats.records import Decoder, Gone, Place, Said, headers_of, place_of
from collectors.nats.unread import ALL
from collectors.nats.why import why_gone
from collectors.part import settings
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

PAUSE = 0.02
"""Seconds between two thoughts whether it is time to look again."""


def tail(name: str, config: Mapping[str, Any]) -> NatsTail:
    """A collector as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return NatsTail(name, settings(NatsConfig, config, f"collector {name}"))


class NatsTail:
    """Reads what the configured streams hold. One thread at a time.

    `clock` dates copies and what is gone, `ticks` (microseconds, never jumping) measures the lag. Where messages of a
    stream may have been missed it is left out of `sources`, until somebody has asked for these, and all that was there
    then has been read.
    """

    def __init__(self, name: str, config: NatsConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self._name, self._config, self._clock, self._ticks = name, config, clock, ticks or steady()
        self._decoder = Decoder(config)
        self._streams = {route.stream: Feed(route.stream) for route in config.streams}
        self._caught = {acks.stream_of(each): Consumer(each) for each in config.consumers}
        self._memory = Memory(config, self._caught.values())
        self._journal = Journal(name, self._memory, config.replicas)
        self._feeds = {**self._streams, **{name: each.feed for name, each in self._caught.items()}}
        self._kept: dict[str, Stands] | None = None
        self._ready: deque[Raw] = deque()
        self._came: dict[str, tuple[int, int, int]] = {}
        self._shown: dict[str, Info] = {}
        self._judged = 0
        self._holes = Holes[str]()
        self._link: Link | None = None
        self._look_at = self._asked = self._looked = 0
        self._complete_to: int | None = None

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`."""
        until = time.monotonic() + wait
        with self._cut_off_on_errors():
            while True:
                if raws := self._page(limit):
                    return raws
                if self._ticks() >= self._look_at:
                    self._look()
                elif (left := until - time.monotonic()) <= 0:
                    return []
                else:
                    time.sleep(min(left, PAUSE))

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """`persist` or `replicate` of a message; `ack`, `nack` or `dead_letter` of what was said of one; the range that
        is gone. Times are the server's, but for copies and what is gone."""
        return self._decoder.decode(raw)

    def content(self, raw: Raw, event: Event) -> Content:
        """The message; of a dead letter that the stream no longer holds nothing."""
        at = raw.position
        gone = isinstance(at, Said) and (at.known is None or not at.known.digest)
        return Content(None, None if gone else raw.value, raw.headers)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep where reading stands behind the last of each stream, and before that what is open there."""
        kept, now = dict(self._kept or {}), self._clock()
        for raw in raws:
            place = place_of(raw)
            before = kept.get(place.stream)
            if before is None or before.life != place.life:
                feed = self._feeds[place.stream]
                if feed.life != place.life:
                    continue  # of a stream that is no more
                before = Stands(place.life, 0)
            if not isinstance(raw.position, Gone) and place.seq > before.seq:
                before = Stands(place.life, place.seq, stored=place.at)
            kept[place.stream] = msgspec.structs.replace(before, at=now)
        if kept != self._kept:
            with self._cut_off_on_errors():
                link = self._connected()
                if self._caught:
                    kept |= self._journal.write(link, raws, {name: each.life for name, each in kept.items()}, now)
                cursor.stored(link, self._name, kept)
            self._kept = kept

    def sources(self) -> list[SourceRef] | None:
        """The streams, and the followed consumers. Left out: what is not there, and where messages may be missing. None
        until the first look."""
        if self._complete_to is None and not self._looked:
            return None
        vouched = self._shown.keys() - self._holes.told(self._complete_to or 0, self._ticks())
        found = [SourceRef(r.flow, r.hop, r.stage, r.stream) for r in self._config.streams if r.stream in vouched]
        found += [
            SourceRef(route.flow, each.followed.hop, Stage.ack.value, each.source)
            for name, each in self._caught.items()
            if name in vouched
            for route in self._config.streams
            if route.stream == each.followed.stream
        ]
        return sorted(set(found))

    def lag(self) -> Lag:
        """The age of the newest look of which all was read that was there."""
        backlog = len(self._ready) + sum(feed.left for feed in self._feeds.values())
        if self._complete_to is None:
            return Lag(NOTHING_YET_MS, backlog)
        return Lag(max(0, self._ticks() - self._complete_to) // 1000, backlog)

    def close(self) -> None:
        """Close the connection; nothing is committed. Closing again does nothing."""
        link, self._link = self._link, None
        if link:
            link.close()

    def _connected(self) -> Link:
        """The link. What we need of our own is made with it."""
        if self._link is None:
            self._link = link = Link(self._config, f"tracker.{self._name}")
            try:
                cursor.made(link, self._config.replicas)
                for each in self._config.consumers:
                    acks.made(link, each, self._config.keep_mb, self._config.replicas)
                if self._caught:
                    self._journal.made(link)
                if self._kept is None:
                    kept = cursor.loaded(link, self._name)
                    if self._caught:
                        self._journal.load(link, kept)
                    for name in kept.keys() & self._feeds.keys():
                        self._feeds[name].begin(kept[name])
                    self._kept = kept
            except Refused as error:
                raise ConfigInvalid(f"{error}; see what a collector needs in docs/collectors/nats.md") from None
        return self._link

    def _page(self, limit: int) -> list[Raw]:
        """What was found by the last look and not read yet: first the messages, then what was said of them."""
        if self._ready:
            return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        link = self._link
        feed = next((feed for feed in self._feeds.values() if feed.left), None)
        if link is None:
            return []
        if feed is None:
            if self._judged != self._asked:
                self._judged = self._asked
                self._ready.extend(self._gone())
                return self._page(limit)
            if self._asked:
                self._complete_to = max(self._complete_to or 0, self._asked)
            return []
        most = self._config.read_mb << 20
        consumer = self._caught.get(feed.stream)
        if consumer:  # each may need its message
            limit = min(limit, max(1, most // self._streams[consumer.followed.stream].size))
        began = feed.next
        try:
            found, missing = feed.page(link, limit, most)
            if missing:
                self._unheard(feed.stream)
            return self._said(link, consumer, found) if consumer else [self._stored(feed, each) for each in found]
        except CollectorError:
            feed.next = began  # nobody was given these
            raise

    def _stored(self, feed: Feed, stored: Stored) -> Raw:
        headers = headers_of(stored.hdrs)
        self._memory.stored(feed.stream, stored, headers)
        place = Place(feed.stream, feed.life, stored.seq, stored.at, stored.subject)
        if not self._config.copies:
            return Raw(stored.data, headers, None, place, stored.at)
        last, since, at = self._came[feed.stream]
        since = since if stored.seq > last else min(stored.at, at)  # it was there when we first looked
        return Raw(stored.data, headers, None, msgspec.structs.replace(place, came=(since, at)), at)

    def _said(self, link: Link, consumer: Consumer, found: Sequence[Stored]) -> list[Raw]:
        """What a consumer said, each with the message that it was said of."""
        feed, followed = consumer.feed, consumer.followed
        places = [Place(feed.stream, feed.life, each.seq, each.at) for each in found]
        said = [acks.said(each.subject, each.data, at, followed) for each, at in zip(found, places, strict=True)]
        asked = sorted({one.seq for one in said if one.stage and (one.whole or not self._memory.meant(one))})
        there = dict(zip(asked, self._streams[followed.stream].get(link, asked), strict=True))
        raws = [self._with_message(one, each, there.get(one.seq)) for one, each in zip(said, found, strict=True)]
        for one in said:
            self._memory.said(one)
        return raws

    def _with_message(self, said: Said, caught: Stored, stored: Stored | None) -> Raw:
        """What was said, with the message where that was asked for: an archive keeps dead letters whole."""
        known = self._memory.shown(said, stored) if stored is not None else None
        if stored is not None and known is not None:
            headers = headers_of(stored.hdrs)
            return Raw(stored.data, headers, None, msgspec.structs.replace(said, known=known), caught.at)
        remembered = self._memory.meant(said)
        if remembered is not None and said.whole:
            remembered = msgspec.structs.replace(remembered, digest="")
        if remembered is None and said.stage:
            self._holes.add(said.place.stream)
        return Raw(b"", {}, None, msgspec.structs.replace(said, known=remembered), caught.at)

    def _look(self) -> None:
        """Ask what there is: first of what was said, so that what it was said of is there."""
        link, asked, at = self._connected(), self._ticks(), self._clock()
        self._look_at = asked + int(self._config.look_every * 1_000_000)
        caught = {name: self._info(link, name) for name in self._caught}
        lost = [name for name, info in caught.items() if info is None]
        if lost:  # nothing is caught meanwhile: to judge now would be to call what is acked lost
            raise Unavailable(f"{link.what}: {', '.join(lost)}, which is ours, was removed, and is made again")
        there = {name: self._info(link, name) for name in self._streams}
        for each in self._caught.values():
            each.look(link)
        self._shown = {name: info for name, info in {**caught, **there}.items() if info is not None}
        for name, info in self._shown.items():
            feed, last = self._feeds[name], self._feeds[name].end
            remade = feed.remade(link, info)
            if remade and name in self._streams:
                self._forget(name)
            if feed.found(info, self._beginning(name, info), remade):
                self._unheard(name)
            self._came[name] = (last if name in self._came else info.state.last_seq, self._looked or at, at)
        self._keep_beginnings(link)
        self._asked, self._looked = asked, at
        if not self._shown.keys() & self._streams.keys():
            raise Unavailable(f"{link.what}: none of the streams exists: {', '.join(self._streams)}")

    def _beginning(self, name: str, info: Info) -> int:
        """Where to begin at the first start. What a consumer was given before we caught what it says may be acked."""
        if name in self._caught:
            return 1
        begin = 1 if self._config.from_ == "first" else info.state.last_seq + 1
        return max([begin, *(c.reached + 1 for c in self._caught.values() if c.followed.stream == name)])

    def _keep_beginnings(self, link: Link) -> None:
        """Where reading began is kept at once: a start before the first commit must not begin somewhere else."""
        kept = self._kept or {}
        fresh = {
            name: Stands(feed.life, feed.next - 1, at=self._clock())
            for name, feed in self._feeds.items()
            if feed.life and name not in kept
        }
        if fresh:
            self._kept = {**kept, **fresh}
            cursor.stored(link, self._name, self._kept)

    def _gone(self) -> Iterator[Raw]:
        """What the streams forgot and some consumer will never get, when all was read that the last look showed."""
        for name, info in self._shown.items():
            if name not in self._streams:
                continue
            feed, first = self._streams[name], max(1, info.state.first_seq)
            _, since, at = self._came[name]
            if since == at and self._kept:  # our first look: it happened since we were here
                since = self._kept[name].at
            why, place = why_gone(info, at, self._config.look_every), Place(name, feed.life, first)
            for start, end in self._memory.gone(name, first, self._asked):
                yield Raw(b"", {}, None, Gone(place, start, end, why, since), at)

    def _info(self, link: Link, stream: str) -> Info | None:
        """None where there is no such stream."""
        try:
            return msgspec.convert(link.ask(f"STREAM.INFO.{stream}"), Info)
        except Refused as error:
            if error.code != NO_STREAM:
                raise Unavailable(str(error)) from None
            return None

    def _unheard(self, name: str) -> None:
        """Something of the stream was not read. If it is what a consumer said, that may have been of anything there."""
        self._holes.add(name)
        followed = self._caught[name].followed if name in self._caught else None
        if followed is not None and followed.stream in self._shown:
            end = self._shown[followed.stream].state.last_seq + 1
            self._forget(followed.stream, followed.consumer, end)

    def _forget(self, stream: str, consumer: str = "", end: int = ALL) -> None:
        """What the consumer (empty: each) owes of what is before `end` will not be called lost."""
        self._memory.forget(stream, consumer, end)
        self._journal.forget(stream, consumer, end)

    @contextmanager
    def _cut_off_on_errors(self) -> Iterator[None]:
        """Whatever goes wrong closes the connection: the next read makes a new one, and goes on where this one was."""
        try:
            yield
        except CollectorError:
            self.close()
            raise
