"""Messages with headers that break a client library: every collector reads them, and what comes behind them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from collectors.rabbitmq.dead_letters import dead_letters
from collectors.rabbitmq.firehose import firehose
from collectors.rabbitmq.stream import streams
from tests.brokers.rabbitmq_headers import Headers, header, nested
from tests.brokers.rabbitmq_vhost import Vhost, decoded, own_vhost, read_until, reading

pytestmark = pytest.mark.brokers

ODD = {
    "milliseconds": header("when", b"T", struct.pack(">Q", 1_795_000_000_000)),
    "negative": header("when", b"T", struct.pack(">q", -1)),
    "deep": nested(2000),
    "name": header(b"\xff\xfe", b"t", b"\x01"),
}
"""By message id. What is no type of AMQP 0-9-1, numbers that are none, and names of exchanges and routing keys that are
no UTF-8 the broker itself refuses."""


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        yield vhost


def put(vhost: Vhost, exchange: str, key: str) -> list[str]:
    """Each of them, and an ordinary message behind; the ids."""
    for name, table in ODD.items():
        vhost.channel.basic_publish(exchange, key, b"x", Headers(table, message_id=name))
    vhost.publish("last", key, exchange)
    return [*ODD, "last"]


def ids(collector: Any, count: int) -> list[str]:
    """Of so many messages."""
    return [event.message_id for event in decoded(collector, read_until(collector, lambda raws: len(raws) >= count))]


def test_the_firehose_reads_whatever_headers_there_are(vhost: Vhost) -> None:
    """Their traces carry them."""
    vhost.orders("billing")
    with reading(vhost.settings(queues=[{"queue": "billing", "flow": "orders"}]), firehose) as collector:
        wanted = put(vhost, "orders", "new.eu")
        assert ids(collector, len(wanted)) == wanted


def test_a_stream_is_read_whatever_headers_there_are(vhost: Vhost) -> None:
    """It keeps them for as long as it keeps the message."""
    vhost.channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
    wanted = put(vhost, "", "log")
    log = {"stream": "log", "flow": "orders"}
    settings = {"name": "s", "url": vhost.url, "streams": [log], "look_every": 0.1, "hole_for": 0.0}
    with reading(settings | {"from": "next"}, streams):
        pass
    collector = streams(settings)
    try:
        assert ids(collector, len(wanted)) == wanted
    finally:
        collector.close()


def test_dead_letters_are_read_whatever_headers_there_are(vhost: Vhost) -> None:
    """The broker adds its own to them."""
    vhost.channel.exchange_declare("dead", "fanout", durable=True)
    arguments = {"x-dead-letter-exchange": "dead", "x-message-ttl": 1}
    vhost.channel.queue_declare("billing", durable=True, arguments=arguments)
    settings = {
        "name": "dead", "url": vhost.url, "dead_letters": [{"exchange": "dead"}],
        "queues": [{"queue": "billing", "flow": "orders"}], "canary_every": 0.1, "hole_for": 0.0,
    }  # fmt: skip
    with reading(settings, dead_letters, "dead_letter") as collector:
        wanted = put(vhost, "", "billing")
        assert sorted(ids(collector, len(wanted))) == sorted(wanted)
