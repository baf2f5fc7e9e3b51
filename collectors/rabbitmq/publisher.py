"""RabbitMQ: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`.

There is no `Source` for queues: a broker that has given a message out and got its ack has it no more. For streams there
is one (`collectors.rabbitmq.stream_source`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pika
from pika import exceptions

from collectors.batches import Tried, in_batches
from collectors.carried import CORRELATION_ID, text
from collectors.errors import CollectorError, ConfigInvalid
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.connect import FAILED, closed, opened, parameters, shown, user_of, words
from collectors.rabbitmq.properties import joined, split, with_headers
from tracker.model.carry import PUBLISH_S, REPLAY_ID, Copy, Sent

PERSISTENT = pika.DeliveryMode.Persistent
NO_HEADERS = bytes(4)
IDLE_S = 30.0
"""A connection that was not used for so long is made anew: nobody answered the broker's heartbeats meanwhile, so it may
be closed, and what is the first to find that out is in doubt."""
CONNECT_S = 5.0
"""Seconds that connecting may take."""
ROUTES = frozenset({"CC", "BCC"})
"""Headers by which a message goes to more queues (https://www.rabbitmq.com/docs/sender-selected)."""


class PublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a RabbitMQ publisher: either `queue` (straight into it, so that other queues of the exchange are
    not disturbed) or `exchange` with `routing_key`. `timeout` (s): how long a batch may take,
    `PUBLISH_S` at most."""

    url: str
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = PUBLISH_S
    tls: Tls | None = None


def publisher(config: Mapping[str, Any]) -> RabbitPublisher:
    """A publisher as configured. Raises `ConfigInvalid` that names the key."""
    try:
        found = msgspec.convert(dict(config), PublisherConfig)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"RabbitMQ publisher: {error}") from None
    if bool(found.queue) == bool(found.exchange):
        raise ConfigInvalid("RabbitMQ publisher: give either `queue` or `exchange` (with `routing_key`)")
    return RabbitPublisher(found)


class StreamPublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a publisher to `stream`."""

    url: str
    stream: Annotated[str, msgspec.Meta(min_length=1)]
    timeout: Annotated[float, msgspec.Meta(gt=0)] = PUBLISH_S
    tls: Tls | None = None


def stream_publisher(config: Mapping[str, Any]) -> RabbitPublisher:
    """A publisher to a stream, which takes messages as a queue does. Raises `ConfigInvalid` that names the key."""
    try:
        found = msgspec.convert(dict(config), StreamPublisherConfig)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"RabbitMQ publisher: {error}") from None
    return RabbitPublisher(PublisherConfig(found.url, found.stream, timeout=found.timeout, tls=found.tls))


class Encoded(pika.BasicProperties):
    """Properties that are bytes already."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self._encoded = encoded

    def encode(self) -> list[bytes]:
        """What pika writes behind the size of the body."""
        return [self._encoded]


class RabbitPublisher:
    """Publishes copies, persistent and mandatory, and waits for the confirm of each. One thread at a time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._at = parameters(config.url, "tracker.replay", config.tls)
        self._timeout = min(config.timeout, PUBLISH_S)
        self._at.socket_timeout = self._at.stack_timeout = CONNECT_S
        self._to = (config.exchange, config.queue or config.routing_key)
        self._what = f"rabbitmq {shown(self._at)}, " + (
            f"queue {config.queue!r}" if config.queue else f"exchange {config.exchange!r}, key {config.routing_key!r}"
        )
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._used = 0.0

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the broker)
        or `in doubt` (sent, and the connection was lost before the confirm). When there is no connection, or the time
        is over, the others are not tried."""
        if time.monotonic() - self._used > IDLE_S:
            self.close()
        answers = in_batches(copies, 1, self._timeout, self._what, self._attempt)
        self._used = time.monotonic()
        return answers

    def close(self) -> None:
        """Close the connection; nothing is left to send."""
        connection, self._connection, self._channel = self._connection, None, None
        closed(connection)

    def _attempt(self, copies: Sequence[Copy], until: float) -> Tried:
        left = max(0.0, until - time.monotonic())
        try:
            channel = self._opened()
        except CollectorError as error:
            return [], f"not sent: {self._what}: {error}"
        at_ease = channel.connection._impl.give_up_after(left)
        try:
            return [self._sent(channel, copy) for copy in copies], ""
        finally:
            at_ease()

    def _sent(self, channel: Any, copy: Copy) -> str:
        try:
            properties = properties_of(copy, user_of(self._at))
        except ValueError as error:
            return f"not sent: {self._what}: {error}"
        try:
            channel.basic_publish(*self._to, copy.value, properties, mandatory=True)
        except exceptions.UnroutableError:
            return f"refused: {self._what}: no queue takes it"
        except exceptions.NackError:
            return f"refused: {self._what}: the broker did not accept it (queue full or unavailable)"
        except exceptions.ChannelClosedByBroker as error:
            self._channel = None
            return f"refused: {self._what}: {error.reply_code} {error.reply_text}"
        except exceptions.UnsupportedAMQPFieldException as error:
            return f"not sent: {self._what}: {error}"
        except FAILED as error:
            self.close()
            return f"in doubt: {self._what}: {words(error)}"
        return ""

    def _opened(self) -> Any:
        if self._connection is None or self._connection.is_closed or self._channel is None:
            self.close()
            with opened(self._at) as connection:
                self._channel = connection.channel()
                self._channel.confirm_delivery()
            self._connection = connection
        return self._channel


def properties_of(copy: Copy, user: str) -> pika.BasicProperties:
    """Persistent. Of a message of RabbitMQ's own its properties as they were, and of its headers those that the copy
    still has, in their types, but for `CC` and `BCC`: it is to go to one place; and without the `user_id` of somebody
    else than `user`, for whom the broker lets nobody publish. Of any other the message's own id and the copy's headers:
    as text where they are UTF-8, else as bytes. Raises `ValueError` for properties that are none."""
    if isinstance(copy.native, bytes):
        return Encoded(_as_it_was(copy, copy.native, user))
    headers = {name: _value(value) for name, value in copy.headers.items()}
    return pika.BasicProperties(
        message_id=copy.locator.message_id,
        correlation_id=text(headers[CORRELATION_ID]) if CORRELATION_ID in headers else None,
        headers=headers,
        delivery_mode=PERSISTENT,
    )


def _as_it_was(copy: Copy, encoded: bytes, user: str) -> bytes:
    properties = split(encoded)
    added = {name: value for name, value in copy.headers.items() if name.startswith(REPLAY_ID)}
    own = copy.headers.keys() - ROUTES - added.keys()
    properties["headers"] = with_headers(properties.get("headers", NO_HEADERS), own.__contains__, added)
    properties["delivery_mode"] = bytes([PERSISTENT.value])
    if properties.get("user_id", b"")[1:] != user.encode():
        properties.pop("user_id", None)
    return joined(properties)


def _value(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
