"""Instrumentation of nats-py: produce when a stream has it, deliver, and what the application says of each message.

One line: `js = instrument.jetstream(nc.jetstream(), observer)`. Use it in place of the context; the messages that its
subscriptions give are nats-py's own. An observation is in the spool before the server is told, by a copy into memory on
the event loop: nothing here awaits but what the application awaits anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Any

from nats.aio.msg import Msg
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from collectors.carried import Carried, new_message_id
from collectors.clock import now_micros
from collectors.instrument.observe import Observer
from collectors.nats.records import DEDUPLICATED, delivery_of, fits, said_of
from tracker.model.carry import ORIGIN_AT
from tracker.model.event import Stage

Callback = Callable[[Msg], Awaitable[None]]


def jetstream(
    context: JetStreamContext, observer: Observer, *, subjects: Collection[str] | None = None
) -> ObservedJetStream:
    """The same context, observed. Only messages whose subject fits one of `subjects` (with `*` and `>`) are; None:
    all."""
    return ObservedJetStream(context, observer, subjects)


class ObservedMsg(Msg):
    """A message whose settling is observed. It is the application's own: only its class is another."""

    _observer: Observer
    _shared: bytes | None

    async def ack(self) -> None:
        """As the message; `ack` is recorded before the server is told."""
        self._tell(Stage.ack)
        await super().ack()

    async def ack_sync(self, timeout: float = 1.0) -> Msg:
        """As `ack`."""
        self._tell(Stage.ack)
        return await super().ack_sync(timeout)

    async def nak(self, delay: int | float | None = None) -> None:
        """As the message; `nack` is recorded before the server is told."""
        self._tell(Stage.nack)
        await super().nak(delay)

    async def term(self) -> None:
        """As the message; `dead_letter` is recorded before the server is told: nobody is given it again."""
        self._tell(Stage.dead_letter, "terminated")
        await super().term()

    def _tell(self, stage: Stage, reason: str = "") -> None:
        if not self._ackd:  # else nats-py refuses it
            self._observer.tell(stage, self._shared, reason=reason)


