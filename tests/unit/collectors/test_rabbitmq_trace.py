"""Firehose messages as events. The headers are those that RabbitMQ 3.10.8 sends, as pika decodes them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.compat import long

from collectors.base import Raw
from collectors.errors import Undecodable
from collectors.rabbitmq.config import firehose_config
from collectors.rabbitmq.message import LONG_AGO, SINCE
from collectors.rabbitmq.routes import Routes
from collectors.rabbitmq.trace import ROUTING_KEY, TRACE, events_of, packed_trace
from tracker.model.event import Event, Stage, natural_key

NOW = 1_795_000_100_000_000

ROUTES = Routes(
    firehose_config(
        "test",
        {
            "url": "amqp://x",
            "exchanges": [{"exchange": "orders", "flow": "orders"}],
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit", "consumer": "billing"}],
        },
    )
)


def headers(properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Headers of a publish trace."""
    return {
        "exchange_name": "orders",
        "routing_keys": ["new.eu"],
        "properties": {"message_id": "m-1", **(properties or {})},
        "node": "rabbit@one",
        "vhost": "/",
        "connection": "127.0.0.1:56172 -> 127.0.0.1:5672",
        "channel": 1,
        "user": "guest",
        "routed_queues": ["billing"],
        **more,
    }


def raw(trace: dict[str, Any], key: str = "publish.orders", body: bytes = b"x", since: int | None = None) -> Raw:
    """The record as `read` makes it."""
    carried = {ROUTING_KEY: key.encode(), TRACE: packed_trace(trace)}
    if since is not None:
        carried[SINCE] = str(since).encode()
    return Raw(body, carried, observed_at=NOW)


def only(found: list[Event]) -> Event:
    """The one event."""
    [event] = found
    return event


def test_header_values_of_every_amqp_type_are_taken() -> None:
    """Whatever an application puts into its headers, the message is decoded."""
    odd = {
        "long": long(3), "bytes": b"\xff", "decimal": Decimal("1.5"), "none": None, "flag": True,
        "when": datetime(2026, 1, 1, tzinfo=UTC), "nested": {"list": [1, "a", long(2)]},
    }  # fmt: skip
    assert only(events_of(raw(headers({"headers": odd})), ROUTES)).message_id == "m-1"


def test_the_same_record_read_twice_is_the_same_event() -> None:
    """A redelivery of the trace sorts its headers and adds the trace queue's own counter: neither changes the key."""
    once = headers({"headers": {"b": 1, "a": 2}})
    again = {"x-delivery-count": 1, **dict(sorted(once.items()))}
    assert natural_key(only(events_of(raw(once), ROUTES))) == natural_key(only(events_of(raw(again), ROUTES)))


@pytest.mark.parametrize(
    "other",
    [
        headers(connection="127.0.0.1:1 -> 127.0.0.1:5672"),
        headers(channel=2),
        headers({"headers": {"x-tracker-replay": "r-1", "x-tracker-replay-attempt": "1"}}),
        headers({"timestamp": 5}),
        headers(routing_keys=["new.us"]),
    ],
)
def test_another_publish_of_the_message_is_another_delivery(other: dict[str, Any]) -> None:
    """Connection, channel, keys and properties tell publishes apart, as far as the firehose shows them."""
    assert only(events_of(raw(headers()), ROUTES)).delivery != only(events_of(raw(other), ROUTES)).delivery


def test_origin_time_by_header_then_by_timestamp() -> None:
    """The header in microseconds wins; the property counts only where it can be true, for milliseconds arrive cut to
    32 bits."""
    by_both = headers({"timestamp": 1_795_000_000, "headers": {"x-origin-at": "1795000000000001"}})
    assert only(events_of(raw(by_both), ROUTES)).origin_at == 1_795_000_000_000_001
    assert only(events_of(raw(headers({"timestamp": 1_795_000_000})), ROUTES)).origin_at == 1_795_000_000_000_000
    for cut_off in (-296_329_605, 296_329_605, 1_795_000_200, 0):
        assert only(events_of(raw(headers({"timestamp": cut_off})), ROUTES)).origin_at is None


