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

from collectors.base import Content, Raw
from collectors.carried import text
from collectors.errors import Undecodable
from collectors.rabbitmq.message import ENCODED, Properties, Seen, content_of, event_of, packed, readable, stamped
from collectors.rabbitmq.properties import of_trace
from collectors.rabbitmq.routes import Place, Routes
from tracker.model.event import Event, Stage

ROUTING_KEY = "routing_key"
TRACE = "trace"
"""Headers of a `Raw` of ours: the trace's routing key, and its headers as msgpack."""

DELAY = "x-delay"
"""Header of a message that an exchange of type `x-delayed-message` keeps, and routes only later: it is routed nowhere
when it is published, and not lost (https://github.com/rabbitmq/rabbitmq-delayed-message-exchange)."""

KEPT = frozenset(
    {"exchange_name", "routing_keys", "properties", "node", "vhost", "connection", "channel", "user"}
    | {"routed_queues", "redelivered"}
)
"""The headers of a trace. Others come from our own queue and change when it gives a record again (x-delivery-count)."""


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


def packed_trace(headers: Mapping[str, Any] | None) -> bytes:
    """Trace headers as `Raw` carries them."""
    return packed({name: value for name, value in (headers or {}).items() if name in KEPT})


def events_of(raw: Raw, routes: Routes) -> list[Event]:
    """What one trace says, per flow and hop; nothing when no configured flow is meant. Raises `Undecodable`."""
    readable(raw)
    kind, _, place = text(raw.headers.get(ROUTING_KEY)).partition(".")
    trace = _trace_of(raw)
    if kind == "publish" and trace.routed_queues is not None:
        return _published(raw, trace, routes)
    if kind == "deliver":
        places = routes.delivered(trace.exchange_name, trace.routing_keys, place)
        more = _taken(trace)
        return [_event(raw, trace, routes, at, Stage.deliver, place, more=more) for at in places]
    raise Undecodable(f"not a firehose message: routing key {text(raw.headers.get(ROUTING_KEY))[:80]!r}")


def traced(raw: Raw) -> Content:
    """The message that a trace shows."""
    properties = _trace_of(raw).properties
    origin = stamped(properties.timestamp, raw.observed_at or 0)
    native = of_trace(raw.headers[ENCODED], None if origin is None else origin // 1_000_000)
    return content_of(raw, properties, native)


def _trace_of(raw: Raw) -> Trace:
    try:
        return _traces.decode(raw.headers.get(TRACE, b""))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Undecodable(f"not a firehose message: {error}") from None


def _published(raw: Raw, trace: Trace, routes: Routes) -> list[Event]:
    exchange, keys = trace.exchange_name, trace.routing_keys
    if not trace.routed_queues and DELAY in trace.properties.headers:
        return []
    if not trace.routed_queues:
        return [
            _event(raw, trace, routes, at, Stage.drop, exchange, reason="unroutable")
            for at in routes.unroutable(exchange, keys)
        ]
    return [
        _event(raw, trace, routes, at, Stage.persist, queue, node=trace.node)
        for queue in trace.routed_queues
        for at in routes.stored(exchange, keys, queue)
    ]


def _event(
    raw: Raw,
    trace: Trace,
    routes: Routes,
    at: Place,
    stage: Stage,
    place: str,
    *,
    node: str = "",
    reason: str = "",
    more: Mapping[str, str] | None = None,
) -> Event:
    # No delivery tag exists in a trace. Its headers (connection, channel, keys, properties) are all that tells two
    # hand-overs apart, and they are the same when the trace itself is read twice.
    print_of = xxhash.xxh3_64_hexdigest(raw.headers.get(TRACE, b""))
    delivery = f"{place}:{trace.connection}:{trace.channel}:{print_of}"
    came = f"published to exchange {trace.exchange_name!r} with keys {trace.routing_keys!r} by {trace.connection}"
    attributes = {"exchange": trace.exchange_name, "routing_key": ",".join(trace.routing_keys), **(more or {})}
    return event_of(raw, trace.properties, routes.identity, Seen(at, stage, delivery, came, reason, node), attributes)


def _taken(trace: Trace) -> dict[str, str]:
    """What a delivery says about itself; `x-delivery-count` comes from quorum queues only."""
    found = {"redelivered": "true" if trace.redelivered else "false"}
    count = trace.properties.headers.get("x-delivery-count")
    return found if count is None else {**found, "delivery_count": text(count)}
