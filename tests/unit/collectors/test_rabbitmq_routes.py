"""Which flow and hop a trace belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from collectors.errors import ConfigInvalid, Undecodable
from collectors.rabbitmq.config import firehose_config
from collectors.rabbitmq.routes import Routes, topic_matches
from tracker.model.coverage import SourceRef


def routes(**config: Any) -> Routes:
    """Routes of a collector with this configuration."""
    return Routes(firehose_config("test", {"url": "amqp://x", **config}))


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("*", "", True),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
    ],
)
def test_topic_patterns_match_as_the_broker_does(pattern: str, key: str, matches: bool) -> None:
    """`*` is exactly one word (an empty one too), `#` any number of words."""
    assert topic_matches(pattern.split("."), key.split(".")) is matches


def test_the_exchange_decides_the_flow_and_the_queue_the_hop() -> None:
    """A queue that holds two flows is two hops, told apart by where the message was published."""
    found = routes(
        exchanges=[
            {"exchange": "in", "flow": "orders", "routing_keys": ["order.#"]},
            {"exchange": "in", "flow": "bills", "routing_keys": ["bill.#"]},
        ],
        queues=[
            {"queue": "work", "flow": "orders", "hop": "work-orders", "consumer": "worker"},
            {"queue": "work", "flow": "bills", "hop": "work-bills"},
        ],
    )
    assert found.stored("in", ["order.new"], "work") == [("orders", "work-orders")]
    assert found.stored("in", ["bill.new"], "work") == [("bills", "work-bills")]
    assert found.stored("in", ["order.new"], "audit") == [("orders", "audit")]
    assert found.delivered("in", ["order.new"], "work") == [("orders", "worker")]
    assert found.delivered("in", ["bill.new"], "work") == []
    assert found.stored("in", ["other"], "audit") == []
    with pytest.raises(Undecodable, match="carries the flows bills, orders"):
        found.stored("", ["work"], "work")


def test_a_message_by_another_exchange_belongs_to_the_queues_flow() -> None:
    """The default exchange, a dead letter exchange: whatever lands in a queue of one flow is of that flow."""
    found = routes(queues=[{"queue": "billing", "flow": "orders"}])
    assert found.stored("", ["billing"], "billing") == [("orders", "billing")]
    assert found.stored("dlx", ["k"], "billing") == [("orders", "billing")]


def test_where_an_unroutable_message_is_missed() -> None:
    """At the configured hop, else at the first queue of the flow, else at the exchange; by the default exchange at
    the queue that its key names."""
    queues = [{"queue": "billing", "flow": "orders", "hop": "rabbit-billing"}]
    exchange = {"exchange": "in", "flow": "orders"}
    assert routes(exchanges=[exchange], queues=queues).unroutable("in", ["k"]) == [("orders", "rabbit-billing")]
    assert routes(exchanges=[{**exchange, "unroutable_hop": "rabbit"}]).unroutable("in", ["k"]) == [
        ("orders", "rabbit")
    ]
    assert routes(exchanges=[exchange]).unroutable("in", ["k"]) == [("orders", "in")]
    assert routes(queues=queues).unroutable("", ["billing"]) == [("orders", "rabbit-billing")]
    assert routes(queues=queues).unroutable("", ["other"]) == []


def test_sources_name_every_place_once() -> None:
    """A source per queue and stage, and one per exchange for what it drops."""
    found = routes(
        exchanges=[{"exchange": "in", "flow": "orders"}],
        queues=[{"queue": "billing", "flow": "orders", "hop": "rabbit", "consumer": "billing-service"}],
    ).sources()
    assert found == [
        SourceRef("orders", "billing-service", "deliver", "billing"),
        SourceRef("orders", "rabbit", "drop", "in"),
        SourceRef("orders", "rabbit", "persist", "billing"),
    ]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"queues": [{"queue": "q", "flow": "f"}]}, "collector test: Object missing required field `url`"),
        ({"url": "amqp://x"}, "neither `exchanges` nor `queues`"),
        ({"url": "amqp://x", "queus": []}, "`queus`"),
        ({"url": "amqp://x", "queues": [{"queue": "q", "flow": "f", "hopp": "x"}]}, r"`hopp` - at `\$.queues\[0\]`"),
        ({"url": "amqp://x", "prefetch": 0, "queues": [{"queue": "q", "flow": "f"}]}, r"\$.prefetch"),
    ],
)
def test_a_bad_config_names_the_key(config: dict[str, Any], words: str) -> None:
    """Unknown, missing and impossible keys are refused before anything is connected."""
    with pytest.raises(ConfigInvalid, match=words):
        firehose_config("test", config)


def test_bindings_cost_no_more_than_is_needed() -> None:
    """Deliveries only of queues with a consumer; publishes of listed exchanges only where that was asked."""
    config = {
        "url": "amqp://x",
        "exchanges": [{"exchange": "in", "flow": "orders"}],
        "queues": [{"queue": "a", "flow": "orders", "consumer": "x"}, {"queue": "b", "flow": "orders"}],
    }
    assert firehose_config("t", config).bindings("canary") == ["publish.#", "deliver.a"]
    listed = firehose_config("t", {**config, "only_listed_exchanges": True}).bindings("canary")
    assert listed == ["publish.canary", "publish.in", "deliver.a"]