class ObservedJetStream:
    """A `JetStreamContext` whose messages are observed; all that is not here is its own."""

    def __init__(self, context: JetStreamContext, observer: Observer, subjects: Collection[str] | None) -> None:
        self._context, self._observer, self._subjects = context, observer, subjects

    def __getattr__(self, name: str) -> Any:
        """Everything else: the context's own."""
        return getattr(self._context, name)

    async def publish(self, subject: str, payload: bytes = b"", *args: Any, **options: Any) -> Any:
        """As the context, with message id and origin time set where absent. Records `produce` when the server says that
        a stream has it, `nack` when it refuses. Its time is that of this call."""
        if not self._watches(subject):
            return await self._context.publish(subject, payload, *args, **options)
        args, options, said = self._stamped(args, options)
        at = now_micros()
        try:
            stored = await self._context.publish(subject, payload, *args, **options)
        except (APIError, NoStreamResponseError):
            self._published(said, payload, at, None)
            raise
        self._published(said, payload, at, stored)
        return stored

    async def publish_async(
        self, subject: str, payload: bytes = b"", *args: Any, **options: Any
    ) -> asyncio.Future[Any]:
        """As the context; see `publish`. Of a future that was cancelled nobody is told."""
        if not self._watches(subject):
            return await self._context.publish_async(subject, payload, *args, **options)
        args, options, said = self._stamped(args, options)
        at = now_micros()
        future: asyncio.Future[Any] = await self._context.publish_async(subject, payload, *args, **options)
        future.add_done_callback(partial(self._settled, said, payload, at))
        return future

    async def subscribe(
        self, subject: str, queue: str | None = None, cb: Callback | None = None, *args: Any, **options: Any
    ) -> Any:
        """As the context; records `deliver`, and what the callback says. Messages that nats-py acks by
        itself, when the callback returned, are acked then."""
        return self._watched(await self._context.subscribe(subject, queue, self._around(cb), *args, **options))

    async def subscribe_bind(
        self, stream: str, config: Any, consumer: str, cb: Callback | None = None, *args: Any, **options: Any
    ) -> Any:
        """As `subscribe`."""
        return self._watched(
            await self._context.subscribe_bind(stream, config, consumer, self._around(cb), *args, **options)
        )

    async def pull_subscribe(self, *args: Any, **options: Any) -> Any:
        """As the context; records `deliver` for what is fetched."""
        return self._watched(await self._context.pull_subscribe(*args, **options))

    async def pull_subscribe_bind(self, *args: Any, **options: Any) -> Any:
        """As `pull_subscribe`."""
        return self._watched(await self._context.pull_subscribe_bind(*args, **options))

    def delivered(self, message: Msg) -> Msg:
        """The same message, observed from here on; records `deliver`."""
        if not self._watches(message.subject):
            return message
        try:
            at = message.metadata
            said = said_of(message.headers or {}, self._observer.identity_header)
            number = at.sequence.stream
            shared = self._observer.share(
                None, message.data, said=said, partition=at.stream, offset=number, group=at.consumer,
                delivery=delivery_of(at.stream, number, at.consumer, at.sequence.consumer),
            )  # fmt: skip
            message.__class__ = ObservedMsg  # in place: nats-py acks the object that it made, not one of ours
            message._observer, message._shared = self._observer, shared  # type: ignore[attr-defined] # see above
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            shared = None
        self._observer.tell(Stage.deliver, shared)
        return message

    def _watches(self, subject: str) -> bool:
        return self._subjects is None or any(fits(each, subject) for each in self._subjects)

    def _around(self, callback: Callback | None) -> Callback | None:
        if callback is None:
            return None

        async def observed(message: Msg) -> None:
            await callback(self.delivered(message))

        return observed

    def _watched(self, subscription: Any) -> ObservedSubscription:
        return ObservedSubscription(subscription, self)

    def _stamped(self, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any], Carried | None]:
        """Arguments of a publish with id and origin in their headers, and what these say. What nats-py will refuse
        anyway is left as it is."""
        try:
            place = 2  # `headers` is the fifth argument of both
            headers = dict((args[place] if len(args) > place else options.get("headers")) or {})
            identity, now = self._observer.identity_header, now_micros()
            if not headers.get(identity) and not headers.get(DEDUPLICATED):
                headers[identity] = new_message_id(now)
            if not headers.get(ORIGIN_AT):
                headers[ORIGIN_AT] = str(now)
            said = said_of(headers, identity)
            if len(args) > place:
                return (*args[:place], headers, *args[place + 1 :]), options, said
            return args, {**options, "headers": headers}, said
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            return args, options, None

    def _settled(self, said: Carried | None, payload: bytes, at: int, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._published(said, payload, at, future.result())
        elif isinstance(error, APIError | NoStreamResponseError):
            self._published(said, payload, at, None)

    def _published(self, said: Carried | None, payload: bytes, at: int, stored: Any) -> None:
        """`stored`: what the server said; None: it refused."""
        if said is None:
            self._observer.tell(Stage.produce, None)
            return
        if stored is None:
            shared = self._observer.share(None, payload, said=said)
            self._observer.tell(Stage.nack, shared, observed_at=at, attributes={"refused_by": "server"})
            return
        shared = self._observer.share(None, payload, said=said, partition=stored.stream, offset=stored.seq)
        told = {"duplicate": "true"} if stored.duplicate else None
        self._observer.tell(Stage.produce, shared, observed_at=at, attributes=told)


class ObservedSubscription:
    """A subscription of nats-py, push or pull, whose messages are observed; all that is not here is its own."""

    def __init__(self, subscription: Any, context: ObservedJetStream) -> None:
        self._subscription, self._context = subscription, context

    def __getattr__(self, name: str) -> Any:
        """Everything else: the subscription's own."""
        return getattr(self._subscription, name)

    @property
    def messages(self) -> AsyncIterator[Msg]:
        """As the subscription; records `deliver`."""
        return self._observed(self._subscription.messages)

    async def fetch(self, *args: Any, **options: Any) -> list[Msg]:
        """As the subscription; records `deliver` of each."""
        return [self._context.delivered(each) for each in await self._subscription.fetch(*args, **options)]

    async def next_msg(self, *args: Any, **options: Any) -> Msg:
        """As the subscription; records `deliver`."""
        return self._context.delivered(await self._subscription.next_msg(*args, **options))

    async def _observed(self, messages: AsyncIterator[Msg]) -> AsyncIterator[Msg]:
        async for message in messages:
            yield self._context.delivered(message)
