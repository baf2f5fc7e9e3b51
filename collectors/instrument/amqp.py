"""What the instrumentations of AMQP 0-9-1 clients share: what one channel sends, holds and settles, and its events.

A wrapper of one client library says what happens on a channel, before it tells the broker; nothing here talks to one.
"Properties" are the library's own object: it has `message_id`, `correlation_id` and `headers`, and can be copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from collectors.carried import CORRELATION_ID, new_message_id, text
from collectors.clock import now_micros
from collectors.instrument.observe import Observer
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage

Properties = TypeVar("Properties")


class Held(NamedTuple):
    """A delivery that the application has not settled yet, and what its events share (`Observer.share`)."""

    queue: str
    shared: bytes | None


class Deliveries:
    """The unsettled deliveries of one channel by tag: as many as its prefetch allows."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}

    def add(self, tag: int, held: Held) -> None:
        """Handed to the application, to be settled by it."""
        self._held[tag] = held

    def pop(self, tag: int) -> Held | None:
        """The one that settling `tag` alone settles, if it was held."""
        return self._held.pop(tag, None)

    def take(self, tag: int, multiple: bool) -> list[Held]:
        """Those that settling `tag` settles, in order of delivery. With `multiple` it is all up to `tag`, and 0 is
        all of them (AMQP 0-9-1, basic.ack)."""
        if not multiple:
            held = self._held.pop(tag, None)
            return [] if held is None else [held]
        tags = [outstanding for outstanding in self._held if tag == 0 or outstanding <= tag]
        return [self._held.pop(outstanding) for outstanding in tags]

    def clear(self) -> None:
        """The broker takes all of them back."""
        self._held.clear()