def test_a_record_of_a_backlog_is_known_only_as_an_interval() -> None:
    """From the last canary before it, but not before the message existed; nothing known: long ago."""
    origin = {"headers": {"x-origin-at": "1795000000000000"}}
    since = [raw(headers(p), since=at) for p, at in (({}, 0), ({}, 5), (origin, 5), (origin, NOW - 7))]
    starts = [only(events_of(record, ROUTES)).observed_from for record in since]
    assert starts == [LONG_AGO, 5, 1_795_000_000_000_000, NOW - 7]
    assert only(events_of(raw(headers(origin)), ROUTES)).observed_from is None


def test_the_id_is_the_property_or_the_header_or_the_flows_own() -> None:
    """A flow with an identity header of its own is named by that and nothing else."""
    without = headers({"message_id": None, "headers": {"x-message-id": b"m-h", "x-order": long(7)}})
    assert only(events_of(raw(without), ROUTES)).message_id == "m-h"
    own = Routes(
        firehose_config(
            "t", {"url": "amqp://x", "queues": [{"queue": "billing", "flow": "f"}], "identity": {"f": "x-order"}}
        )
    )
    assert only(events_of(raw(without), own)).message_id == "7"
    with pytest.raises(Undecodable, match="x-order empty"):
        events_of(raw(headers()), own)


def test_a_message_that_is_delayed_is_not_called_unroutable() -> None:
    """Its exchange routes it later."""
    delayed = headers({"headers": {"x-delay": 5000}}, routed_queues=[])
    assert only(events_of(raw(headers(routed_queues=[])), ROUTES)).reason == "unroutable"
    assert events_of(raw(delayed), ROUTES) == []


def test_deliver_says_whether_it_is_a_redelivery() -> None:
    """Stage and hop of the consumer; the count that quorum queues keep is shown."""
    trace = headers({"headers": {"x-delivery-count": long(2)}}, redelivered=1)
    del trace["routed_queues"]
    event = only(events_of(raw(trace, "deliver.billing"), ROUTES))
    assert (event.stage, event.hop) == (Stage.deliver, "billing")
    assert (event.attributes["redelivered"], event.attributes["delivery_count"]) == ("true", "2")


def test_what_no_flow_is_configured_for_gives_nothing() -> None:
    """Other people's traffic is passed over, with or without an id."""
    assert events_of(raw(headers(exchange_name="logs", routed_queues=["files"])), ROUTES) == []
    assert events_of(raw(headers({"message_id": None}, exchange_name="logs", routed_queues=[])), ROUTES) == []


@pytest.mark.parametrize(
    "broken",
    [
        Raw(b"x", {}, observed_at=NOW),
        Raw(b"x", {TRACE: b"\xc1", ROUTING_KEY: b"publish.orders"}, observed_at=NOW),
        raw(headers(), "ack.billing"),
        raw({}, "publish.orders"),
        raw(headers(routing_keys=[b"\xff"])),
        raw(headers(routed_queues=None)),
        Raw(b"x", {TRACE: packed_trace(headers()), ROUTING_KEY: b"publish.orders"}),
    ],
)
def test_anything_else_is_undecodable(broken: Raw) -> None:
    """What a firehose of this kind never sends is refused, by the one exception that a runner expects."""
    with pytest.raises(Undecodable):
        events_of(broken, ROUTES)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["message_id", "timestamp", "correlation_id", "headers"]
HEADERS = ["x-message-id", "x-origin-at", "traceparent", "x-tracker-replay-attempt", "x-delivery-count"]


@given(
    st.dictionaries(st.sampled_from(sorted(headers())), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=4),
    st.sampled_from(["publish.orders", "deliver.billing", "deliver.", "publish", ""]),
)
def test_whatever_a_producer_put_into_a_message(
    trace: dict[str, Any], properties: dict[str, Any], table: dict[str, Any], key: str
) -> None:
    """Events or `Undecodable`: properties and headers of every type, in every place that is looked at."""
    try:
        for event in events_of(raw({**headers({"headers": table, **properties}), **trace}, key), ROUTES):
            assert event.message_id
            assert event.origin_at is None or event.origin_at >= 0
    except Undecodable:
        return
