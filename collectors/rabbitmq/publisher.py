"""RabbitMQ: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`.

There is no `Source` for queues: a broker that has given a message out and got its ack has it no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pika
from pika import exceptions

from collectors.carried import CORRELATION_ID, text
from collectors.errors import CollectorError, ConfigInvalid
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.connect import FAILED, closed, opened, parameters, shown, words
from tracker.model.carry import REPLAY_ID, Copy, Sent

PERSISTENT = pika.DeliveryMode.Persistent
ROUTES = frozenset({"CC", "BCC"})
"""Headers by which a message goes to more queues (https://www.rabbitmq.com/docs/sender-selected)."""


class PublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a RabbitMQ publisher: either `queue` (straight into it, so that other queues of the exchange are
    not disturbed) or `exchange` with `routing_key`. `timeout` (s): how long the broker may refuse to read (alarm)."""

    url: str
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
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


class RabbitPublisher:
    """Publishes copies, persistent and mandatory, and waits for the confirm of each. One thread at a time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._at = parameters(config.url, "tracker.replay", config.tls)
        self._at.blocked_connection_timeout = config.timeout
        self._to = (config.exchange, config.queue or config.routing_key)
        self._what = f"rabbitmq {shown(self._at)}, " + (
            f"queue {config.queue!r}" if config.queue else f"exchange {config.exchange!r}, key {config.routing_key!r}"
        )
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the broker)
        or `in doubt` (sent, and the connection was lost before the confirm)."""
        return [Sent(copy.locator, self._published(copy)) for copy in copies]

    def close(self) -> None:
        """Close the connection; nothing is left to send."""
        connection, self._connection, self._channel = self._connection, None, None
        closed(connection)

    def _published(self, copy: Copy) -> str:
        try:
            properties, channel = properties_of(copy), self._opened()
        except (CollectorError, ValueError) as error:
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


def properties_of(copy: Copy) -> pika.BasicProperties:
    """Persistent. Of a message of RabbitMQ's own its properties as they were, and of its headers those that the copy
    still has, in their types, but for `CC` and `BCC`: it is to go to one place. Of any other the message's own id and
    the copy's headers: as text where they are UTF-8, else as bytes. Raises `ValueError`
    where pika cannot read the properties."""
    if isinstance(copy.native, bytes):
        return _as_it_was(copy, copy.native)
    headers = {name: _value(value) for name, value in copy.headers.items()}
    return pika.BasicProperties(
        message_id=copy.locator.message_id,
        correlation_id=text(headers[CORRELATION_ID]) if CORRELATION_ID in headers else None,
        headers=headers,
        delivery_mode=PERSISTENT,
    )


def _as_it_was(copy: Copy, encoded: bytes) -> pika.BasicProperties:
    properties = pika.BasicProperties()
    try:
        properties.decode(encoded)
    except (ValueError, OverflowError, IndexError, struct.error) as error:
        raise ValueError(f"its properties are no AMQP 0-9-1 that pika can read: {error}") from None
    own = {name: value for name, value in (properties.headers or {}).items() if name in copy.headers}
    added = {name: _value(value) for name, value in copy.headers.items() if name.startswith(REPLAY_ID)}
    properties.headers = {name: value for name, value in own.items() if name not in ROUTES} | added
    properties.delivery_mode = PERSISTENT.value
    return properties


def _value(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
