"""ActiveMQ: what a broker says of its messages, on a real one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collectors.activemq.advisories import ActiveAdvisories, advisories
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid, Unavailable
from tests.brokers.activemq_app import App, app
from tests.servers.activemq import ActiveMQ
from tracker.model.event import Event, Stage

pytestmark = pytest.mark.brokers
PATIENCE = 20.0


@pytest.fixture
def orders(activemq_server: ActiveMQ) -> Iterator[App]:
    """An application with a queue of its own."""
    with app(activemq_server.url) as made:
        yield made


def collector(
    broker: ActiveMQ, routes: list[dict[str, str]], folder: Path | None = None, **more: Any
) -> ActiveAdvisories:
    """Of these places. No application comes by the broker's first connector."""
    config = {"url": broker.first, "first_connector": broker.first.replace("127.0.0.1", "localhost"),
              "canary_every": 0.1, "hole_for": 0.0, "routes": routes, **more}  # fmt: skip
    return advisories("one", config, folder)


def queue(name: str, **more: str) -> dict[str, str]:
    """A queue whose messages are acked by billing."""
    return {"queue": name, "flow": "orders", "hop": "activemq", "consumer": "billing", **more}


def seen(collector: ActiveAdvisories, met: Callable[[list[Event]], Any]) -> list[Event]:
    """What it observes, until `met` of that, and a little longer."""
    found: list[Event] = []
    raws: Any = ()
    until = time.monotonic() + PATIENCE
    while not met(found) or raws:
        assert time.monotonic() < until, found
        raws = collector.read(100, 0.2)
        found += [event for raw in raws for event in collector.decode(raw) if isinstance(event, Event)]
        collector.commit(raws)
        collector.sources()
    return found


def vouched(collector: ActiveAdvisories) -> set[str]:
    """The stages that it vouches for, once it knows."""
    until = time.monotonic() + PATIENCE
    while "persist" not in (stages := {source.stage for source in collector.sources() or ()}):
        assert time.monotonic() < until, stages
        collector.read(0, 0)
        collector.commit(collector.read(100, 0.1))
    return stages


def told(events: list[Event]) -> list[tuple[str, str, str, str]]:
    """In short."""
    return [(e.message_id, e.hop, e.stage.value, e.reason) for e in events]


def test_a_message_from_its_arrival_to_its_ack(activemq_server: ActiveMQ, orders: App) -> None:
    """With what it carries, as it was sent: what looks like a number is none. Given out again is the same delivery."""
    headers = {
        "x-origin-at": "1795373745505000",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "x-tracker-replay": "1e5",
    }
    orders.put(["0012"], "é\U0001f600".encode(), **headers)
    orders.put([""], b"{}")
    orders.consume()
    orders.take(1)
    orders.close()
    orders.connect()
    orders.consume()
    orders.ack(*orders.take(1))
    with closing(collector(activemq_server, [queue(orders.queue)])) as tail:
        first, other, ack = seen(tail, lambda found: len(found) == 3)
    assert told([first, ack]) == [("0012", "activemq", "persist", ""), ("0012", "billing", "ack", "")]
    assert other.message_id.startswith("ID:"), "the broker's own, where the application says none"
    for event in (first, ack):
        assert (event.origin_at, event.trace_id, event.replay_id) == (1795373745505000, "a" * 32, "1e5")
        assert (event.digest, event.size) == (digest_of("é\U0001f600".encode()), 6)
    assert first.delivery == ack.delivery
    assert ack.attributes == {"redelivered": "1"}


