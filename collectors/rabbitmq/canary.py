"""The side of a collector with a queue of its own that publishes canaries and looks at that queue's depth.

It has a connection of its own: when the broker runs out of memory or disk it stops reading from connections that
publish, and the acks of the queue must not wait behind a canary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pika

from collectors.rabbitmq.config import OwnQueueConfig
from collectors.rabbitmq.connect import closed, opened, working
from collectors.rabbitmq.marker import Marker
from collectors.watch import Watch

FULL = 0.9
"""From this part of `max_length` on the queue may have given up records between two looks."""


class Owned(NamedTuple):
    """What a collector owns: its queue, the exchange that its canaries are published to, and what the queue is bound
    to, as (exchange, routing key). `marker`: the queue and exchange that keep since when records wait (`marker`).
    `again`: bind again before each canary, for others may take a binding away that no canary passes."""

    queue: str
    exchange: str
    marker: str
    bindings: tuple[tuple[str, str], ...]
    again: bool = False


def canary_exchange(name: str) -> str:
    """The exchange of a collector's own that its canaries are published to."""
    return f"tracker.canary.{name}"


def marker_queue(name: str) -> str:
    """The queue of a collector's own that keeps since when records wait, and the exchange that fills it."""
    return f"tracker.since.{name}"


class Canaries:
    """Declares what the collector owns, then publishes a canary every `canary_every` seconds when ticked."""

    def __init__(
        self,
        owned: Owned,
        config: OwnQueueConfig,
        at: pika.URLParameters,
        watch: Watch,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self.depth = 0
        """Records waiting in the queue at the last tick."""
        self._owned, self._config, self._at, self._watch = owned, config, at, watch
        self._clock, self._monotonic = clock, monotonic
        self._due = monotonic()
        self._blocked = False
        with opened(at) as connection:
            connection.add_on_connection_blocked_callback(lambda *_: self._alarmed(True))
            connection.add_on_connection_unblocked_callback(lambda *_: self._alarmed(False))
            self._connection, self._channel = connection, connection.channel()
            self._declare()
            self._marker = Marker(self._channel, owned.marker)
        watch.waits_since(self._marker.since)

    def tick(self, settled: int) -> float:
        """Publish when due, and keep that nothing waits that is older than `settled` (epoch µs); answers the seconds
        until the next one is. Raises `Unavailable`."""
        now = self._monotonic()
        if now >= self._due:
            self._due = now + self._config.canary_every
            with working(self._at):
                self._connection.process_data_events(0)
                if not self._blocked:
                    self._look()
                    if self._owned.again:
                        self._bind()
                    self._publish(now)
                    self._marker.keep(settled)
        return max(0.0, self._due - now)

    def close(self) -> None:
        """Let go of the connection."""
        closed(self._connection)

    def _declare(self) -> None:
        config = self._config
        self._channel.exchange_declare(self._owned.exchange, "fanout", durable=True)
        self._channel.queue_declare(
            self._owned.queue,
            durable=True,
            arguments={
                # Traces are not persistent messages: a classic queue loses them at a restart. A stream got none at all.
                "x-queue-type": "quorum",
                # A second instance stands by instead of taking half of the records.
                "x-single-active-consumer": True,
                # From 4.0 on a quorum queue drops what was given back 20 times unless told otherwise; each restart and
                # each cut connection of ours gives back what is not committed.
                "x-delivery-limit": 1_000_000,
                # A collector that is gone for good must not fill the broker's disk.
                "x-max-length": config.max_length,
                "x-expires": config.expires * 1000,
            },
        )
        self._channel.queue_bind(self._owned.queue, self._owned.exchange, "")
        self._bind()

    def _bind(self) -> None:
        for exchange, key in self._owned.bindings:
            self._channel.queue_bind(self._owned.queue, exchange, key)

    def _look(self) -> None:
        """How deep the queue is. Near its limit it may have dropped its oldest records unseen."""
        found = self._channel.queue_declare(self._owned.queue, passive=True)
        self.depth = found.method.message_count
        if self.depth >= FULL * self._config.max_length:
            self._watch.broken(self._monotonic())

    def _publish(self, now: float) -> None:
        body = msgspec.json.encode(self._watch.sent(now, self._clock()))
        self._channel.basic_publish(self._owned.exchange, "", body, pika.BasicProperties(delivery_mode=2))

    def _alarmed(self, blocked: bool) -> None:
        self._blocked = blocked
