"""ActiveMQ: what a broker says of its messages, on a real one."""

from __future__ import annotations

import queue as queues
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collectors.activemq.advisories import ActiveAdvisories, advisories
from collectors.activemq.link import Frame, Link
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


@pytest.fixture(scope="module")
def small(activemq_factory: Callable[..., ActiveMQ], activemq_server: ActiveMQ) -> ActiveMQ:
    """A broker with little memory, with TLS, that sends to the other one what is wanted there."""
    return activemq_factory(memory="2 mb", sends_to=activemq_server.java, tls=True)


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
    """Its one durable subscriber acks; a slow one of the others loses messages. The broker says of what a selector
    leaves out that it was consumed, too."""
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
    selective = f"S{topic}"
    route = {"topic": selective, "flow": "prices", "hop": "activemq", "consumer": "billing"}
    with app(activemq_server.url) as durable, closing(collector(activemq_server, [route])) as tail:
        durable.close()
        durable.connect(**{"client-id": selective})
        durable.consume(f"/topic/{selective}", name="billing", selector="colour = 'blue'")
        orders.put(["red"], to=f"/topic/{selective}", colour="red")
        orders.put(["blue"], to=f"/topic/{selective}", colour="blue")
        durable.ack(*durable.take(1))
        found = told(seen(tail, lambda found: len(found) == 4))
    assert [each for each in found if each[2] != "persist"] == [
        ("red", "billing", "drop", "filtered"),
        ("blue", "billing", "ack", ""),
    ]


def test_a_virtual_topic(activemq_server: ActiveMQ, orders: App) -> None:
    """The broker makes them by itself only where nobody configures copies."""
    own = f"Consumer.billing.VirtualTopic.{orders.queue}"
    with closing(collector(activemq_server, [queue(own)])) as tail:
        tail.read(0, 0)
        orders.consume(f"/queue/{own}")
        orders.put(["m-1"], to=f"/topic/VirtualTopic.{orders.queue}")
        orders.ack(*orders.take(1))
        found = told(seen(tail, lambda found: len(found) == 2))
    assert sorted(found) == [("m-1", "activemq", "persist", ""), ("m-1", "billing", "ack", "")]