def test_what_nobody_acked(activemq_server: ActiveMQ, orders: App) -> None:
    """Rejected and expired are dead letters; where those are not kept, an expired one is lost. Each ends once: the
    broker says of all of them that they were consumed, too."""
    undead = f"undead.{orders.queue}"
    with closing(collector(activemq_server, [queue(orders.queue), queue(undead)])) as tail:
        tail.read(0, 0)
        orders.put(["rejected"])
        orders.consume()
        orders.nack(orders.take(1)[0])
        orders.client.unsubscribe("1")
        soon = str(time.time_ns() // 1_000_000 + 300)
        orders.put(["expired"], expires=soon)
        orders.put(["lost"], to=f"/queue/{undead}", expires=soon)
        ends = [each for each in told(seen(tail, lambda found: len(found) == 6)) if each[2] != "persist"]
    assert sorted(ends) == [
        ("expired", "activemq", "dead_letter", "expired"),
        ("lost", "activemq", "drop", "expired"),
        ("rejected", "activemq", "dead_letter", "rejected"),
    ]


def test_an_end_comes_again_as_a_whole(activemq_server: ActiveMQ, orders: App) -> None:
    """Its advisories are acked together, so a collector that was killed between them does not take it for an ack."""
    orders.put(["rejected"])
    orders.consume()
    orders.nack(orders.take(1)[0])
    routes = [queue(orders.queue)]
    with closing(collector(activemq_server, routes)) as tail:
        raws: list[Any] = []
        while len(raws) < 3:
            raws += tail.read(1, 0.2)
        tail.commit(raws[:2])  # that it arrived, that it is dead; not that it was consumed
        tail.read(0, 0)
    with closing(collector(activemq_server, routes)) as tail:
        again = seen(tail, lambda found: found)
    assert told(again) == [("rejected", "activemq", "dead_letter", "rejected")]


def test_topics(activemq_server: ActiveMQ, orders: App) -> None:
    """Its one durable subscriber acks; a slow one of the others loses messages."""
    topic = f"T{orders.queue}"
    route = {"topic": topic, "flow": "prices", "hop": "activemq", "consumer": "billing", "listeners": "screens"}
    with app(activemq_server.url) as durable, app(activemq_server.url) as slow:
        durable.close()
        durable.connect(**{"client-id": topic})
        durable.consume(f"/topic/{topic}", name="billing")
        slow.consume(f"/topic/{topic}", prefetch=1)
        orders.put([f"p-{n}" for n in range(6)], to=f"/topic/{topic}")
        durable.ack(*durable.take(6))
        with closing(collector(activemq_server, [route])) as tail:
            found = told(seen(tail, lambda found: sum(e.stage is Stage.ack for e in found) == 6))
    assert [each for each in found if each[2] == "persist"] == [(f"p-{n}", "activemq", "persist", "") for n in range(6)]
    assert [each for each in found if each[2] == "ack"] == [(f"p-{n}", "billing", "ack", "") for n in range(6)]
    assert {each[1:] for each in found if each[2] == "drop"} == {("screens", "drop", "discarded")}


def test_a_collector_that_was_away_missed_nothing(activemq_server: ActiveMQ, orders: App, tmp_path: Path) -> None:
    """The broker kept it. A new process vouches for the time in between, without a hole; what it read late it says to
    have happened any time since the broker had it."""
    routes = [queue(orders.queue)]
    with closing(collector(activemq_server, routes, tmp_path)) as tail:
        tail.read(0, 0)
        assert {source.stage for source in tail.sources() or ()} == {"deliver"}, "at first there is a hole"
        assert vouched(tail) == {"persist", "ack", "deliver"}
    before = time.time_ns() // 1000
    orders.put(["m-1"])
    time.sleep(0.02)
    with closing(collector(activemq_server, routes, tmp_path)) as tail:
        assert tail.sources() is None
        tail.read(0, 0)
        assert tail.sources() is None
        (event,) = seen(tail, lambda found: found)
        assert vouched(tail) == {"persist", "ack", "deliver"}
    assert before - 2_000 <= (event.observed_from or 0) < event.observed_at


def test_a_restart_of_the_broker_is_a_hole(activemq_factory: Callable[..., ActiveMQ], tmp_path: Path) -> None:
    """What it was going to say is gone with it. Messages that it kept on disk are seen when they are acked."""
    broker = activemq_factory(persistent=True)
    with app(broker.url) as orders, closing(collector(broker, [queue(orders.queue)], tmp_path)) as tail:
        vouched(tail)
        orders.put(["m-1"], persistent="true")
        seen(tail, lambda found: found)
        broker.kill()
        with pytest.raises(Unavailable):
            tail.read(10, 2.0)
        assert tail.sources() is None
        orders.close()
        broker.start()
        tail.read(0, 0)
        assert {source.stage for source in tail.sources() or ()} == {"deliver"}
        orders.connect()
        orders.consume()
        orders.ack(*orders.take(1))
        assert told(seen(tail, lambda found: found)) == [("m-1", "billing", "ack", "")]
        assert vouched(tail) == {"persist", "ack", "deliver"}


def test_what_an_operator_removed(activemq_factory: Callable[..., ActiveMQ], tmp_path: Path) -> None:
    """Each by its id: what nobody was given, what somebody was given who went away, and what somebody has at that
    moment, who acks it nevertheless."""
    broker = activemq_factory(jmx=True)
    with app(broker.url) as orders, closing(collector(broker, [queue(orders.queue)], tmp_path)) as tail:
        vouched(tail)
        orders.put(["acked", "returned"])
        orders.put(["held"], mark="this")
        orders.put(["waits"])
        orders.consume(prefetch=2)
        acked, _ = orders.take(2)
        orders.ack(acked)
        orders.close()
        orders.connect()
        with app(broker.url) as other:
            other.consume(f"/queue/{orders.queue}", selector="mark = 'this'")
            (held,) = other.take(1)
            subprocess.run(broker.purge(orders.queue), check=True, capture_output=True, timeout=60)
            found = told(seen(tail, lambda found: len(found) == 8))
            other.ack(held)
        assert told(seen(tail, lambda found: found)) == [("held", "billing", "ack", "")]
        assert orders.browse() == []
    assert sorted(each for each in found if each[2] != "persist") == [
        ("acked", "billing", "ack", ""),
        ("held", "activemq", "drop", "purged"),
        ("returned", "activemq", "drop", "purged"),
        ("waits", "activemq", "drop", "purged"),
    ]


def test_advisories_that_do_not_come_are_said(activemq_server: ActiveMQ, orders: App) -> None:
    """A queue that the broker copies nothing into: nothing is vouched for, and the text says what to look at."""
    tail = collector(activemq_server, [queue(orders.queue)], advisories="nobodys", proof_within=0.5)
    with closing(tail):
        tail.read(0, 0)
        assert {source.stage for source in tail.sources() or ()} == {"deliver"}
        with pytest.raises(Unavailable, match=r"'nobodys'.*docs/collectors/activemq\.md"):
            tail.read(10, 2.0)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "amqp://host"}, "write stomp://HOST:PORT"),
        ({"routes": [{"flow": "f", "hop": "h"}]}, "either a `queue` or a `topic`"),
        ({"routes": [queue("a"), queue("a")]}, "named twice"),
        ({"routes": [queue("a", listeners="l")]}, "those of a topic"),
    ],
)
def test_a_wrong_configuration_names_the_key(wrong: dict[str, Any], why: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigInvalid, match=f"collector one: .*{why}"):
        advisories("one", {"url": "stomp://127.0.0.1:1", "routes": [queue("a")], **wrong})
