"""Firehose messages as events. Pure: a `Raw` in, events out.

The format is the broker's (https://www.rabbitmq.com/docs/firehose): routing key `publish.<exchange>` or
`deliver.<queue>`, the payload as the body, everything else in headers. Tried on 3.10.8: no delivery tag, no time,
no ack. `properties.timestamp` comes as a signed 32-bit integer, so milliseconds arrive cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import xxhash

from collectors.base import Raw
from collectors.carried import Carried, carried, digest_of, number, text
from collectors.errors import Undecodable
from collectors.rabbitmq_routes import Place, Routes
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Event, Stage

ROUTING_KEY = "routing_key"
TRACE = "trace"
SINCE = "since"
"""Headers of a `Raw` of ours: the trace's routing key, its headers as msgpack, and, when it was read from a backlog,
the earliest time at which it can have happened (epoch microseconds, or 0: not known)."""

KEPT = frozenset(
    {"exchange_name", "routing_keys", "properties", "node", "vhost", "connection", "channel", "user"}
    | {"routed_queues", "redelivered"}
)
"""The headers of a trace. Others come from our own queue and change when it gives a record again (x-delivery-count)."""

WEEK = 7 * 24 * 3600 * 1_000_000
ATTRIBUTE_LIMIT = 200


class Properties(msgspec.Struct, frozen=True):
    """AMQP properties as the trace shows them; values of any type, for whatever was published is in here."""

    message_id: Any = None
    correlation_id: Any = None
    timestamp: Any = None
    headers: dict[str, Any] = {}


class Trace(msgspec.Struct, frozen=True):
    """The headers of a trace. `routed_queues` only of a publish, `redelivered` only of a deliver."""

    exchange_name: str
    routing_keys: list[str]
    properties: Properties
    connection: str
    channel: int
    node: str = ""
    routed_queues: list[str] | None = None
    redelivered: int = 0


_traces = msgspec.msgpack.Decoder(Trace)


def _plain(value: Any) -> Any:
    """Types of pika's that msgpack does not know: its `long` (a subclass of int), and whatever comes later as text."""
    return int(value) if isinstance(value, int) else str(value)


def packed(headers: Mapping[str, Any] | None) -> bytes:
    """Trace headers as `Raw` carries them. The same record packs to the same bytes whenever it is read; sorted,
    because the broker sorts a table when it adds a header of its own to it."""
    kept = {name: value for name, value in (headers or {}).items() if name in KEPT}
    return msgspec.msgpack.encode(kept, enc_hook=_plain, order="deterministic")


def events_of(raw: Raw, routes: Routes) -> list[Event]:
    """What one trace says, per flow and hop; nothing when no configured flow is meant. Raises `Undecodable`."""
    kind, _, place = text(raw.headers.get(ROUTING_KEY)).partition(".")
    blob = raw.headers.get(TRACE, b"")
    try:
        trace = _traces.decode(blob)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Undecodable(f"not a firehose message: {error}") from None
    if kind == "publish" and trace.routed_queues is not None:
        return _published(raw, trace, blob, routes)
    if kind == "deliver":
        places = routes.delivered(trace.exchange_name, trace.routing_keys, place)
        more = _taken(trace)
        return [_event(raw, trace, blob, routes, at, Stage.deliver, place, more=more) for at in places]
    raise Undecodable(f"not a firehose message: routing key {text(raw.headers.get(ROUTING_KEY))[:80]!r}")


def _published(raw: Raw, trace: Trace, blob: bytes, routes: Routes) -> list[Event]:
    exchange, keys = trace.exchange_name, trace.routing_keys
    if not trace.routed_queues:
        return [
            _event(raw, trace, blob, routes, at, Stage.drop, exchange, reason="unroutable")
            for at in routes.unroutable(exchange, keys)
        ]
    return [
        _event(raw, trace, blob, routes, at, Stage.persist, queue, node=trace.node)
        for queue in trace.routed_queues
        for at in routes.stored(exchange, keys, queue)
    ]


def _event(
    raw: Raw,
    trace: Trace,
    blob: bytes,
    routes: Routes,
    at: Place,
    stage: Stage,
    place: str,
    *,
    node: str = "",
    reason: str = "",
    more: Mapping[str, str] | None = None,
) -> Event:
    flow, hop = at
    if raw.observed_at is None:
        raise Undecodable("a trace without the time at which it was read")
    said = carried(trace.properties.headers, routes.identity.get(flow, MESSAGE_ID))
    origin = said.origin_at or _stamped(trace.properties.timestamp, raw.observed_at)
    return Event(
        flow=flow,
        message_id=_identity(trace, said, routes, flow),
        hop=hop,
        stage=stage,
        observed_at=raw.observed_at,
        observed_from=_since(raw, origin),
        origin_at=origin,
        reason=reason,
        # No delivery tag exists in a trace. Its headers (connection, channel, keys, properties) are all that tells
        # two hand-overs apart, and they are the same when the trace itself is read twice.
        delivery=f"{place}:{trace.connection}:{trace.channel}:{xxhash.xxh3_64_hexdigest(blob)}",
        node=node,
        digest=digest_of(raw.value),
        size=len(raw.value),
        attempt=said.attempt,
        trace_id=said.trace_id,
        span_id=said.span_id,
        correlation_id=text(trace.properties.correlation_id) or said.correlation_id,
        causation_id=said.causation_id,
        replay_id=said.replay_id,
        attributes=_bounded(exchange=trace.exchange_name, routing_key=",".join(trace.routing_keys), **(more or {})),
    )


def _identity(trace: Trace, said: Carried, routes: Routes, flow: str) -> str:
    """The application's id: the flow's own header where one is configured, else the property, else the header."""
    name = said.message_id if flow in routes.identity else text(trace.properties.message_id) or said.message_id
    if not name:
        where = routes.identity.get(flow) or f"property message_id and header {MESSAGE_ID}"
        raise Undecodable(
            f"flow {flow!r}: no message id ({where} empty) in a message published to exchange "
            f"{trace.exchange_name!r} with keys {trace.routing_keys!r} by {trace.connection}"
        )
    return name


def _stamped(timestamp: Any, read_at: int) -> int | None:
    """The `timestamp` property (seconds) as origin time; ignored unless within a week before it was read, because
    a producer that wrote milliseconds shows up here with the upper bits lost."""
    seconds = number(timestamp)
    if seconds is None or not read_at - WEEK <= seconds * 1_000_000 <= read_at:
        return None
    return seconds * 1_000_000


def _since(raw: Raw, origin: int | None) -> int | None:
    """The start of the observation where only an interval is known: not before the message existed."""
    if SINCE not in raw.headers:
        return None
    since = max(number(raw.headers[SINCE]) or 0, origin or 0)
    return min(since, raw.observed_at or since) or None


def _taken(trace: Trace) -> dict[str, str]:
    """What a delivery says about itself; `x-delivery-count` comes from quorum queues only."""
    found = {"redelivered": "true" if trace.redelivered else "false"}
    count = trace.properties.headers.get("x-delivery-count")
    return found if count is None else {**found, "delivery_count": text(count)}


def _bounded(**attributes: str) -> dict[str, str]:
    return {name: value[:ATTRIBUTE_LIMIT] for name, value in attributes.items()}
