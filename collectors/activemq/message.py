"""A message as STOMP shows it, and as STOMP takes it: what is the application's own, and what is the broker's."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.activemq.link import Frame
from collectors.carried import text
from tracker.model.carry import MESSAGE_ID, Copy

KEPT = ("correlation-id", "priority", "reply-to", "type", "JMSXGroupID")
"""What a copy brings along of what JMS knows of a message."""
BROKERS = frozenset({
    "ack", "content-length", "destination", "expires", "id", "message-id", "original-destination",
    "originalDeliveryMode", "originalExpiration", "persistent", "receipt", "redelivered", "subscription", "timestamp",
    "transaction", "transformation", "dlqDeliveryFailureCause", *KEPT,
})  # fmt: skip
"""Headers that are not the application's."""
LENGTH = "content-length"
"""What comes with it was sent as bytes, and is sent as bytes; without it, it is a text."""


def headers_of(frame: Frame) -> dict[str, bytes]:
    """The application's own."""
    return {name: value.encode() for name, value in frame.headers.items() if name not in BROKERS}


def native_of(frame: Frame) -> dict[str, str]:
    """What a publisher to ActiveMQ needs besides."""
    return {name: frame.headers[name] for name in (*KEPT, LENGTH) if name in frame.headers}


def sent(copy: Copy, queue: str) -> dict[str, str]:
    """The headers of a copy for `queue` (a queue's or a topic's name as STOMP has it). Raises `ValueError` for a header
    that is no UTF-8."""
    own: dict[str, str] = {}
    for name, value in copy.headers.items():
        try:
            own |= {} if name in BROKERS else {name: value.decode()}
        except UnicodeDecodeError:
            raise ValueError(f"header {name!r} is no UTF-8: {text(value)!r}") from None
    own.setdefault(MESSAGE_ID, copy.locator.message_id)
    native: Mapping[str, str] = copy.native if isinstance(copy.native, Mapping) else {LENGTH: ""}
    if LENGTH in native or b"\0" in copy.value:
        native = {**native, LENGTH: str(len(copy.value))}
    return {**own, **native, "destination": queue, "persistent": "true"}
