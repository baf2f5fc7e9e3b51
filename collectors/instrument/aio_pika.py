"""Instrumentation of aio-pika: produce on the broker's confirm, deliver, ack and nack as the application does them.

One line: `channel = instrument.channel(await connection.channel(), observer)`. It is the application's own channel that
comes back, with the exchanges, queues and messages of aio-pika: what is watched is the AMQP channel beneath them, which
all of them ask for by the public `get_underlay_channel`. A robust channel gets a new one after each reconnect; that one
is watched too, under a name of its own. An observation is in the spool before the broker is told, by a copy into memory
on the event loop: nothing here awaits but what the application awaits anyway.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractChannel as Underlay
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import DeliveryError, PublishError

from collectors.carried import text
from collectors.clock import now_micros
from collectors.instrument.amqp import ChannelNotes, Held, stamp
from collectors.instrument.observe import Observer
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Stage

AnyChannel = TypeVar("AnyChannel", bound=AbstractChannel)


def channel(
    channel: AnyChannel,
    observer: Observer,
    *,
    exchanges: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    dead_lettering: Collection[str] = (),
) -> AnyChannel:
    """The same channel, observed from here on: call this before it publishes or consumes.

    Only publishes to `exchanges` and deliveries from `queues` are observed (None: all); a channel that serves two
    flows is given twice. `dead_lettering`: queues that have a dead letter exchange, which a client cannot see for
    itself.
    """
    beneath = channel.get_underlay_channel
    watched: list[ObservedUnderlay] = []

    async def get_underlay_channel() -> Any:
        now = await beneath()
        if not watched or watched[0].underlay is not now:
            name = f"{uuid.uuid4().hex[:16]}:{now.number}"
            watched[:] = [ObservedUnderlay(now, ChannelNotes(observer, name, exchanges, queues, dead_lettering))]
        return watched[0]

    channel.get_underlay_channel = get_underlay_channel  # type: ignore[method-assign]
    return channel


class ObservedUnderlay:
    """An AMQP channel of aiormq whose publishes and deliveries are observed; all that is not here is its own.

    What it holds per unsettled delivery (its headers and digest) is bounded by the prefetch, and goes with the channel:
    what a lost channel delivered cannot be settled, and comes again.
    """

    def __init__(self, underlay: Underlay, notes: ChannelNotes) -> None:
        self.underlay, self._notes = underlay, notes

    def __getattr__(self, name: str) -> Any:
        """Everything else: the channel's own."""
        return getattr(self.underlay, name)

    @property
    def is_closed(self) -> bool:
        """As the channel; asked for with each message that is settled."""
        return self.underlay.is_closed

    async def basic_publish(self, body: bytes, *, exchange: str = "", properties: Any = None, **options: Any) -> Any:
        """As the channel, with message id and origin time set where absent. Records `produce` when the broker
        confirmed (without confirms: when it was handed to the socket), `nack` when it refused."""
        if properties is None or not self._notes.publishes_to(exchange):
            return await self.underlay.basic_publish(body, exchange=exchange, properties=properties, **options)
        stamp(properties, self._notes.identity)  # aio-pika makes them anew for each publish
        if not properties.message_id:  # aiormq would make one up, beside the one in the header
            properties.message_id = text((properties.headers or {}).get(MESSAGE_ID)) or None
        at = now_micros()
        answer: Any
        try:
            answer = await self.underlay.basic_publish(body, exchange=exchange, properties=properties, **options)
        except PublishError:
            # Confirmed and returned: the broker has it no more, the application has been told.
            self._notes.published(Stage.produce, exchange, properties, body, at, _RETURNED)
            raise
        except DeliveryError:
            # Not accepted, so nothing was promised; the timeline shows that it was tried.
            self._notes.published(Stage.nack, exchange, properties, body, at, {"refused_by": "broker"})
            raise
        outcome = _RETURNED if isinstance(answer, DeliveredMessage) else _UNCONFIRMED if answer is None else _CONFIRMED
        self._notes.published(Stage.produce, exchange, properties, body, at, outcome)
        return answer

    async def tx_select(self, **options: Any) -> Any:
        """As the channel: from here on publishes and acks count when the transaction is committed."""
        self._notes.begin()
        return await self.underlay.tx_select(**options)

    async def tx_commit(self, **options: Any) -> Any:
        """As the channel. Acks of the transaction are recorded before the broker is told, publishes after it agreed."""
        publishes = self._notes.committing()
        answer = await self.underlay.tx_commit(**options)
        for record in publishes:
            record()
        return answer

    async def tx_rollback(self, **options: Any) -> Any:
        """As the channel. Nothing of the transaction is recorded; the broker counts its acks as not given."""
        self._notes.begin()
        return await self.underlay.tx_rollback(**options)

    async def basic_consume(
        self,
        queue: str,
        consumer_callback: Callable[[DeliveredMessage], Awaitable[Any]],
        *,
        no_ack: bool = False,
        **options: Any,
    ) -> Any:
        """As the channel. `deliver` is recorded when the message has arrived, also where an iterator keeps it until it
        is asked for. With `no_ack` the broker forgets a message when it sends it, so `ack` is recorded when the
        callback returned: a message lost on the way has none. (An iterator's callback returns at once.)"""

        async def observed(message: DeliveredMessage) -> Any:
            held = self._delivered(queue, message, no_ack)
            answer = await consumer_callback(message)
            if held is not None and no_ack:
                self._notes.auto_acked(held)
            return answer

        return await self.underlay.basic_consume(queue, observed, no_ack=no_ack, **options)

    async def basic_get(self, queue: str = "", no_ack: bool = False, **options: Any) -> DeliveredMessage:
        """As the channel. With `no_ack`, `ack` is recorded at once: nothing later can be seen."""
        message = await self.underlay.basic_get(queue, no_ack, **options)
        held = self._delivered(queue, message, no_ack)
        if held is not None and no_ack:
            self._notes.auto_acked(held)
        return message

    async def basic_ack(self, delivery_tag: int, multiple: bool = False, **options: Any) -> None:
        """As the channel; `ack` of each delivery that this settles is recorded before the broker is told. On a channel
        that is lost nothing is settled."""
        if not self.underlay.is_closed:
            self._notes.acked(delivery_tag, multiple)
        await self.underlay.basic_ack(delivery_tag, multiple, **options)

    async def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True, **options: Any) -> None:
        """As the channel; what `ChannelNotes.rejected` says is recorded before the broker is told."""
        if not self.underlay.is_closed:
            self._notes.rejected(delivery_tag, multiple, requeue)
        await self.underlay.basic_nack(delivery_tag, multiple, requeue, **options)

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = True, **options: Any) -> None:
        """As the channel; what `ChannelNotes.rejected` says is recorded before the broker is told."""
        if not self.underlay.is_closed:
            self._notes.rejected(delivery_tag, False, requeue)
        await self.underlay.basic_reject(delivery_tag, requeue=requeue, **options)

    def _delivered(self, queue: str, message: DeliveredMessage, no_ack: bool) -> Held | None:
        """What is held of it; None when nothing is. From here on it is settled here, also when its queue is not
        observed: with `multiple` it settles others."""
        object.__setattr__(message, "channel", self)  # frozen, and made for this delivery
        tag = message.delivery_tag
        if tag is None or not self._notes.takes_from(queue):
            return None
        properties = message.header.properties
        return self._notes.delivered(queue, tag, message.redelivered, properties, message.body, no_ack)


_CONFIRMED = {"confirmed": "true"}
_UNCONFIRMED = {"confirmed": "false"}
_RETURNED = {"confirmed": "true", "returned": "true"}