class ChannelNotes:
    """What is observed on one channel, named `name` among all channels there are. The arguments are those of the
    wrappers' `channel`. No method waits or raises on account of what a message holds."""

    def __init__(
        self,
        observer: Observer,
        name: str,
        exchanges: Collection[str] | None,
        queues: Collection[str] | None,
        dead_lettering: Collection[str],
    ) -> None:
        self._observer, self._name = observer, name
        self._exchanges, self._queues, self._dead_lettering = exchanges, queues, dead_lettering
        self._held = Deliveries()
        self._published = 0
        self._transaction: list[tuple[Stage, Callable[[], object]]] | None = None

    def publishes_to(self, exchange: str) -> bool:
        """Whether what is published there is observed."""
        return self._exchanges is None or exchange in self._exchanges

    def takes_from(self, queue: str) -> bool:
        """Whether deliveries from there are observed."""
        return self._queues is None or queue in self._queues

    @property
    def identity(self) -> str:
        """The header that carries the id in the observer's flow."""
        return self._observer.identity_header

    def published(
        self, stage: Stage, exchange: str, properties: Any, body: bytes, at: int, about: dict[str, str]
    ) -> None:
        """`produce`, or the `nack` of a publish that the broker refused; `at` is when the application called."""
        self._published += 1
        shared = self._shared(properties, body, f"{exchange}:{self._name}:{self._published}")
        if self._transaction is None:
            self._observer.tell(stage, shared, observed_at=at, attributes=about)
        else:
            record = partial(self._observer.tell, stage, shared, observed_at=at, attributes=about)
            self._transaction.append((stage, record))

    def delivered(
        self, queue: str, tag: int, redelivered: bool | None, properties: Any, body: bytes | None, auto_ack: bool
    ) -> Held:
        """`deliver`, never part of a transaction: it has been handed over. Its `delivery` is
        `queue:connection:channel:tag`."""
        shared = self._shared(properties, body, f"{queue}:{self._name}:{tag}")
        held = Held(queue, shared)
        if not auto_ack:
            self._held.add(tag, held)
        self._observer.tell(Stage.deliver, shared, attributes=_REDELIVERED if redelivered else _FIRST)
        return held

    def auto_acked(self, held: Held) -> None:
        """`ack` of a delivery that the broker forgot when it sent it: the application is done with it, as far as
        anybody can tell."""
        self._settled(Stage.ack, held, {"auto_ack": "true"})

    def acked(self, tag: int, multiple: bool) -> None:
        """`ack` of each delivery that this settles."""
        if not multiple and self._transaction is None:  # mostly
            held = self._held.pop(tag)
            if held is not None:
                self._observer.tell(Stage.ack, held.shared)
            return
        for held in self._held.take(tag, multiple):
            self._settled(Stage.ack, held)

    def rejected(self, tag: int, multiple: bool, requeue: bool) -> None:
        """`nack`; without requeue a `dead_letter` where the queue is known to have an exchange for them. Where it has
        none the broker discards the message, but a client cannot know that: the attribute says what was asked."""
        for held in self._held.take(tag, multiple):
            if requeue:
                self._settled(Stage.nack, held, {"requeue": "true"})
            elif held.queue in self._dead_lettering:
                self._settled(Stage.dead_letter, held, reason="rejected")
            else:
                self._settled(Stage.nack, held, {"requeue": "false"})

    def recovering(self) -> None:
        """All that is unsettled is delivered again, under new tags."""
        self._held.clear()

    def begin(self) -> None:
        """From here on publishes and acks count when the transaction is committed; what it held before never does."""
        self._transaction = []

    def committing(self) -> list[Callable[[], object]]:
        """Record the acks of the transaction, before the broker is told; what is to be called after it agreed."""
        held, self._transaction = self._transaction or [], []
        for stage, record in held:
            if stage is not Stage.produce:
                record()
        return [record for stage, record in held if stage is Stage.produce]

    def _shared(self, properties: Any, body: bytes | None, delivery: str) -> bytes | None:
        try:
            own, headers = identified(properties, self._observer.identity_header)
            return self._observer.share(headers, body, message_id=own, delivery=delivery)
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            return None

    def _settled(self, stage: Stage, held: Held, about: dict[str, str] | None = None, reason: str = "") -> None:
        if self._transaction is None:
            self._observer.tell(stage, held.shared, reason=reason, attributes=about)
        else:
            record = partial(self._observer.tell, stage, held.shared, reason=reason, attributes=about)
            self._transaction.append((stage, record))


_REDELIVERED, _FIRST = {"redelivered": "true"}, {"redelivered": "false"}


def stamped(properties: Properties, identity: str = MESSAGE_ID) -> Properties:
    """As `stamp`, a copy: the caller's object, which it may use for many messages, is left alone."""
    out = copy.copy(properties)
    stamp(out, identity)
    return out


def stamp(properties: Any, identity: str = MESSAGE_ID) -> None:
    """Set message id and origin time where absent; the headers become a dictionary of our own. The id goes into the
    `message_id` property, or into `identity` where a flow has its own header for it. Values are text: bytes would be a
    byte array to other clients. What the client library will refuse anyway is left as it is."""
    try:
        headers: dict[str, Any] = dict(properties.headers or {})
    except (TypeError, ValueError):
        return
    now = now_micros()
    if identity != MESSAGE_ID:
        headers[identity] = headers.get(identity) or properties.message_id or new_message_id(now)
    elif not properties.message_id and not headers.get(MESSAGE_ID):
        properties.message_id = new_message_id(now)
    if ORIGIN_AT not in headers:
        headers[ORIGIN_AT] = str(now)
    properties.headers = headers


def identified(properties: Any, identity: str = MESSAGE_ID) -> tuple[str, Mapping[str, Any] | None]:
    """The `message_id` property where it is the flow's identity (else empty: the header is), and the headers, with
    the `correlation_id` property among them."""
    headers: Mapping[str, Any] | None = properties.headers
    if properties.correlation_id:
        headers = {CORRELATION_ID: properties.correlation_id, **(headers or {})}
    return (text(properties.message_id) if identity == MESSAGE_ID else ""), headers
