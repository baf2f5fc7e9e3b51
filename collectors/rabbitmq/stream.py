"""RabbitMQ streams: `persist` of every message with its offset, read over AMQP 0-9-1.

A reader of a stream takes nothing away and is nobody's rival. Where we stand is kept in a queue of our own
(`collectors.rabbitmq.cursor`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pika

from collectors.base import Content, Lag, Observation, Raw, Undecodable
from collectors.clock import elapsed, now_micros
from collectors.errors import CollectorError
from collectors.rabbitmq.config import StreamConfig, stream_config
from collectors.rabbitmq.connect import closed, opened, parameters, working
from collectors.rabbitmq.cursor import Cursor, Place, cursor_queue
from collectors.rabbitmq.follow import Follow, Waiting
from collectors.rabbitmq.message import (
    ENCODED,
    PROPERTIES,
    SINCE,
    Seen,
    content_of,
    event_of,
    packed_properties,
    problem_of,
    properties_of,
)
from collectors.watch import NEVER
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage


class Position(NamedTuple):
    """Where a record lies. `life`: a stream that was made anew counts from 0 again."""

    stream: str
    life: int
    place: Place


class RabbitStreams:
    """The collector. `read` is to be called at least every half minute: it also answers the broker's heartbeats."""

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        self._name, self._config, self._clock, self._monotonic = name, config, clock, monotonic
        self._at = parameters(config.url, f"tracker.stream.{name}", config.tls)
        self._at.blocked_connection_timeout = config.timeout
        self._routes = {each.stream: each for each in config.streams}
        self._follows = {stream: Follow(stream, config, clock, monotonic) for stream in self._routes}
        self._connection: pika.BlockingConnection | None = None
        self._cursor: Cursor | None = None
        self._look_at = 0.0

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """Messages, of each stream in order. Raises `Unavailable`, also while a stream is not there, and
        `ConfigInvalid` for what only an operator can put right."""
        try:
            return self._read(limit, self._monotonic() + wait)
        except CollectorError:
            self._disconnect()
            raise

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """One `persist`. Raises `Undecodable`."""
        if not isinstance(raw.position, Position):
            raise Undecodable("a message without its place in a stream")
        stream, _, place = raw.position
        route = self._routes[stream]
        seen = Seen(
            (route.flow, route.at), Stage.persist, "", f"at offset {place.offset} of stream {stream!r}",
            partition=stream, offset=place.offset,
        )  # fmt: skip
        return [event_of(raw, properties_of(raw), self._config.identity, seen)]

    def content(self, raw: Raw, event: Event) -> Content:
        """The message, without what the broker added."""
        return content_of(raw, properties_of(raw), raw.headers.get(ENCODED))

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep the place of the last of each stream, never one before what is kept."""
        ahead: dict[str, Place] = {}
        for raw in raws:
            stream, life, place = raw.position
            follow = self._follows[stream]
            kept = ahead[stream].offset if stream in ahead else follow.committed
            if life == follow.life and place.offset > kept:
                ahead[stream] = place
        if not ahead:
            return
        try:
            self._connected().keep(ahead)
        except CollectorError:
            self._disconnect()
            raise
        for stream, place in ahead.items():
            self._follows[stream].committed = place.offset

    def sources(self) -> Sequence[SourceRef] | None:
        """One per stream that is known to have been read up to some moment without a gap; and, so that a report without
        them goes out at all, that this collector holds its own queue. None while it is not known whether something is
        missing behind what was committed."""
        if any(follow.resuming for follow in self._follows.values()):
            return None
        vouched = [
            SourceRef(route.flow, route.at, "persist", stream)
            for stream, route in self._routes.items()
            if self._follows[stream].vouches()
        ]
        flows = sorted({route.flow for route in self._routes.values()})
        return [*vouched, *(SourceRef(flow, cursor_queue(self._name), "deliver", self._name) for flow in flows)]

    def lag(self) -> Lag:
        """Since the last look at the streams' ends that reading has passed, the oldest of those vouched for."""
        known = [ms for follow in self._follows.values() if (ms := follow.lag_ms()) is not None]
        waiting = sum(len(follow.inbox) for follow in self._follows.values())
        return Lag(max(known, default=NEVER), waiting)

    def close(self) -> None:
        """Close the connections; nothing is committed."""
        self._disconnect()

    def _read(self, limit: int, deadline: float) -> list[Raw]:
        self._connected()
        raws: list[Raw] = []
        while True:
            self._look()
            due = max(0.0, min(deadline, self._look_at) - self._monotonic())
            with working(self._at):
                assert self._connection is not None
                self._connection.process_data_events(0 if any(f.inbox for f in self._follows.values()) else due)
                for follow in self._follows.values():
                    raws += [self._record(follow, *each) for each in follow.take(limit - len(raws))]
            if raws or self._monotonic() >= deadline:
                return raws

    def _record(self, follow: Follow, read: Waiting, since: int | None) -> Raw:
        said = read.properties
        headers = {PROPERTIES: packed_properties(said), ENCODED: read.encoded, **problem_of(said)}
        if since is not None:
            headers[SINCE] = str(since).encode()
        return Raw(read.body, headers, None, Position(follow.stream, follow.life, read.place), self._clock())

    def _look(self) -> None:
        """Look at the ends of the streams when it is time."""
        now = self._monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._config.look_every
        assert self._connection is not None
        self._connected().tick()
        for follow in self._follows.values():
            with working(self._at):
                follow.look(self._connection)

    def _connected(self) -> Cursor:
        if self._cursor is not None:
            return self._cursor
        self._cursor = cursor = Cursor(self._name, self._at, self._monotonic)
        with opened(self._at) as connection:
            self._connection = connection
            for stream, follow in self._follows.items():
                follow.attach(connection, cursor.places.get(stream))
        return cursor

    def _disconnect(self) -> None:
        connection, cursor = self._connection, self._cursor
        self._connection = self._cursor = None
        for follow in self._follows.values():
            follow.broken()
        closed(connection)
        if cursor is not None:
            cursor.close()


def streams(settings: Mapping[str, Any]) -> RabbitStreams:
    """A collector as the configuration file describes it, `name` among the settings. Raises `ConfigInvalid`."""
    config = dict(settings)
    name = str(config.pop("name", ""))
    return RabbitStreams(name, stream_config(name, config))
