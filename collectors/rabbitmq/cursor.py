"""Where a collector of streams stands, kept by the broker: for readers by AMQP 0-9-1 a stream keeps no offsets.

A queue of our own holds one message, the newest place in each stream. A new one is published and confirmed before the
old one is acked, so a SIGKILL leaves at least one; and no file has to move along when the collector does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pika

from collectors.errors import Unavailable
from collectors.rabbitmq.connect import closed, opened, shown, working

PATIENCE = 5.0
"""Seconds until what we published ourselves has to be back."""


class Place(msgspec.Struct, frozen=True):
    """The last message of a stream that was committed: its offset, and what tells it from another one there. It, and
    all behind it, came after `since` (epoch µs, 0: not known)."""

    offset: int
    print: str
    since: int = 0

    def same(self, other: Place) -> bool:
        """Whether it is this very message, whenever it was read."""
        return (self.offset, self.print) == (other.offset, other.print)


class Kept(msgspec.Struct, frozen=True):
    """A message of the queue. Without `places` it only asks whether this collector is the one that reads it."""

    token: str
    places: dict[str, Place] | None = None


def cursor_queue(name: str) -> str:
    """The queue of a collector's own that keeps its places, and the exchange that fills it."""
    return f"tracker.cursor.{name}"


class Cursor:
    """Connects at once. Raises `Unavailable`, also while another collector of this name holds the queue, and
    `ConfigInvalid`. `places`: stream -> the last one kept."""

    def __init__(self, name: str, at: pika.URLParameters, monotonic: Callable[[], float]) -> None:
        self.places: dict[str, Place] = {}
        self._queue, self._at = cursor_queue(name), at
        self._token = uuid.uuid4().hex
        self._ours = False
        self._tag = 0
        with opened(at) as connection:
            self._connection, self._channel = connection, connection.channel()
            self._declare()
            self._publish(Kept(self._token))
            until = monotonic() + PATIENCE
            while not self._ours and monotonic() < until:
                connection.process_data_events(0.1)
            if not self._ours:
                raise Unavailable(f"rabbitmq {shown(at)}: another collector reads {self._queue!r}; this one stands by")

    def keep(self, places: Mapping[str, Place]) -> None:
        """When it returns, the broker has them. Raises `Unavailable`."""
        with working(self._at):
            self._publish(Kept(self._token, {**self.places, **places}))
            self._connection.process_data_events(0)
        self.places |= places

    def tick(self) -> None:
        """Answer the broker's heartbeats. Raises `Unavailable`."""
        with working(self._at):
            self._connection.process_data_events(0)

    def close(self) -> None:
        """Let go of the connection; the queue keeps the places."""
        closed(self._connection)

    def _declare(self) -> None:
        self._channel.confirm_delivery()
        self._channel.exchange_declare(self._queue, "fanout", durable=True)
        arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": 1_000_000}
        self._channel.queue_declare(self._queue, durable=True, arguments=arguments)
        self._channel.queue_bind(self._queue, self._queue, "")
        self._channel.basic_consume(self._queue, self._on_message)

    def _publish(self, kept: Kept) -> None:
        self._channel.basic_publish(self._queue, "", msgspec.json.encode(kept))

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        try:
            kept = msgspec.json.decode(body, type=Kept)
        except msgspec.MsgspecError:
            kept = Kept("")  # somebody else published it
        if kept.places is None:
            self._ours = self._ours or kept.token == self._token
            self._channel.basic_ack(method.delivery_tag)
            return
        if kept.token != self._token:
            self.places = kept.places
        if self._tag:
            self._channel.basic_ack(self._tag)
        self._tag = method.delivery_tag
