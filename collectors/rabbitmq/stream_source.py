"""RabbitMQ streams: copies of messages from the stream, for a replay. Implements `Source` of `tracker.model.carry`.

A stream is read from an offset on, by AMQP 0-9-1; that takes nothing away from anybody. The broker says nowhere by it
where a stream begins and ends: asked for an offset that retention took, it begins with the first that is left, and
behind the end it gives nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
import pika
from pika.exceptions import ChannelClosedByBroker

from collectors.carried import carried, digest_of, text
from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.connect import closed, opened, parameters, shown, stop_reading, working
from collectors.rabbitmq.follow import OFFSET
from collectors.rabbitmq.message import BROKERS
from collectors.rabbitmq.table import told
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

READ_THROUGH = 1_000
"""A gap of up to so many messages between two wanted ones is read; over a longer one the reader jumps."""
AHEAD = 100
"""Messages that the broker gives out before they are acknowledged: they lie in memory."""
NOT_FOUND = 404


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a source of streams. `identity_header`: where the application's id is, if not in the property
    `message_id`. `timeout` (s): how long nothing may come until what was asked for counts as not there."""

    url: str
    identity_header: str = ""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    tls: Tls | None = None


def source(config: Mapping[str, Any]) -> StreamSource:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    try:
        return StreamSource(msgspec.convert(dict(config), SourceConfig))
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"RabbitMQ stream source: {error}") from None


class _Read(NamedTuple):
    """A message that the broker gave out."""

    tag: int
    offset: int
    encoded: bytes
    body: bytes


class StreamSource:
    """Fetches messages by stream (the locator's partition) and offset. Connects for each batch, so that no connection
    lies about between replays. One thread at a time."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._at = parameters(config.url, "tracker.replay", config.tls)
        self._at.blocked_connection_timeout = config.timeout
        self._identity = config.identity_header or MESSAGE_ID

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """One answer per locator, in the order of stream and offset. Raises `Unavailable` when the broker stops
        answering on the way, and `ConfigInvalid` for what is no stream, or may not be read."""
        wanted: dict[str, dict[int, list[Locator]]] = {}
        for locator in locators:
            wanted.setdefault(locator.partition, {}).setdefault(locator.offset, []).append(locator)
        answers: list[Copy | Missing] = []
        with self._connection() as connection:
            for stream, by_offset in sorted(wanted.items()):
                reader = _Reader(connection, self._at, stream, self._config.timeout)
                with closing(reader):
                    for offset, found in reader.read(sorted(by_offset)):
                        answers += [self._answer(locator, found) for locator in by_offset[offset]]
        return answers

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _connection(self) -> Iterator[pika.BlockingConnection]:
        with opened(self._at) as connection:
            pass
        try:
            yield connection
        finally:
            closed(connection)

    def _answer(self, locator: Locator, found: _Read | str) -> Copy | Missing:
        if isinstance(found, str):
            return Missing(locator, found)
        said = told(found.encoded)
        by_header = carried(said.headers, self._identity).message_id
        message_id = by_header if self._config.identity_header else text(said.message_id) or by_header
        if message_id != locator.message_id:
            return Missing(locator, f"another message is there now: {message_id!r}; the stream was made again")
        own = {str(name): value for name, value in said.headers.items() if not BROKERS.fullmatch(name)}
        headers = {name: text(value).encode() for name, value in own.items()}
        return Copy(locator, None, found.body, headers, digest_of(found.body), found.encoded, message_id)


class _Reader:
    """Reads one stream from one offset on, then from another."""

    def __init__(
        self, connection: pika.BlockingConnection, at: pika.URLParameters, stream: str, timeout: float
    ) -> None:
        self._connection, self._at, self._stream, self._timeout = connection, at, stream, timeout
        self._until = 0.0
        self._channel: Any = None
        self._inbox: deque[_Read] = deque()

    def read(self, offsets: list[int]) -> Iterator[tuple[int, _Read | str]]:
        """Each of `offsets` (ascending) with its message, or with the reason why there is none."""
        left, here = offsets[::-1], -1  # `here`: what came last since the last jump
        while left:
            if here < 0 or left[-1] - here > READ_THROUGH:
                here = -1
                if not self._jump(left[-1]):
                    yield from ((offset, "the stream no longer exists") for offset in left)
                    return
            read = self._next()
            if read is None and here < 0:
                end = f"the stream ends before offset {left[-1]}: it was made again"
                yield from ((offset, end) for offset in left)
                return
            here = -1 if read is None else read.offset  # what lies between may be much: jump over it
            while left and left[-1] < here:
                yield left.pop(), f"expired: the next that the stream holds is {here}"
            if read is not None and left and left[-1] == here:
                yield left.pop(), read
                self._until = time.monotonic() + self._timeout

    def close(self) -> None:
        """Stop reading."""
        if self._channel is not None:
            stop_reading(self._channel)

    def _jump(self, offset: int) -> bool:
        """Read from here on; False when there is no such stream."""
        self._until = time.monotonic() + self._timeout
        with working(self._at):
            self.close()
            inbox: deque[_Read] = deque()
            self._inbox = inbox
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=AHEAD)
            try:
                self._channel.basic_consume(self._stream, partial(_take, inbox), arguments={OFFSET: offset})
            except ChannelClosedByBroker as error:
                self._channel = None
                if error.reply_code == NOT_FOUND:
                    return False
                raise ConfigInvalid(
                    f"rabbitmq {shown(self._at)}: stream {self._stream!r} cannot be read: {error.reply_text}"
                ) from None
        return True

    def _next(self) -> _Read | None:
        """The next message; None when the time is over, though the broker answers."""
        with working(self._at):
            while not self._inbox and (left := self._until - time.monotonic()) > 0:
                self._connection.process_data_events(left)
                if not self._channel.consumer_tags:
                    raise Unavailable(f"stream {self._stream!r} was deleted, or moved away from this node")
            if not self._inbox:
                self._channel.queue_declare(self._stream, passive=True)
                return None
            read = self._inbox.popleft()
            if not self._inbox:
                self._channel.basic_ack(read.tag, multiple=True)
            return read


def _take(inbox: deque[_Read], _channel: Any, method: Any, encoded: bytes, body: bytes) -> None:
    inbox.append(_Read(method.delivery_tag, int(told(encoded).headers[OFFSET]), encoded, body))
