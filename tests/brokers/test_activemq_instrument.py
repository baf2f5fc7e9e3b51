"""An instrumented stomp.py against a real ActiveMQ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import stomp

from collectors.instrument import stomp as instrument
from collectors.instrument.observe import Observer
from tests.brokers.activemq_app import App, app
from tests.brokers.kept import Kept
from tests.brokers.test_activemq import collector, queue, seen
from tests.servers.activemq import ActiveMQ
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage, natural_key

pytestmark = pytest.mark.brokers


@pytest.fixture
def kept() -> Kept:
    """Where the observations go."""
    return Kept()


class Observed(App):
    """An application whose connection is observed."""

    def __init__(self, url: str, kept: Kept, **options: Any) -> None:
        self.kept, self.options = kept, options
        super().__init__(url)

    def made(self, connection: Any) -> Any:
        """In one line."""
        return instrument.connection(connection, Observer(self.kept, "orders", "billing"), **self.options)

    def until(self, met: Callable[[list[Any]], Any]) -> list[Any]:
        """What was observed; the broker's word comes by another thread."""
        deadline = time.monotonic() + 10
        while not met(self.kept.events):
            assert time.monotonic() < deadline, self.kept.events
            time.sleep(0.01)
        return self.kept.events


@pytest.fixture
def billing(activemq_server: ActiveMQ, kept: Kept) -> Iterator[Observed]:
    """It."""
    with closing(Observed(activemq_server.url, kept)) as made:
        yield made


def test_a_message_that_the_broker_has_is_a_produce(billing: Observed) -> None:
    """Id and origin time are set where the application set none, and travel; its own headers stay as they are."""
    mine = {"colour": "blue"}
    billing.client.send(f"/queue/{billing.queue}", "süß", headers=mine)
    billing.put(["m-2"])
    one, two = billing.until(lambda found: len(found) == 2)
    assert mine == {"colour": "blue"}
    assert [(e.stage, e.size) for e in (one, two)] == [(Stage.produce, 5), (Stage.produce, 2)]
    assert two.message_id == "m-2"
    with app(billing.url) as other:
        other.consume(f"/queue/{billing.queue}")
        frame = other.take(1)[0]
    assert (frame.headers[MESSAGE_ID], frame.headers[ORIGIN_AT]) == (one.message_id, str(one.origin_at))
    assert frame.headers["colour"] == "blue"


def test_the_collector_tells_the_same_delivery(activemq_server: ActiveMQ, billing: Observed) -> None:
    """An ack that both tell of counts once."""
    billing.put(["m-1"])
    billing.consume()
    billing.ack(*billing.take(1))
    with closing(collector(activemq_server, [queue(billing.queue)])) as tail:
        told = next(e for e in seen(tail, lambda found: len(found) == 2) if e.stage is Stage.ack)
    _, deliver, ack = billing.until(lambda found: len(found) == 3)
    assert [(e.stage, e.message_id) for e in (deliver, ack)] == [(Stage.deliver, "m-1"), (Stage.ack, "m-1")]
    assert natural_key(ack) == natural_key(told)


def test_acks_for_all_before(billing: Observed) -> None:
    """Of a subscription with `client`, of one in which each is acked by itself, and of one without acks."""
    billing.put([f"m-{n}" for n in range(4)])
    billing.client.subscribe(f"/queue/{billing.queue}", "2", "client")
    frames = billing.take(4)
    billing.client.ack(frames[2].headers["ack"])
    assert _acked(billing) == ["m-0", "m-1", "m-2"]
    billing.client.ack(frames[3].headers["ack"])
    billing.client.unsubscribe("2")
    billing.put(["m-4", "m-5"])
    billing.consume()
    first, second = billing.take(2)
    billing.nack(second)
    billing.ack(first)
    assert _acked(billing)[4:] == ["m-4"]
    assert [(e.message_id, e.reason) for e in billing.kept.events if e.stage is Stage.dead_letter] == [
        ("m-5", "rejected")
    ]
    billing.client.unsubscribe("1")
    billing.client.subscribe(f"/queue/{billing.queue}", "3", "auto")
    billing.put(["m-6"])
    billing.take(1)
    billing.until(lambda _: _acked(billing)[5:] == ["m-6"])


