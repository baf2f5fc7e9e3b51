"""What a message of RabbitMQ says about itself, as an event. Pure: shared by the firehose, dead letters and streams."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from collectors.base import Content, Raw
from collectors.carried import CORRELATION_ID, Carried, carried, digest_of, number, text
from collectors.errors import Undecodable
from collectors.rabbitmq.routes import Place
from collectors.rabbitmq.table import Told
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Event, Stage

PROPERTIES = "properties"
ENCODED = "encoded"
SINCE = "since"
PROBLEM = "problem"
"""Headers of a `Raw` of ours: the message's properties as msgpack; the properties as the broker sent them; when it was
read from a backlog, the earliest time at which it can have happened (epoch microseconds, or 0: not known); and why its
headers could not all be read."""

LONG_AGO = 1_262_304_000_000_000
"""2010-01-01: when something began of which no beginning is known. Older than any message that a broker still holds,
and ten years behind the earliest time that a tracker takes, which is how far it corrects a clock at most."""
BROKERS = re.compile(r"x-death|x-(first|last)-death-\w+|x-delivery-count|x-stream-\w+|x-opt-\w+")
"""Headers that a broker adds on the way: they tell of this delivery and are not the message's."""

WEEK = 7 * 24 * 3600 * 1_000_000
ATTRIBUTE_LIMIT = 200


class Properties(msgspec.Struct, frozen=True):
    """AMQP properties as they were published; values of any type, for whatever was published is in here."""

    message_id: Any = None
    correlation_id: Any = None
    timestamp: Any = None
    headers: dict[str, Any] = {}


class Seen(NamedTuple):
    """What happened to a message: where, in which delivery. `came` says in an error how it came there."""

    at: Place
    stage: Stage
    delivery: str
    came: str
    reason: str = ""
    node: str = ""
    partition: str = ""
    offset: int | None = None


_properties = msgspec.msgpack.Decoder(Properties)


def packed(table: Any) -> bytes:
    """A table of headers as `Raw` carries it. The same table packs to the same bytes whenever it is read; sorted,
    because the broker sorts a table when it adds a header of its own to it."""
    return msgspec.msgpack.encode(table, enc_hook=_plain, order="deterministic")


def packed_properties(properties: Any) -> bytes:
    """Properties of a message that was read itself, not by a trace of it, as `properties_of` reads them."""
    return packed(
        Properties(
            properties.message_id, properties.correlation_id, properties.timestamp, dict(properties.headers or {})
        )
    )


def problem_of(properties: Told) -> dict[str, bytes]:
    """The header of a `Raw` that says that there is more in its properties than could be read, if there is."""
    return {PROBLEM: properties.problem.encode()} if properties.problem else {}


def readable(raw: Raw) -> None:
    """Raises `Undecodable` for what `problem_of` said."""
    if PROBLEM in raw.headers:
        raise Undecodable(text(raw.headers[PROBLEM]))


def properties_of(raw: Raw) -> Properties:
    """The properties that `packed_properties` packed. Raises `Undecodable`."""
    readable(raw)
    try:
        return _properties.decode(raw.headers.get(PROPERTIES, b""))
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise Undecodable(f"not a message with its properties: {error}") from None


def event_of(
    raw: Raw,
    properties: Properties,
    identity: Mapping[str, str],
    seen: Seen,
    attributes: Mapping[str, str] | None = None,
) -> Event:
    """The event. `identity`: flow -> header of the application's id, where it is not the property. Raises
    `Undecodable` for a message without an id."""
    flow, hop = seen.at
    if raw.observed_at is None:
        raise Undecodable("a message without the time at which it was read")
    said = carried(properties.headers, identity.get(flow, MESSAGE_ID))
    origin = said.origin_at or stamped(properties.timestamp, raw.observed_at)
    return Event(
        flow=flow,
        message_id=_identity(properties, said, identity, seen),
        hop=hop,
        stage=seen.stage,
        observed_at=raw.observed_at,
        observed_from=_since(raw, origin),
        origin_at=origin,
        reason=seen.reason,
        delivery=seen.delivery,
        node=seen.node,
        partition=seen.partition,
        offset=seen.offset,
        digest=digest_of(raw.value),
        size=len(raw.value),
        attempt=said.attempt,
        trace_id=said.trace_id,
        span_id=said.span_id,
        correlation_id=text(properties.correlation_id) or said.correlation_id,
        causation_id=said.causation_id,
        replay_id=said.replay_id,
        attributes={name: value[:ATTRIBUTE_LIMIT] for name, value in (attributes or {}).items()},
    )


def content_of(raw: Raw, properties: Properties, native: bytes | None) -> Content:
    """The message itself. Its correlation id travels as a header, from which a publisher to another kind of broker
    makes what that has for it. `native`: its properties as bytes, for one to RabbitMQ."""
    headers = {name: _bytes(value) for name, value in properties.headers.items() if not BROKERS.fullmatch(name)}
    if properties.correlation_id is not None:
        headers.setdefault(CORRELATION_ID, _bytes(properties.correlation_id))
    return Content(None, raw.value, headers, native)


def _bytes(value: Any) -> bytes:
    """A header's value as a copy carries it: bytes as they are, what is nested as JSON, the rest as text."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, enc_hook=str)
    return value if isinstance(value, bytes) else text(value).encode()


def _plain(value: Any) -> Any:
    """Types of pika's that msgpack does not know: its `long` (a subclass of int), and whatever comes later as text."""
    return int(value) if isinstance(value, int) else str(value)


def _identity(properties: Properties, said: Carried, identity: Mapping[str, str], seen: Seen) -> str:
    """The application's id: the flow's own header where one is configured, else the property, else the header."""
    flow = seen.at[0]
    name = said.message_id if flow in identity else text(properties.message_id) or said.message_id
    if not name:
        where = identity.get(flow) or f"property message_id and header {MESSAGE_ID}"
        raise Undecodable(f"flow {flow!r}: no message id ({where} empty) in a message {seen.came}")
    return name


def stamped(timestamp: Any, read_at: int) -> int | None:
    """The `timestamp` property (seconds) as origin time; ignored unless within a week before it was read, because
    a producer that wrote milliseconds shows up in a trace with the upper bits lost."""
    seconds = number(timestamp)
    if seconds is None or not read_at - WEEK <= seconds * 1_000_000 <= read_at:
        return None
    return seconds * 1_000_000


def _since(raw: Raw, origin: int | None) -> int | None:
    """The start of the observation where only an interval is known: not before the message existed. Without any start
    it would be a moment, now, and whoever vouches for what came after it would be asked for an ack of long ago."""
    if SINCE not in raw.headers:
        return None
    since = max(number(raw.headers[SINCE]) or LONG_AGO, origin or 0)
    return min(since, raw.observed_at or since)
