"""Dead letters as events. The headers are those that RabbitMQ 3.10.8 sends, as pika decodes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from collectors.base import Raw
from collectors.errors import ConfigInvalid, Undecodable
from collectors.rabbitmq.config import dead_letter_config
from collectors.rabbitmq.death import CAME_BY, Deaths
from collectors.rabbitmq.message import PROPERTIES, packed_properties
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

NOW = 1_795_000_100_000_000
SETTINGS: dict[str, Any] = {
    "url": "amqp://x",
    "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit"}],
    "dead_letters": [
        {"exchange": "dead"},
        {"exchange": "retry", "means": "retry"},
        {"exchange": "gone", "means": "dropped"},
    ],
}
DEATHS = Deaths(dead_letter_config("test", SETTINGS))


def entry(queue: str = "billing", reason: str = "rejected", count: Any = 1) -> dict[str, Any]:
    """An entry of `x-death`."""
    when = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
    return {"count": count, "reason": reason, "queue": queue, "time": when, "exchange": "", "routing-keys": ["billing"]}


def raw(by: str, *deaths: Any, **headers: Any) -> Raw:
    """The record as `read` makes it."""
    table = {"x-death": list(deaths), **headers} if deaths else headers
    properties = packed_properties(BasicProperties(message_id="m-1", headers=table))
    return Raw(b"x", {CAME_BY: by.encode(), PROPERTIES: properties}, observed_at=NOW)


def only(found: list[Event]) -> Event:
    """The one event."""
    [event] = found
    return event


@pytest.mark.parametrize(
    ("by", "reason", "stage", "told"),
    [
        ("dead", "rejected", Stage.dead_letter, "rejected"),
        ("dead", "expired", Stage.dead_letter, "expired"),
        ("dead", "delivery_limit", Stage.dead_letter, "delivery_limit"),
        ("retry", "rejected", Stage.dead_letter, "retry"),
        ("gone", "expired", Stage.drop, "expired"),
        ("gone", "maxlen", Stage.drop, "discarded"),
        ("gone", "rejected", Stage.drop, "discarded"),
        ("gone", "delivery_limit", Stage.drop, "discarded"),
    ],
)
def test_what_a_dead_letter_is(by: str, reason: str, stage: Stage, told: str) -> None:
    """The queue says where, the configuration what it means to be in that exchange, the broker why."""
    event = only(DEATHS.events_of(raw(by, entry(reason=reason))))
    assert (event.flow, event.hop, event.stage, event.reason) == ("orders", "rabbit", stage, told)
    assert event.attributes["death"] == reason


def test_the_newest_entry_counts() -> None:
    """The first one; or, from a broker that names it, the one it names."""
    twice = (entry("billing", "expired"), entry("inventory"))
    assert only(DEATHS.events_of(raw("dead", *twice))).reason == "expired"
    named = {"x-last-death-queue": "billing", "x-last-death-reason": "rejected"}
    assert only(DEATHS.events_of(raw("dead", entry("billing", "expired"), entry(), **named))).reason == "rejected"


def test_each_death_is_a_delivery_of_its_own() -> None:
    """Once more through the same queue raises the count; our own queue's counter changes nothing."""
    first, again, second = (
        only(DEATHS.events_of(each)).delivery
        for each in (
            raw("retry", entry(count=1)),
            raw("retry", entry(count=1), **{"x-delivery-count": 1}),
            raw("retry", entry(count=2)),
        )
    )
    assert first == again
    assert first != second


def test_a_queue_of_no_flow_gives_nothing() -> None:
    """Other people's dead letters are passed over."""
    assert DEATHS.events_of(raw("dead", entry("files"))) == []


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (raw("dead"), "no x-death"),
        (raw("dead", 7), "no x-death"),
        (raw("dead", {"queue": "billing"}), "no x-death"),
        (raw("elsewhere", entry()), "came by exchange 'elsewhere'"),
        (raw("gone", entry(reason="new")), "reason 'new'"),
        (Raw(b"x", {CAME_BY: b"dead"}, observed_at=NOW), "properties"),
    ],
)
def test_anything_else_is_undecodable(broken: Raw, words: str) -> None:
    """Set aside with what is wrong with it."""
    with pytest.raises(Undecodable, match=words):
        DEATHS.events_of(broken)


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["queue", "reason", "count", "exchange", "routing-keys"]), VALUES), VALUES)
def test_whatever_stands_in_x_death(more: dict[str, Any], other: Any) -> None:
    """Events or `Undecodable`: everybody who publishes can write this header."""
    for header in ([{**entry(), **more}, other], other):
        try:
            DEATHS.events_of(raw("dead", **{"x-death": header}))
        except Undecodable:
            continue


def test_sources_name_each_exchange_at_each_queues_hop() -> None:
    """What came through that exchange from there was reported."""
    assert DEATHS.sources() == [
        SourceRef("orders", "rabbit", "dead_letter", "dead"),
        SourceRef("orders", "rabbit", "dead_letter", "retry"),
        SourceRef("orders", "rabbit", "drop", "gone"),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dead_letters": []}, "dead_letters"),
        ({"dead_letters": [{"exchange": ""}]}, "default exchange"),
        ({"dead_letters": [{"exchange": "dead", "means": "kept"}]}, "kept"),
        ({"dead_letters": [{"exchange": "dead", "routing_keys": []}]}, "routing_keys"),
        ({"queues": []}, "neither"),
    ],
)
def test_a_bad_config_names_the_key(change: dict[str, Any], words: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigInvalid, match=words):
        dead_letter_config("test", {**SETTINGS, **change})
