"""RabbitMQ: taking messages from a queue as an application does. Implements `Receiver` of `tracker.model.carry`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pika

from collectors.carried import carried, text
from collectors.errors import ConfigInvalid
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.connect import closed, opened, parameters, working
from collectors.rabbitmq.table import told
from tracker.model.carry import MESSAGE_ID, Received


class ReceiverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a RabbitMQ receiver. `prefetch`: so many are held unacked at most."""

    url: str
    queue: str
    identity_header: str = MESSAGE_ID
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 10_000
    tls: Tls | None = None


def receiver(config: Mapping[str, Any]) -> RabbitReceiver:
    """A receiver as configured. Raises `ConfigInvalid` that names the key."""
    try:
        return RabbitReceiver(msgspec.convert(dict(config), ReceiverConfig))
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"RabbitMQ receiver: {error}") from None


class RabbitReceiver:
    """Consumes one queue. After a cut connection it consumes anew, and the broker gives again what was not settled."""

    def __init__(self, config: ReceiverConfig) -> None:
        self._config = config
        self._at = parameters(config.url, "tracker.canary", config.tls)
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._session = ""

    def receive(self, wait: float) -> list[Received]:
        """What has come; what has no id of the flow is acked and left out: it is nobody's canary. Raises
        `Unavailable`, and `ConfigInvalid` for a queue that is not there."""
        taken: list[Received] = []
        with working(self._at):
            for method, encoded, body in self._opened().consume(self._config.queue, inactivity_timeout=wait):
                if method is None:
                    break
                taken.append(self._received(method.delivery_tag, encoded, body))
                if not self._channel.get_waiting_message_count():
                    break
        nameless = [one for one in taken if not one.message_id]
        self.settle(nameless)
        return [one for one in taken if one.message_id]

    def settle(self, received: Sequence[Received]) -> None:
        """Ack each; one of a connection that is gone comes again. Raises `Unavailable`."""
        with working(self._at):
            for one in received:
                session, tag = one.position
                if session == self._session and self._channel is not None:
                    self._channel.basic_ack(tag)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        closed(connection)

    def _received(self, tag: int, encoded: bytes, body: bytes) -> Received:
        said, identity = told(encoded), self._config.identity_header
        own = text(said.message_id) if identity == MESSAGE_ID else ""
        name = own or carried(said.headers, identity).message_id
        where = {"delivery": f"{self._config.queue}:{self._session}:{tag}", "message_id": name}
        return Received(name, dict(said.headers), body, where, (self._session, tag))

    def _opened(self) -> Any:
        if self._connection is None or self._connection.is_closed or self._channel.is_closed:
            self.close()
            with opened(self._at) as connection:
                self._channel = connection.channel()
                self._channel.queue_declare(self._config.queue, passive=True)
                self._channel.basic_qos(prefetch_count=self._config.prefetch)
            self._connection, self._session = connection, uuid.uuid4().hex[:12]
        return self._channel
