"""What an instrumented channel keeps of messages: the properties it sends, the deliveries that are not settled yet."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from pika import BasicProperties

from collectors.carried import CORRELATION_ID, new_message_id, text
from collectors.clock import now_micros
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT


class Held(NamedTuple):
    """A delivery that the application has not settled yet. `delivery` is `queue:connection:channel:tag`."""

    queue: str
    delivery: str
    properties: BasicProperties
    body: bytes


class Deliveries:
    """The unsettled deliveries of one channel by tag: as many as its prefetch allows."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}

    def add(self, tag: int, held: Held) -> None:
        """Handed to the application, to be settled by it."""
        self._held[tag] = held

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


def stamped(properties: BasicProperties | None, identity: str = MESSAGE_ID) -> BasicProperties:
    """A copy with message id and origin time set where absent; the caller's object, which it may use for many
    messages, is left alone. The id goes into the `message_id` property, or into `identity` where a flow has its own
    header for it. Values are text: bytes would be a byte array to other clients."""
    out = copy.copy(properties) if properties is not None else BasicProperties()
    headers: dict[str, Any] = dict(out.headers or {})
    now = now_micros()
    if identity != MESSAGE_ID:
        headers[identity] = headers.get(identity) or out.message_id or new_message_id(now)
    elif not out.message_id and not headers.get(MESSAGE_ID):
        out.message_id = new_message_id(now)
    headers.setdefault(ORIGIN_AT, str(now))
    out.headers = headers
    return out


def identified(properties: BasicProperties, identity: str = MESSAGE_ID) -> tuple[str, Mapping[str, Any] | None]:
    """The `message_id` property where it is the flow's identity (else empty: the header is), and the headers, with
    the `correlation_id` property among them."""
    headers: Mapping[str, Any] | None = properties.headers
    if properties.correlation_id:
        headers = {CORRELATION_ID: properties.correlation_id, **(headers or {})}
    return (text(properties.message_id) if identity == MESSAGE_ID else ""), headers
