"""RabbitMQ: a queue of dead letters, for a replay. A `Source`, `Finder` and `Settler` of `tracker.model.carry`.

A queue cannot be looked at: whoever reads a message holds it until he acks it or gives it back. So this takes what is
there, up to a bound, keeps it unacked while a replay goes on, acks what was sent again, and gives back the rest, which
the broker puts where it was and marks as redelivered. Somebody who goes away, or is killed, gives all of it back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import pika

from collectors.carried import carried, digest_of, text
from collectors.errors import ConfigInvalid
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.connect import closed, opened, parameters, shown, working
from collectors.rabbitmq.table import told
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

MIB = 1024 * 1024
HEARTBEAT = 20
"""Seconds; after two or three of them without a word from us the broker takes back what a replay has left behind."""
MARGIN = 1.25
"""By so much more may be held where copies are fetched: all that `find` named is to be among it."""
QUIET = 1.0
"""Seconds without a message after which there is none left."""


class QueueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a queue of dead letters. `most`, `most_mb`: so many messages, and about so many MiB of bodies,
    are held at once, those at its head. `identity_header`: where the application's id is, if not in the property
    `message_id`."""

    url: str
    queue: Annotated[str, msgspec.Meta(min_length=1)]
    identity_header: str = ""
    most: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 10_000
    most_mb: Annotated[int, msgspec.Meta(ge=1)] = 256
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    tls: Tls | None = None


def source(config: Mapping[str, Any]) -> DeadQueue:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    try:
        return DeadQueue(msgspec.convert(dict(config), QueueConfig))
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"RabbitMQ dead letters: {error}") from None


class _Held(NamedTuple):
    tag: int
    encoded: bytes
    body: bytes


class DeadQueue:
    """One thread at a time. What it holds nobody else gets meanwhile."""

    def __init__(self, config: QueueConfig) -> None:
        self._config = config
        self._at = parameters(config.url, "tracker.replay", config.tls)
        self._at.heartbeat, self._at.blocked_connection_timeout = HEARTBEAT, config.timeout
        self._what = f"queue {config.queue!r} of rabbitmq {shown(self._at)}"
        self._identity = config.identity_header or MESSAGE_ID
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._held: dict[str, list[_Held]] = {}
        self._out: set[str] = set()  # fetched by somebody who has not said yet what became of them
        self._count = self._depth = self._bytes = 0
        self._rests = False  # we hold as many bytes as we may, and consume no more

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those that are among the first `most` messages, and `most_mb`, of the queue. Raises `Unavailable`,
        `ConfigInvalid`."""
        self._take(self._config.most_mb * MIB)
        return [Locator(one, "", self._config.queue, 0) for one in message_ids if one in self._held]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """A copy of each that is still there; the newest of a message that died several times."""
        self._take(self._config.most_mb * MIB * MARGIN)
        self._out |= {place.message_id for place in locators} & self._held.keys()
        return [self._copy(place) for place in locators]

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """Ack what was sent again, all copies of it. When nothing was, everything is given back, unless somebody else
        (a replay beside a dry run) still has copies."""
        self._out -= {place.message_id for place in [*sent, *kept]}
        acked = [held for place in sent for held in self._held.pop(place.message_id, ())]
        if not acked:
            if not self._out:
                self.close()
            return
        try:
            with working(self._at):
                for held in acked:
                    self._channel.basic_ack(held.tag)
                assert self._connection is not None
                self._connection.process_data_events(0)
        except Exception:
            self.close()
            raise
        self._count -= len(acked)
        self._depth -= len(acked)
        self._bytes -= sum(len(held.body) for held in acked)

    def close(self) -> None:
        """Close the connection: what is held goes back."""
        connection, self._connection, self._channel = self._connection, None, None
        self._held, self._out, self._count, self._depth, self._bytes = {}, set(), 0, 0, 0
        self._rests = False
        closed(connection)

    def _take(self, most: float) -> None:
        """Hold all that may be held, `most` bytes: of a message that died twice, the second copy may be the last one of
        the queue."""
        gone = self._connection is None or self._connection.is_closed
        if gone or not (self._channel.consumer_tags or self._rests):
            self._attach()
        until = time.monotonic() + QUIET
        try:
            with working(self._at):
                assert self._connection is not None
                if self._rests and self._bytes < most:
                    self._consume()
                self._connection.process_data_events(0)
                while self._count < min(self._depth, self._config.most) and self._bytes < most:
                    before = self._count
                    self._connection.process_data_events(0.05)
                    if self._count > before:
                        until = time.monotonic() + QUIET
                    elif time.monotonic() > until:
                        self._depth = self._count  # somebody else has the rest
                if self._bytes >= most and not self._rests:
                    self._rests = True
                    for tag in self._channel.consumer_tags:
                        self._channel.basic_cancel(tag)
        except Exception:
            self.close()
            raise

    def _attach(self) -> None:
        self.close()
        with opened(self._at) as connection:
            self._channel = channel = connection.channel()
            self._depth = int(channel.queue_declare(self._config.queue, passive=True).method.message_count)
            channel.basic_qos(prefetch_count=self._config.most)
            self._consume()
            self._connection = connection

    def _consume(self) -> None:
        self._rests = False
        self._channel.basic_consume(self._config.queue, self._on_message)

    def _on_message(self, _channel: Any, method: Any, encoded: Any, body: bytes) -> None:
        said = told(encoded)
        by_header = carried(said.headers, self._identity).message_id
        message_id = by_header if self._config.identity_header else text(said.message_id) or by_header
        self._held.setdefault(message_id, []).append(_Held(method.delivery_tag, encoded, body))
        self._count, self._bytes = self._count + 1, self._bytes + len(body)
        self._depth = max(self._depth, self._count)

    def _copy(self, place: Locator) -> Copy | Missing:
        held = self._held.get(place.message_id)
        if not held:
            where = f"the first {self._count} messages of " if self._rests or self._count >= self._config.most else ""
            return Missing(place, f"it is not in {where}{self._what}")
        _, encoded, body = held[-1]
        headers = {str(name): text(value).encode() for name, value in told(encoded).headers.items()}
        return Copy(place, None, body, headers, digest_of(body), encoded, place.message_id)
