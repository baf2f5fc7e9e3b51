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
from collectors.instrument.observe import Observer
from collectors.instrument.pika_message import Deliveries, Held, identified, stamped
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
    return ObservedChannel(channel, observer, exchanges, queues, dead_lettering, connection or uuid.uuid4().hex[:16])


class ObservedChannel:
    """A `BlockingChannel` whose publishes and deliveries are observed; all that is not here is the channel's own.

    What it holds per unsettled delivery (the properties and a reference to the body) is bounded by the prefetch.
    """

    def __init__(
        self,
        channel: BlockingChannel,
        observer: Observer,
        exchanges: Collection[str] | None,
        queues: Collection[str] | None,
        dead_lettering: Collection[str],
        connection: str,
    ) -> None:
        self._channel, self._observer = channel, observer
        self._exchanges, self._queues, self._dead_lettering = exchanges, queues, dead_lettering
        self._name = f"{connection}:{channel.channel_number}"
        self._held = Deliveries()
        self._published = 0
        self._confirms = False
        self._transaction: list[tuple[Stage, Callable[[], None]]] | None = None

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
        if self._exchanges is not None and exchange not in self._exchanges:
            return self._channel.basic_publish(exchange, routing_key, body, properties, mandatory)
        properties = stamped(properties, self._observer.identity_header)
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
        self._transaction = []
        return self._channel.tx_select()

    def tx_commit(self) -> Any:
        """As the channel. Acks of the transaction are recorded before the broker is told, publishes after it agreed."""
        held, self._transaction = self._transaction or [], []
        for stage, record in held:
            if stage is not Stage.produce:
                record()
        answer = self._channel.tx_commit()
        for stage, record in held:
            if stage is Stage.produce:
                record()
        return answer

    def tx_rollback(self) -> Any:
        """As the channel. Nothing of the transaction is recorded; the broker counts its acks as not given."""
        self._transaction = []
        return self._channel.tx_rollback()

    def _produced(
        self, stage: Stage, exchange: str, properties: BasicProperties, body: Any, at: int, outcome: dict[str, str]
    ) -> None:
        self._published += 1
        delivery = f"{exchange}:{self._name}:{self._published}"
        value = body.encode() if isinstance(body, str) else body
        self._record(stage, properties, value, delivery, outcome, observed_at=at)

    # -- consuming -----------------------------------------------------------------------------------------------

    def basic_consume(
        self, queue: str, on_message_callback: Callable[..., Any], auto_ack: bool = False, **options: Any
    ) -> Any:
        """As the channel; the callback is given this channel. With `auto_ack` the broker forgets a message when it
        sends it, so `ack` is recorded when the callback returned: a message lost on the way has none."""
        if self._queues is not None and queue not in self._queues:
            return self._channel.basic_consume(queue, self._plainly(on_message_callback), auto_ack, **options)

        def observed(_: Any, method: Any, properties: Any, body: bytes) -> None:
            held = self._delivered(queue, method, properties, body, auto_ack)
            on_message_callback(self, method, properties, body)
            if auto_ack:
                self._settled(Stage.ack, held, {"auto_ack": "true"})

        return self._channel.basic_consume(queue, observed, auto_ack, **options)

    def consume(self, queue: str, auto_ack: bool = False, **options: Any) -> Iterator[Any]:
        """As the channel. With `auto_ack`, `ack` is recorded at once: nothing later can be seen."""
        watched = self._queues is None or queue in self._queues
        for item in self._channel.consume(queue, auto_ack=auto_ack, **options):
            method, properties, body = item
            if method is None or not watched:
                yield item
                continue
            held = self._delivered(queue, method, properties, body, auto_ack)
            if auto_ack:
                self._settled(Stage.ack, held, {"auto_ack": "true"})
            yield item

    def basic_get(self, queue: str, auto_ack: bool = False) -> Any:
        """As the channel. With `auto_ack`, `ack` is recorded at once: nothing later can be seen."""
        found = self._channel.basic_get(queue, auto_ack)
        method, properties, body = found
        if method is not None and (self._queues is None or queue in self._queues):
            held = self._delivered(queue, method, properties, body, auto_ack)
            if auto_ack:
                self._settled(Stage.ack, held, {"auto_ack": "true"})
        return found

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """As the channel; `ack` of each delivery that this settles is recorded before the broker is told."""
        for held in self._held.take(delivery_tag, multiple):
            self._settled(Stage.ack, held)
        self._channel.basic_ack(delivery_tag, multiple)

    def basic_nack(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None:
        """As the channel; see `_rejected` for what is recorded, before the broker is told."""
        for held in self._held.take(delivery_tag, multiple):
            self._rejected(held, requeue)
        self._channel.basic_nack(delivery_tag, multiple, requeue)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """As the channel; see `_rejected` for what is recorded, before the broker is told."""
        for held in self._held.take(delivery_tag, False):
            self._rejected(held, requeue)
        self._channel.basic_reject(delivery_tag, requeue)

    def basic_recover(self, requeue: bool = False) -> None:
        """As the channel: all that is unsettled is delivered again, under new tags."""
        self._held.clear()
        self._channel.basic_recover(requeue)

    def _delivered(self, queue: str, method: Any, properties: Any, body: bytes | None, auto_ack: bool) -> Held:
        held = Held(queue, f"{queue}:{self._name}:{method.delivery_tag}", properties, body or b"")
        if not auto_ack:
            self._held.add(method.delivery_tag, held)
        about = {"redelivered": "true" if method.redelivered else "false"}
        # Never part of a transaction: it has been handed over.
        self._observe(Stage.deliver, properties, held.body, held.delivery, about)
        return held

    def _rejected(self, held: Held, requeue: bool) -> None:
        """`nack`; without requeue a `dead_letter` where the queue is known to have an exchange for them. Where it has
        none the broker discards the message, but a client cannot know that: the attribute says what was asked."""
        if requeue:
            self._settled(Stage.nack, held, {"requeue": "true"})
        elif held.queue in self._dead_lettering:
            self._settled(Stage.dead_letter, held, reason="rejected")
        else:
            self._settled(Stage.nack, held, {"requeue": "false"})

    def _settled(self, stage: Stage, held: Held, about: dict[str, str] | None = None, reason: str = "") -> None:
        self._record(stage, held.properties, held.body, held.delivery, about, reason=reason)

    def _plainly(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def passed_on(_: Any, method: Any, properties: Any, body: bytes) -> None:
            callback(self, method, properties, body)

        return passed_on

    # -- recording -----------------------------------------------------------------------------------------------

    def _record(
        self,
        stage: Stage,
        properties: BasicProperties,
        body: bytes,
        delivery: str,
        about: dict[str, str] | None,
        **more: Any,
    ) -> None:
        if self._transaction is None:
            self._observe(stage, properties, body, delivery, about, **more)
        else:
            self._transaction.append((stage, lambda: self._observe(stage, properties, body, delivery, about, **more)))

    def _observe(
        self,
        stage: Stage,
        properties: BasicProperties,
        body: bytes,
        delivery: str,
        about: dict[str, str] | None,
        **more: Any,
    ) -> None:
        own, headers = identified(properties, self._observer.identity_header)
        self._observer.observe(stage, headers, body, delivery=delivery, message_id=own, attributes=about, **more)
