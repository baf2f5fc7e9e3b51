"""Following one stream: where reading stands, whether something was missed, and up to when all of it was read."""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pika
import xxhash
from pika.exceptions import ChannelClosedByBroker

from collectors.carried import text
from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq.config import StreamConfig
from collectors.rabbitmq.connect import PRECONDITION_FAILED, stop_reading
from collectors.rabbitmq.cursor import Place
from collectors.rabbitmq.table import Told, told
from collectors.watch import Mark, Watch

OFFSET = "x-stream-offset"

GONE_AFTER = 3.0
"""Seconds in which the message that we committed last has to come, or it is not there any more."""

_TYPE = re.compile(r"of queue type (?:rabbit_)?(\w+?)(?:_queue)?\b")


class Waiting(NamedTuple):
    """One message that the broker gave out and nobody has read yet."""

    tag: int
    place: Place
    properties: Told
    encoded: bytes
    body: bytes


class Follow:
    """One stream. The broker gives out messages as long as fewer than `prefetch` are unacknowledged; an ack only makes
    room for more.

    A look is a question on the channel that gives out messages. When it is answered, everything that the stream told
    the channel of before has been given out, if there was room; once that has been read, reading is known to be
    complete up to the look, but for `settle`, in which the stream may not have told the channel yet.
    """

    def __init__(
        self, stream: str, config: StreamConfig, clock: Callable[[], int], monotonic: Callable[[], float]
    ) -> None:
        self.stream, self.life, self.committed = stream, 0, -1
        self.resuming = False
        """Whether reading began behind what was committed, and it is not known yet that nothing is missing."""
        self.inbox: deque[Waiting] = deque()
        self._config, self._clock, self._monotonic = config, clock, monotonic
        self._watch = Watch(uuid.uuid4().hex, monotonic(), config.hole_for, traces=False)
        self._first = True  # this process has read nothing, but may go on where an earlier one was
        self._channel: Any = None
        self._after: Place | None = None  # the message that has to come first, for reading goes on behind it
        self._other = False  # another message came in its place
        self._attached = 0.0
        self._given = self._taken = 0
        self._goal: tuple[int, Mark] | None = None

    def attach(self, connection: pika.BlockingConnection, after: Place | None) -> None:
        """Read on behind `after`; from where the configuration says when there is none. Raises `ConfigInvalid` for what
        is no stream."""
        if after is None and not self._first:
            self._missing()
        self._first = self._first and after is not None
        self._after = after
        self.committed = -1 if after is None else after.offset
        self.resuming = after is not None
        self._consume(connection, self._config.from_ if after is None else after.offset)

    def look(self, connection: pika.BlockingConnection) -> None:
        """Ask, and note how much has to be read before the answer counts."""
        if not self._channel.consumer_tags:
            raise Unavailable(f"stream {self.stream!r} was deleted, or moved away from this node")
        asked = self._monotonic()
        if asked < self._attached + self._config.settle:
            return  # the stream may not have told the channel of anything yet
        asked_at = self._clock()
        self._channel.queue_declare(self.stream, passive=True)
        connection.process_data_events(0)
        if self._after is not None:
            if self._other or asked > self._attached + GONE_AFTER:
                self._start_over(connection)
        elif self._goal is None and self._given - self._taken < self._config.prefetch:
            self._goal = (self._given, self._watch.sent(asked, asked_at))
            self._settled()

    def take(self, limit: int) -> Iterator[tuple[Waiting, int | None]]:
        """At most `limit` messages, each with the start of its observation, where it is known only as an interval."""
        tag = 0
        while self.inbox and limit > 0:
            waiting = self.inbox.popleft()
            tag, limit = waiting.tag, limit - 1
            self._taken += 1
            place = msgspec.structs.replace(waiting.place, since=self._watch.marker)
            since = self._watch.since(self._monotonic(), self._config.prompt)
            yield waiting._replace(place=place), since
        if tag:
            self._channel.basic_ack(tag, multiple=True)
        self._settled()

    def broken(self) -> None:
        """The connection is gone; what was not read is given out again. That is a break only where nothing was
        committed, behind which reading could go on."""
        self.inbox.clear()
        if self._channel is None:
            return
        self._channel = self._goal = None
        if self.committed < 0:
            self._watch.broken(self._monotonic())
        else:
            self._watch.paused()

    def vouches(self) -> bool:
        """Whether a report may name this stream."""
        return self._watch.vouches(self._monotonic())

    def lag_ms(self) -> int | None:
        """Milliseconds since the last look that reading has passed; None when there is none since the last break."""
        return self._watch.lag_ms(self._monotonic(), self._config.settle) if self._watch.state == "on" else None

    def _settled(self) -> None:
        if self._goal and self._taken >= self._goal[0]:
            self._watch.arrived(self._goal[1], self._monotonic())
            self._goal = None
            self.resuming = False

    def _consume(self, connection: pika.BlockingConnection, offset: int | str) -> None:
        self.inbox.clear()
        self._given = self._taken = 0
        self._goal, self._other = None, False
        self._channel = connection.channel()
        self._channel.basic_qos(prefetch_count=self._config.prefetch)
        try:
            self._channel.basic_consume(self.stream, self._on_message, arguments={OFFSET: offset})
        except ChannelClosedByBroker as error:
            if error.reply_code == PRECONDITION_FAILED and OFFSET in error.reply_text:
                kind = _TYPE.search(error.reply_text)
                raise self._no_stream(f"a {kind[1]} queue" if kind else "a queue", error.reply_text) from None
            raise
        self._attached = self._monotonic()

    def _no_stream(self, what: str, why: str) -> ConfigInvalid:
        """The broker itself refuses an offset for what is no stream, before it gives out anything."""
        return ConfigInvalid(
            f"`streams` names {self.stream!r}, which is {what} and no stream: to read it is to take messages from its "
            f"consumers. Take it out of `streams`; the kind `rabbitmq` watches queues without reading them ({why})"
        )

    def _start_over(self, connection: pika.BlockingConnection) -> None:
        """The stream was deleted and made anew: it counts from 0 again, and what we had not read of the old one is
        gone."""
        self.life, self.committed, self._after = self.life + 1, -1, None
        stop_reading(self._channel)
        self._consume(connection, "first")
        self._missing()

    def _missing(self) -> None:
        self.resuming = self._first = False
        self._watch.broken(self._monotonic())

    def _on_message(self, _channel: Any, method: Any, encoded: bytes, body: bytes) -> None:
        properties = told(encoded)
        if OFFSET not in properties.headers:
            raise self._no_stream("a queue", f"a message of it has no {OFFSET}")
        offset = int(properties.headers[OFFSET])
        place = Place(offset, xxhash.xxh3_64_hexdigest(body + text(properties.message_id).encode()))
        if self._after is not None:
            after = self._after
            self._other = self._other or (offset <= after.offset and not place.same(after))
            if self._other:
                return  # `look` starts over
            self._after = None
            if place.same(after):
                if self._first:
                    self._watch.goes_on(self._monotonic(), after.since)
                self._first = False
                self._given += 1
                self._taken += 1
                self._channel.basic_ack(method.delivery_tag)
                return
            self._missing()  # retention took it, and perhaps some behind it that we never read
        self._given += 1
        self.inbox.append(Waiting(method.delivery_tag, place, properties, encoded, body))
