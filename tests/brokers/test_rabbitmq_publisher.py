"""Sending copies again into a real RabbitMQ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.rabbitmq.publisher import publisher
from tests.brokers.rabbitmq_vhost import Vhost, decoded, own_vhost, read_to_now, reading
from tests.servers.proxy import Proxy
from tracker.model.carry import ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID, Copy, Locator

pytestmark = pytest.mark.brokers


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing", "inventory")
        yield vhost


def copy(number: int, **headers: bytes) -> Copy:
    """The copy of a message as a log held it."""
    value = f"payload {number}".encode()
    given = {ORIGIN_AT: b"1795000000000001", REPLAY_ID: b"r-1", REPLAY_ATTEMPT: b"1", **headers}
    return Copy(Locator(f"m-{number}", "kafka-eu", "orders/0", number), b"k", value, given, digest_of(value))


def test_straight_into_a_queue(vhost: Vhost) -> None:
    """Only that queue gets it, with id, headers and payload as they were, and the firehose sees it as the replay."""
    with reading(vhost.settings()) as collector:
        sender = publisher({"url": vhost.url, "queue": "billing"})
        sent = sender.publish([copy(1, bytes_=b"\xff\x00"), copy(2)])
        sender.close()
        events = decoded(collector, read_to_now(collector))
    assert [(s.locator.message_id, s.error) for s in sent] == [("m-1", ""), ("m-2", "")]
    assert [(e.message_id, e.hop, e.replay_id, e.attempt) for e in events] == [
        ("m-1", "rabbit-billing", "r-1", 1),
        ("m-2", "rabbit-billing", "r-1", 1),
    ]
    assert [e.digest for e in events] == [copy(1).digest, copy(2).digest]
    _, properties, body = vhost.channel.basic_get("billing")
    assert (properties.message_id, properties.delivery_mode, body) == ("m-1", 2, b"payload 1")
    assert properties.headers["bytes_"] == b"\xff\x00"
    assert vhost.message_count("inventory") == 0


def test_through_an_exchange(vhost: Vhost) -> None:
    """Every queue that the exchange routes to gets it, as at the first time."""
    sender = publisher({"url": vhost.url, "exchange": "orders", "routing_key": "new.eu"})
    assert [s.error for s in sender.publish([copy(1)])] == [""]
    sender.close()
    assert (vhost.message_count("billing"), vhost.message_count("inventory")) == (1, 1)


def test_what_nobody_takes_is_refused_by_name(vhost: Vhost) -> None:
    """No queue, or no exchange: each copy is answered, and the next good one goes through."""
    sender = publisher({"url": vhost.url, "queue": "gone"})
    assert next(iter(sender.publish([copy(1)]))).error.startswith("refused: ")
    vhost.channel.queue_declare("gone")
    assert [s.error for s in sender.publish([copy(1)])] == [""]
    sender.close()
    sender = publisher({"url": vhost.url, "exchange": "nowhere", "routing_key": "x"})
    errors = [s.error for s in sender.publish([copy(1), copy(2)])]
    assert all("refused" in error and "404" in error for error in errors)
    sender.close()


def test_a_cut_connection_is_mended(vhost: Vhost) -> None:
    """The copy that met the cut is not called sent; the next publish opens a new connection."""
    sender = publisher({"url": vhost.url, "queue": "billing"})
    assert [s.error for s in sender.publish([copy(1)])] == [""]
    vhost.cut("tracker.replay")
    errors = [s.error for s in sender.publish([copy(2), copy(3)])]
    assert errors[0].startswith("in doubt")
    assert errors[1] == ""
    sender.close()


def test_a_connection_that_lay_idle_leaves_no_doubt(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker closed it meanwhile, for nobody answered its heartbeats."""
    monkeypatch.setattr("collectors.rabbitmq.publisher.IDLE_S", 0.0)
    host, port = urlsplit(vhost.url).hostname or "", urlsplit(vhost.url).port or 0
    with Proxy((host, port)) as proxy:
        sender = publisher({"url": vhost.url.replace(f"{host}:{port}", proxy.at), "queue": "billing"})
        for number in range(2):
            assert [s.error for s in sender.publish([copy(number)])] == [""]
            proxy.cut()
        sender.close()


def test_without_a_broker_nothing_is_sent() -> None:
    """Each copy is answered, and it is certain that it was not sent."""
    sender = publisher({"url": "amqp://guest:guest@127.0.0.1:1/%2F", "queue": "q"})
    assert all(s.error.startswith("not sent: ") for s in sender.publish([copy(1), copy(2)]))
    sender.close()


def test_a_target_is_one_thing() -> None:
    """Queue and exchange together, or neither, say nothing."""
    for config in ({}, {"queue": "q", "exchange": "e"}):
        with pytest.raises(ConfigInvalid, match="either `queue` or `exchange`"):
            publisher({"url": "amqp://127.0.0.1", **config})


@pytest.mark.parametrize("slow", ["hangs", "is far away"])
def test_it_takes_no_longer_than_its_timeout(vhost: Vhost, slow: str) -> None:
    """A broker that stops answering, and one of which each answer takes 60 ms: whoever claimed these messages has them
    for 45 s only. What it did not come to is not sent, and says so."""
    host, port = urlsplit(vhost.url).hostname or "", urlsplit(vhost.url).port or 0
    with Proxy((host, port)) as proxy:
        sender = publisher({"url": vhost.url.replace(f"{host}:{port}", proxy.at), "queue": "billing", "timeout": 1})
        assert [s.error for s in sender.publish([copy(0)])] == [""]
        proxy.delay = 0.03
        if slow == "hangs":
            proxy.hold()
        began = time.monotonic()
        sent = sender.publish([copy(number) for number in range(1, 200)])
        assert time.monotonic() - began < 3
        proxy.delay = 0.0
        proxy.go_on()
        sender.close()
    untried = [one.locator.message_id for one in sent if one.untried]
    assert all(one.error for one in sent if one.untried)
    assert untried == [f"m-{number}" for number in range(200 - len(untried), 200)]
    assert len(untried) > 100
    assert vhost.message_count("billing") <= 200 - len(untried)


def test_a_broker_that_is_gone_is_asked_once(vhost: Vhost) -> None:
    """Not once for each copy: where nothing answers, each try takes its time."""
    host, port = urlsplit(vhost.url).hostname or "", urlsplit(vhost.url).port or 0
    with Proxy((host, port)) as proxy:
        sender = publisher({"url": vhost.url.replace(f"{host}:{port}", proxy.at), "queue": "billing", "timeout": 30})
        proxy.hold()
        began = time.monotonic()
        sent = sender.publish([copy(number) for number in range(20)])
        assert time.monotonic() - began < 8
        proxy.go_on()
        sender.close()
    assert all(one.untried and one.error.startswith("not sent: ") for one in sent)
