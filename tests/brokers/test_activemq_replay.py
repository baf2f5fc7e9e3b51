"""Copies of dead letters of a real ActiveMQ, and sending them again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from collectors.activemq.dead_queue import DeadQueue, source
from collectors.activemq.publisher import publisher
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid, Unavailable
from tests.brokers.activemq_app import App, app
from tests.servers.activemq import PASSWORD, USER, ActiveMQ
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tracker.cli.hops import build
from tracker.model.carry import MESSAGE_ID, REPLAY_ID, Copy, Locator, Missing

pytestmark = pytest.mark.brokers


@pytest.fixture
def orders(activemq_server: ActiveMQ) -> Iterator[App]:
    """An application with a queue of its own."""
    with app(activemq_server.url) as made:
        yield made


def dead(orders: App, *ids: str, value: bytes = b"{}", **headers: str) -> str:
    """These are sent, and rejected; the queue that they are in then."""
    orders.put(ids, value, **headers)
    orders.consume(prefetch=1000)
    for frame in orders.take(len(ids)):
        orders.nack(frame)
    orders.client.unsubscribe("1")
    return f"DLQ.{orders.queue}"


def test_a_round_trip_keeps_headers_payload_and_kind(activemq_server: ActiveMQ, orders: App) -> None:
    """As the composition root joins both ends. What was sent again is gone from the dead letters, the rest is not."""
    headers = {"colour": "blue: é", "correlation-id": "c-1", "priority": "7", "type": "new"}
    queue = dead(orders, "m-0", value=b"\x00payload\xff", **headers)
    orders.client.auto_content_length = False  # a text
    dead(orders, "m-1", "m-2", value="süß".encode())
    place = {"kind": "activemq", "url": activemq_server.url}
    ends = build({"active": {**place, "queue": orders.queue, "dead_letter": {**place, "queue": queue}}})
    try:
        (letters,), (back,) = ends.sources.values(), ends.publishers.values()
        assert isinstance(letters, DeadQueue)
        found = letters.find("orders", ["m-0", "m-1", "m-2", "m-9"])
        assert [place.message_id for place in found] == ["m-0", "m-1", "m-2"]
        copies = [copy for copy in letters.fetch(found) if isinstance(copy, Copy)]
        assert [copy.digest for copy in copies] == [digest_of(b"\x00payload\xff"), *[digest_of("süß".encode())] * 2]
        again = [
            Copy(c.locator, None, c.value, c.headers | {REPLAY_ID: b"r-1"}, c.digest, c.native) for c in copies[:2]
        ]
        assert [sent.error for sent in back.publish(again)] == ["", ""]
        letters.settle(found[:2], found[2:])
    finally:
        ends.close()
    orders.consume()
    first, second = orders.take(2)
    assert (first.body, second.body) == (b"\x00payload\xff", "süß".encode())
    assert (first.headers.get("content-length"), second.headers.get("content-length")) == ("9", None), "bytes, and text"
    assert {name: first.headers[name] for name in headers} == headers
    assert (first.headers[MESSAGE_ID], first.headers[REPLAY_ID], first.headers["persistent"]) == ("m-0", "r-1", "true")
    orders.queue = queue
    assert len(orders.browse()) == 1


def test_who_goes_away_gives_all_back(activemq_server: ActiveMQ, orders: App) -> None:
    """More than a browser is shown; of a message that died twice both are acked."""
    queue = dead(orders, *(f"m-{n}" for n in range(500)), "m-499")
    with closing(source({"url": activemq_server.url, "queue": queue})) as letters:
        found = letters.find("orders", ["m-499"])
        (copy,) = letters.fetch(found)
        assert isinstance(copy, Copy)
        letters.settle(found, [])
    with closing(source({"url": activemq_server.url, "queue": queue})) as letters:
        (gone,) = letters.fetch(found)
        assert gone == Missing(found[0], f"it is not in queue {queue!r} of {_what(activemq_server)}")
        assert len(letters.find("orders", [f"m-{n}" for n in range(500)])) == 499
    with closing(source({"url": activemq_server.url, "queue": queue, "most": 2})) as letters:
        assert len(letters.find("orders", [f"m-{n}" for n in range(500)])) == 2


def test_only_so_many_bytes_are_held(activemq_server: ActiveMQ, orders: App) -> None:
    """A megabyte of large ones, and those behind when there is room. What was found is fetched, also by another
    connection."""
    ids = [f"m-{n:02}" for n in range(60)]
    queue = dead(orders, *ids, value=bytes(65_536))
    config = {"url": activemq_server.url, "queue": queue, "most_mb": 1}
    with closing(source(config)) as looks:
        found = looks.find("orders", ids)
        assert [place.message_id for place in found] == ids[: len(found)]
        assert 16 <= len(found) < 40
    with closing(source(config)) as letters:
        copies = [copy for copy in letters.fetch(found) if isinstance(copy, Copy)]
        assert len(copies) == len(found)
        (missing,) = letters.fetch([Locator(ids[-1], "", queue, 0)])
        assert isinstance(missing, Missing)
        assert "in the first " in missing.reason
        letters.settle([copy.locator for copy in copies], [])
        behind = letters.find("orders", ids)
        assert [place.message_id for place in behind] == ids[len(found) : len(found) + len(behind)]
        assert len(behind) >= 16
    orders.queue = queue
    assert len(orders.browse()) == 60 - len(found)


def test_large_ones_behind_small_ones_are_not_held(activemq_server: ActiveMQ, orders: App) -> None:
    """Where those that were sent again leave room for a number of them: they come when they are next."""
    queue = dead(orders, *(f"s-{n}" for n in range(20)))
    dead(orders, *(f"l-{n}" for n in range(20)), value=bytes(262_144))
    with closing(source({"url": activemq_server.url, "queue": queue, "most_mb": 1, "most": 20})) as letters:
        small = letters.find("orders", [f"s-{n}" for n in range(20)])
        assert len(letters.fetch(small)) == 20
        letters.settle(small, [])
        sent: list[str] = []
        while large := letters.find("orders", [f"l-{n}" for n in range(20)]):
            assert len(large) <= 6
            letters.fetch(large)
            letters.settle(large, [])
            sent += [place.message_id for place in large]
    assert sorted(sent) == sorted(f"l-{n}" for n in range(20))


def test_a_broker_that_goes_while_letters_are_held(activemq_server: ActiveMQ, orders: App) -> None:
    """Their ack is not there, and says so; nothing is lost, and a copy that was sent again comes again."""
    queue = dead(orders, "m-0")
    port = urlsplit(activemq_server.url).port or 0
    with Proxy(("127.0.0.1", port)) as proxy:
        config = {"url": activemq_server.url.replace(f":{port}", f":{proxy.port}"), "queue": queue}
        with closing(source(config)) as letters:
            found = letters.find("orders", ["m-0"])
            letters.fetch(found)
            proxy.cut()
            with pytest.raises(Unavailable):
                letters.settle(found, [])
            assert isinstance(letters.fetch(found)[0], Copy)
            letters.settle(found, [])
    orders.queue = queue
    assert orders.browse() == []


def test_what_cannot_be_sent_says_why(activemq_server: ActiveMQ, orders: App) -> None:
    """Each copy for itself: no text; no broker; a login that is wrong. Then it works."""
    fine = Copy(Locator("m-0", "h", "", 0), None, b"\x00", {"colour": b"blue", "destination": b"x"}, "", "nats.subject")
    binary = Copy(Locator("m-1", "h", "", 0), None, b"{}", {"colour": b"\xff"}, "")
    with closing(publisher({"url": activemq_server.url, "queue": orders.queue})) as back:
        errors = [sent.error for sent in back.publish([binary, fine])]
    assert errors == [
        f"not sent: {_what(activemq_server)}, queue {orders.queue!r}: header 'colour' is no UTF-8: '\\\\xff'",
        "",
    ]
    orders.consume()
    (frame,) = orders.take(1)
    assert (frame.headers[MESSAGE_ID], frame.headers["colour"], frame.body) == ("m-0", "blue", b"\x00")
    with closing(publisher({"url": f"stomp://127.0.0.1:{free_port()}", "queue": "q"})) as back:
        assert back.publish([fine])[0].error.startswith("not sent: ActiveMQ 127.0.0.1")
    wrong = activemq_server.url.replace("://", f"://{USER}:not-{PASSWORD}@")
    with closing(publisher({"url": wrong, "queue": "q"})) as back:
        (sent,) = back.publish([fine])
    assert sent.error.startswith("not sent")
    assert PASSWORD not in sent.error
    with pytest.raises(ConfigInvalid, match="queue"):
        publisher({"url": activemq_server.url})


def test_a_batch_ends_in_time(activemq_server: ActiveMQ, orders: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker stops answering: what is on its way is in doubt, and nothing else is tried."""
    monkeypatch.setattr("collectors.activemq.publisher.PUBLISH_S", 2.0)
    copies = [Copy(Locator(f"m-{n}", "h", "", 0), None, b"{}", {}, "") for n in range(1000)]
    port = urlsplit(activemq_server.url).port or 0
    with Proxy(("127.0.0.1", port)) as proxy:
        url = activemq_server.url.replace(f":{port}", f":{proxy.port}")
        with closing(publisher({"url": url, "queue": orders.queue})) as back:
            assert back.publish(copies[:1])[0].error == ""
            proxy.hold()
            began = time.monotonic()
            sent = back.publish(copies)
            assert time.monotonic() - began < 4
            assert [one.untried for one in sent] == [False] * 100 + [True] * 900
            assert {one.error[:8] for one in sent[:100]} == {"in doubt"}
            assert {one.error[:8] for one in sent[100:]} == {"not sent"}
            proxy.go_on()
    with closing(publisher({"url": f"stomp://127.0.0.1:{free_port()}", "queue": "q"})) as back:
        assert [one.untried for one in back.publish(copies[:2])] == [True, True]


def _what(broker: ActiveMQ) -> str:
    return broker.url.replace("stomp://", "ActiveMQ ")