def test_a_nack_stands_for_itself(activemq_server: ActiveMQ, billing: Observed) -> None:
    """Also where an ack stands for all before it; the broker takes it so."""
    billing.put(["m-0", "m-1", "m-2"])
    billing.client.subscribe(f"/queue/{billing.queue}", "1", "client")
    frames = billing.take(3)
    billing.nack(frames[1])
    billing.ack(frames[2])
    ends = {(e.message_id, e.stage) for e in billing.kept.events if e.stage in (Stage.ack, Stage.dead_letter)}
    assert ends == {("m-0", Stage.ack), ("m-1", Stage.dead_letter), ("m-2", Stage.ack)}
    with closing(collector(activemq_server, [queue(billing.queue)])) as tail:
        told = seen(tail, lambda found: len(found) == 6)
    assert {(e.message_id, e.stage) for e in told if e.stage is not Stage.persist} == ends


def test_a_transaction_is_told_at_its_commit(billing: Observed) -> None:
    """What was aborted has not been said, and may be said again."""
    billing.put(["m-1"])
    billing.consume()
    (frame,) = billing.take(1)
    for end in ("abort", "commit"):
        billing.client.begin(end)
        billing.client.ack(frame.headers["ack"], transaction=end)
        billing.client.send(f"/queue/{billing.queue}.out", b"{}", headers={MESSAGE_ID: end, "transaction": end})
        assert _acked(billing) == []
        getattr(billing.client, end)(end)
    told = billing.until(lambda found: [e.message_id for e in found if e.stage is Stage.produce] == ["m-1", "commit"])
    assert [e.message_id for e in told if e.stage is Stage.ack] == ["m-1"]
    assert billing.browse() == []


def test_two_flows_by_one_connection(activemq_server: ActiveMQ, kept: Kept) -> None:
    """It is wrapped twice, and each tells of its own."""

    class Both(Observed):
        def made(self, connection: Any) -> Any:
            inner = instrument.connection(connection, Observer(kept, "a", "app"), destinations=["/queue/a"])
            return instrument.connection(inner, Observer(kept, "b", "app"), destinations=["/queue/b"])

    with closing(Both(activemq_server.url, kept)) as both:
        for name in ("a", "b"):
            both.put([name], to=f"/queue/{name}")
            both.consume(f"/queue/{name}")
            both.ack(*both.take(1))
            both.client.unsubscribe("1")
        both.until(lambda found: len(found) == 6)
    told = [(e.flow, e.message_id, e.stage.value) for e in kept.events]
    assert told == [(name, name, stage) for name in ("a", "b") for stage in ("produce", "deliver", "ack")]


def test_only_some_destinations_and_never_into_the_application(activemq_server: ActiveMQ, kept: Kept) -> None:
    """What cannot be observed is counted, and the application goes on."""
    with closing(Observed(activemq_server.url, kept, destinations=["/queue/other"])) as billing:
        billing.put(["m-1"])
        billing.consume()
        billing.ack(*billing.take(1))
    assert kept.events == []
    with closing(Observed(activemq_server.url, kept)) as billing, pytest.raises(TypeError):
        billing.client.send(f"/queue/{billing.queue}", 5)
    assert kept.events == []


def _acked(billing: Observed) -> list[str]:
    return [e.message_id for e in billing.kept.events if e.stage is Stage.ack]


def test_what_is_not_wrapped_is_the_connections_own(billing: Observed) -> None:
    """Listeners, too."""
    assert billing.client.is_connected()
    assert billing.client.get_listener("app") is billing
    assert isinstance(billing.client.transport, stomp.transport.Transport)
