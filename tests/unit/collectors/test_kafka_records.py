"""From a record to an event, and from a configuration to settings, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from msgspec import structs

from collectors.base import Raw
from collectors.errors import ConfigInvalid, Unavailable, Undecodable
from collectors.kafka.client import Cluster, driver_errors, translated
from collectors.kafka.records import Decoder, Place, Route, Routes
from collectors.kafka.tail_config import TailConfig
from collectors.part import settings
from collectors.registry import KINDS
from tracker.model.event import Stage

ROUTES = [
    Route(topic="orders", flow="orders", hop="kafka-eu"),
    Route(topic="^pay.*", flow="payments", hop="kafka-pay"),
    Route(topic="payroll", flow="never", hop="never"),
]
MINIMAL: dict[str, Any] = {"url": "kafka://h:9092", "topics": [{"topic": "t", "flow": "f", "hop": "h"}]}

COPIES = {"topic": "eu.t", "flow": "f", "hop": "us", "stage": "replicate"}


def decoder(identity: str | None = "x-message-id", plain_keys: bool = False) -> Decoder:
    """A decoder of the routes above."""
    return Decoder(Routes(ROUTES), identity, plain_keys, "eu")


def raw(topic: str = "orders", created: bool = True, **headers: bytes) -> Raw:
    """A record of partition 2, offset 17, at 5 µs."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw(b"value", named, b"key", Place(topic, 2, 17, "id", created), 5)


def test_a_login_in_an_address_is_not_said_again() -> None:
    """The error goes to logs."""
    with pytest.raises(ConfigInvalid, match="'h:9092' is no Kafka address") as told:
        settings(TailConfig, MINIMAL | {"url": "kafka://user:secret@h:9092"}, "collector one")
    assert "secret" not in str(told.value)


def test_the_first_route_that_fits_counts() -> None:
    """By name, or by a pattern from the beginning of the name; an unknown topic has none."""
    routes = Routes(ROUTES)
    assert [r.flow if (r := routes.of(t)) else None for t in ("orders", "payroll", "prepay")] == [
        "orders",
        "payments",
        None,
    ]


def test_the_header_of_the_origin_wins_over_the_timestamp() -> None:
    """And a timestamp is an origin only when the producer set it; a header that is no number is none."""
    make = decoder().event_of
    assert make(raw(x_message_id=b"m", x_origin_at=b"3")).origin_at == 3
    assert make(raw(x_message_id=b"m", x_origin_at=b"soon")).origin_at == 5
    assert make(raw(x_message_id=b"m", created=False)).origin_at is None


def test_a_copy_has_the_time_in_which_it_came_and_its_originals_origin() -> None:
    """Its own timestamp is that of the original."""
    make = Decoder(Routes([Route(topic="orders", flow="f", hop="us", stage="replicate")]), "x-message-id", False, "us")
    original = raw(x_message_id=b"m")
    event = make.event_of(structs.replace(original, position=structs.replace(original.position, came=(70, 90))))
    assert (event.stage, event.observed_from, event.observed_at, event.origin_at) == (Stage.replicate, 70, 90, 5)


def test_a_key_leaves_only_when_asked() -> None:
    """By default it stays in the cluster."""
    assert decoder().event_of(raw(x_message_id=b"m")).key == ""
    assert decoder(plain_keys=True).event_of(raw(x_message_id=b"m")).key == "key"


@pytest.mark.parametrize("nameless", [raw(), raw(x_message_id=b"")])
def test_no_id_is_undecodable_and_says_where(nameless: Raw) -> None:
    """An empty id is none."""
    with pytest.raises(Undecodable, match="orders/2 offset 17 has no header 'x-message-id'"):
        decoder().event_of(nameless)


def test_the_place_is_an_id_where_no_header_is() -> None:
    """Topic, partition and offset."""
    assert decoder(identity=None).event_of(raw()).message_id == "orders/2/17"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"url": "amqp://h"}, "amqp://h"),
        ({"url": "kafka://user:secret@h:9092"}, "logins go under client"),
        ({"url": "kafka://"}, "is no Kafka address"),
        ({"topics": []}, "topics"),
        ({"topics": [{"topic": "t", "flow": "f"}]}, r"topics\.0\.hop: Field required"),
        ({"topic": "orders"}, "topic: Extra inputs"),
        ({"from": "middle"}, "from"),
        ({"look_every": 0}, "look_every"),
        ({"topics": [COPIES, MINIMAL["topics"][0]]}, "give the copies a collector of their own"),
        ({"topics": [COPIES], "id": "offset"}, "a copy has another offset than its original"),
        ({"topics": [COPIES | {"stage": "ack"}]}, r"topics\.0\.stage: Input should be 'persist' or 'replicate'"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(change: dict[str, Any], named: str) -> None:
    """The collector, the key and why."""
    with pytest.raises(ConfigInvalid, match=f"collector one: .*{named}"):
        settings(TailConfig, MINIMAL | change, "collector one")


def test_only_copies_are_dated_by_this_hosts_clock() -> None:
    """So only there the tracker corrects by how far that is off."""
    dated = KINDS["kafka"].own_clock
    assert [dated(MINIMAL), dated(MINIMAL | {"topics": [COPIES]})] == [False, True]


def test_the_client_wins_over_our_settings() -> None:
    """`client` goes to librdkafka as it is; several servers are several servers."""
    cluster = Cluster(url="kafka://a:1,b:2/", client={"client.id": "mine", "ssl.ca.location": "/ca.pem"})
    assert cluster.driver(linger_ms=5) == {
        "bootstrap.servers": "a:1,b:2", "client.id": "mine", "log_level": 0, "linger.ms": 5,
        "ssl.ca.location": "/ca.pem",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError._ALL_BROKERS_DOWN, Unavailable),
        (KafkaError.NOT_COORDINATOR, Unavailable),
        (KafkaError._AUTHENTICATION, ConfigInvalid),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigInvalid),
    ],
)
def test_the_drivers_errors_are_split_by_what_to_do(code: int, error: type[Exception]) -> None:
    """Try again, or change something; the code is named for whoever looks it up."""
    found = translated(KafkaException(KafkaError(code)), "Kafka h:1")
    assert type(found) is error
    assert str(found).startswith("Kafka h:1: ")
    assert KafkaError(code).name() in str(found)


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT])
def test_where_nothing_answers_the_error_says_what_to_try(code: int) -> None:
    """Address, what the broker advertises, TLS; not where a broker did answer."""
    told = str(translated(KafkaError(code), "Kafka h:1"))
    assert all(word in told for word in ("`url`", "advertised.listeners", "security.protocol"))
    assert "`url`" not in str(translated(KafkaError(KafkaError.NOT_COORDINATOR), "Kafka h:1"))


def test_no_error_of_the_driver_leaves_a_block() -> None:
    """The cause stays attached."""
    with pytest.raises(Unavailable) as caught, driver_errors("Kafka h:1"):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    assert isinstance(caught.value.__cause__, KafkaException)
