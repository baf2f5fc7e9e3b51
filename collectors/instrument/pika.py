"""Instrumentation of pika: produce on the broker's confirm, deliver, ack and nack as the application does them.

One line: `channel = instrument.channel(connection.channel(), observer)`. Acks and confirms are what RabbitMQ itself
shows to nobody, so this is the only exact witness of them. An observation of an ack is in the spool before the broker
is told: a SIGKILL between the two leads to a redelivery, never to a hole.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pika import BasicProperties, exceptions
from pika.adapters.blocking_connection import BlockingChannel

from collectors.clock import now_micros
from collectors.instrument.amqp import ChannelNotes, Held, stamped
from collectors.instrument.observe import Observer
from tracker.model.event import Stage


def channel(
    channel: BlockingChannel,
    observer: Observer,
    *,
    exchanges: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    dead_lettering: Collection[str] = (),
    connection: str = "",
) -> ObservedChannel:
    """The same channel, observed: use it in place of the one given.

    Only publishes to `exchanges` and deliveries from `queues` are observed (None: all); a channel that serves two
    flows is wrapped twice. `dead_lettering`: queues that have a dead letter exchange, which a client cannot see for
    itself. `connection`: what tells this connection from all others (default: random).
    """
    name = f"{connection or uuid.uuid4().hex[:16]}:{channel.channel_number}"
    return ObservedChannel(channel, ChannelNotes(observer, name, exchanges, queues, dead_lettering))


class ObservedChannel:
    """A `BlockingChannel` whose publishes and deliveries are observed; all that is not here is the channel's own.

    What it holds per unsettled delivery (its headers and digest) is bounded by the prefetch.
    """

    def __init__(self, channel: BlockingChannel, notes: ChannelNotes) -> None:
        self._channel, self._notes = channel, notes
        self._confirms = False

    def __getattr__(self, name: str) -> Any:
        """Everything else: the channel's own."""
        return getattr(self._channel, name)

    def __enter__(self) -> ObservedChannel:
        """As the channel: for `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """As the channel: closes it."""
        self.close()

    def __int__(self) -> int:
        """The channel number."""
        return int(self._channel)

    # -- publishing ----------------------------------------------------------------------------------------------

    def confirm_delivery(self) -> None:
        """As the channel: from here on a publish waits for the broker's confirm."""
        self._channel.confirm_delivery()
        self._confirms = True

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        """As the channel, with message id and origin time set where absent. Records `produce` when the broker
        confirmed (without confirms: when it was handed to the socket), `nack` when it refused."""
        if not self._notes.publishes_to(exchange):
            return self._channel.basic_publish(exchange, routing_key, body, properties, mandatory)
        properties = stamped(properties or BasicProperties(), self._notes.identity)
        started = now_micros()
        outcome = {"confirmed": "true" if self._confirms else "false"}
        try:
            self._channel.basic_publish(exchange, routing_key, body, properties, mandatory)
        except exceptions.UnroutableError:
            # Confirmed and returned: the broker has it no more, the application has been told.
            self._produced(Stage.produce, exchange, properties, body, started, {**outcome, "returned": "true"})
            raise
        except exceptions.NackError:
            # Not accepted, so nothing was promised; the timeline shows that it was tried.
            self._produced(Stage.nack, exchange, properties, body, started, {"refused_by": "broker"})
            raise
        self._produced(Stage.produce, exchange, properties, body, started, outcome)

    def tx_select(self) -> Any:
        """As the channel: from here on publishes and acks count when the transaction is committed."""
        self._notes.begin()
        return self._channel.tx_select()

    def tx_commit(self) -> Any:
        """As the channel. Acks of the transaction are recorded before the broker is told, publishes after it agreed."""
        publishes = self._notes.committing()
        answer = self._channel.tx_commit()
        for record in publishes:
            record()
        return answer

    def tx_rollback(self) -> Any:
        """As the channel. Nothing of the transaction is recorded; the broker counts its acks as not given."""
        self._notes.begin()
        return self._channel.tx_rollback()

    def _produced(
        self, stage: Stage, exchange: str, properties: BasicProperties, body: Any, at: int, outcome: dict[str, str]
    ) -> None:
        value = body.encode() if isinstance(body, str) else body
        self._notes.published(stage, exchange, properties, value, at, outcome)

    # -- consuming -----------------------------------------------------------------------------------------------

    def basic_consume(
        self, queue: str, on_message_callback: Callable[..., Any], auto_ack: bool = False, **options: Any
    ) -> Any:
        """As the channel; the callback is given this channel. With `auto_ack` the broker forgets a message when it
        sends it, so `ack` is recorded when the callback returned: a message lost on the way has none."""
        watched = self._notes.takes_from(queue)

        def observed(_: Any, method: Any, properties: Any, body: bytes) -> None:
            held = self._delivered(queue, method, properties, body, auto_ack) if watched else None
            on_message_callback(self, method, properties, body)
            if held is not None and auto_ack:
                self._notes.auto_acked(held)

        return self._channel.basic_consume(queue, observed, auto_ack, **options)

    def consume(self, queue: str, auto_ack: bool = False, **options: Any) -> Iterator[Any]:
        """As the channel. With `auto_ack`, `ack` is recorded at once: nothing later can be seen."""
        for item in self._channel.consume(queue, auto_ack=auto_ack, **options):
            self._fetched(queue, item, auto_ack)
            yield item

    def basic_get(self, queue: str, auto_ack: bool = False) -> Any:
        """As the channel. With `auto_ack`, `ack` is recorded at once: nothing later can be seen."""
        found = self._channel.basic_get(queue, auto_ack)
        self._fetched(queue, found, auto_ack)
        return found

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """As the channel; `ack` of each delivery that this settles is recorded before the broker is told."""
        self._notes.acked(delivery_tag, multiple)
        self._channel.basic_ack(delivery_tag, multiple)

    def basic_nack(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None:
        """As the channel; what `ChannelNotes.rejected` says is recorded before the broker is told."""
        self._notes.rejected(delivery_tag, multiple, requeue)
        self._channel.basic_nack(delivery_tag, multiple, requeue)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """As the channel; what `ChannelNotes.rejected` says is recorded before the broker is told."""
        self._notes.rejected(delivery_tag, False, requeue)
        self._channel.basic_reject(delivery_tag, requeue)

    def basic_recover(self, requeue: bool = False) -> None:
        """As the channel: all that is unsettled is delivered again, under new tags."""
        self._notes.recovering()
        self._channel.basic_recover(requeue)

    def _fetched(self, queue: str, found: Any, auto_ack: bool) -> None:
        method, properties, body = found
        if method is not None and self._notes.takes_from(queue):
            held = self._delivered(queue, method, properties, body, auto_ack)
            if auto_ack:
                self._notes.auto_acked(held)

    def _delivered(self, queue: str, method: Any, properties: Any, body: bytes | None, auto_ack: bool) -> Held:
        return self._notes.delivered(queue, method.delivery_tag, method.redelivered, properties, body, auto_ack)