def test_what_was_too_old_when_it_came_holds_nothing_up(activemq_server: ActiveMQ, orders: App) -> None:
    """It is never in the queue, so nothing follows its end; the broker gives out so much only that is not acked."""
    with closing(collector(activemq_server, [queue(orders.queue)], prefetch=10)) as tail:
        tail.read(0, 0)
        orders.put(["old"], expires=str(time.time_ns() // 1_000_000 - 5_000))
        orders.put([f"m-{n}" for n in range(30)])
        found = told(seen(tail, lambda found: len(found) == 31))
        assert vouched(tail) == {"persist", "ack", "deliver"}
    assert found[0] == ("old", "activemq", "dead_letter", "expired")


def test_a_broker_that_begins_anew_in_its_process(
    activemq_server: ActiveMQ, orders: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `restart` of its JMX: its sessions are named as before, and what it had not given out is gone."""
    routes = [queue(orders.queue)]
    with closing(collector(activemq_server, routes, tmp_path)) as tail:
        vouched(tail)
        before = Link.next

        def anew(link: Link, wait: float) -> Frame | None:
            frame = before(link, wait)
            if frame and (life := frame.headers.get("originBrokerId")):
                frame.headers["originBrokerId"] = f"{life}0"
            return frame

        monkeypatch.setattr(Link, "next", anew)
        tail.close()
        tail.read(0, 0)
        assert tail.sources() is None
        assert _until_a_hole(tail) == []
        assert vouched(tail) == {"persist", "ack", "deliver"}


def test_what_another_broker_of_the_network_takes_is_not_acked(
    activemq_server: ActiveMQ, small: ActiveMQ, orders: App
) -> None:
    """It was given to somebody there, who has not said a word. That such things happen ends the vouching for acks."""
    with app(small.url) as shop, closing(collector(small, [queue(orders.queue)])) as tail:
        assert vouched(tail) == {"persist", "ack", "deliver"}
        orders.consume()
        until = time.monotonic() + PATIENCE
        while not orders.came.qsize():
            assert time.monotonic() < until
            shop.put(["m-1"], to=f"/queue/{orders.queue}")
            time.sleep(0.1)
        found = told(seen(tail, lambda found: len(found) >= orders.came.qsize()))
        assert {each[1:] for each in found} == {("activemq", "persist", "")}
        until = time.monotonic() + PATIENCE
        while "ack" in vouched(tail):
            assert time.monotonic() < until
            tail.commit(tail.read(100, 0.1))


def test_a_broker_whose_memory_is_full(small: ActiveMQ) -> None:
    """Of advisories that nobody read: who comes back reads them, and makes room by that. Of messages: coverage goes on
    where canaries are not held back."""
    routes = [queue("full")]
    with app(small.url) as orders, app(small.url) as other, ThreadPoolExecutor(1) as pool:
        with closing(collector(small, routes)) as tail:
            vouched(tail)
        sent = pool.submit(orders.put, [f"m-{n}" for n in range(700)], b"x" * 200, "/queue/full")
        while _taken(other):
            time.sleep(0.1)
        assert not sent.done()
        with closing(collector(small, routes)) as tail:
            assert len(seen(tail, lambda found: len(found) >= 700)) >= 700
            sent.result()
            vouched(tail)
        config = {"url": small.first, "routes": routes, "canary_every": 0.1}
        with closing(advisories("two", config)) as tail:  # whose canaries have a policy of their own
            while _taken(other):
                tail.commit(tail.read(1000, 0.01))
            full = time.monotonic()
            while tail.lag().ms > 1000 * (time.monotonic() - full):
                assert time.monotonic() < full + PATIENCE
                tail.commit(tail.read(1000, 0.1))


def test_tls(small: ActiveMQ, orders: App) -> None:
    """Whom its authority does not know is not trusted."""
    at = {"url": small.safe, "routes": [queue(orders.queue)], "canary_every": 0.1, "hole_for": 0.0}
    with closing(advisories("two", {**at, "tls": {"ca_file": small.authority}})) as tail:
        vouched(tail)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        advisories("two", at).read(1, 1.0)
    with pytest.raises(ConfigInvalid, match="tls"):
        advisories("two", {**at, "tls": {"ca_file": "/nowhere"}}).read(1, 1.0)


def _until_a_hole(tail: ActiveAdvisories) -> list[Event]:
    """What it observes until it says what it vouches for, which is nothing."""
    found: list[Event] = []
    while not (sources := tail.sources()):
        raws = tail.read(100, 0.1)
        found += [event for raw in raws for event in tail.decode(raw) if isinstance(event, Event)]
        tail.commit(raws)
    assert {source.stage for source in sources} == {"deliver"}
    return found


def _taken(other: App) -> bool:
    """Whether the broker still takes messages."""
    try:
        other.client.send("/queue/full", b"x" * 200, headers={"receipt": other._receipt()})
        other._receipts.get(timeout=1.0)
    except queues.Empty:
        return False
    return True


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
        orders.connect()
        orders.consume()
        orders.ack(*orders.take(1))
        assert told(_until_a_hole(tail)) == [("m-1", "billing", "ack", "")]
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


def test_a_subscription_that_the_broker_takes_away(activemq_server: ActiveMQ, orders: App) -> None:
    """As it does with a slow one where it is told to, without a word. What waits for its commit hides nothing."""
    with closing(collector(activemq_server, [queue(orders.queue)], proof_within=0.5)) as tail:
        vouched(tail)
        orders.put(["m-1"])
        while not tail.read(10, 0.1):
            pass
        assert tail._link
        tail._link.send("UNSUBSCRIBE", {"id": "1"})
        with pytest.raises(Unavailable, match="no advisory of our own canaries"):
            tail.read(10, 1.0)
        assert told(seen(tail, lambda found: found)) == [("m-1", "activemq", "persist", "")]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "amqp://host"}, "write stomp://HOST:PORT"),
        ({"routes": [{"flow": "f", "hop": "h"}]}, "either a `queue` or a `topic`"),
        ({"routes": [queue("a"), queue("a")]}, "named twice"),
        *(({"routes": [queue(name)]}, "no wildcard") for name in ("a.*", "a.>", "a,b", "/queue/a", "queue://a")),
        ({"routes": [queue("a", listeners="l")]}, "those of a topic"),
    ],
)
def test_a_wrong_configuration_names_the_key(wrong: dict[str, Any], why: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigInvalid, match=f"collector one: .*{why}"):
        advisories("one", {"url": "stomp://127.0.0.1:1", "routes": [queue("a")], **wrong})
