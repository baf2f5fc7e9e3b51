"""Every kind of exchange and queue, as the firehose shows it; and what it does not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers.rabbitmq_vhost import Vhost, decoded, own_vhost, read_to_now, reading
from tests.unit.model.case import flow, vouched
from tracker.model.event import Event, Stage
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec
from tracker.model.verdict import Judgement

pytestmark = pytest.mark.brokers


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        yield vhost


def settings(vhost: Vhost, *exchanges: str) -> dict[str, Any]:
    """The queues `billing` and `inventory`, filled by these exchanges."""
    return vhost.settings(
        exchanges=[{"exchange": each, "flow": "orders"} for each in exchanges],
        queues=[{"queue": each, "flow": "orders"} for each in ("billing", "inventory")],
    )


def told(events: list[Event]) -> set[tuple[str, str, str]]:
    """(id, hop, stage) of each."""
    return {(e.message_id, e.hop, e.stage.value) for e in events}


def later(spec: FlowSpec, event: Event) -> Judgement:
    """An hour later, everything vouched for."""
    return judge(spec, [event], vouched(spec, 4e9), event.observed_at + 3_600_000_000)


def test_exchanges_of_every_type(vhost: Vhost) -> None:
    """Where it was routed to is `persist` at each of the queues, whatever the type; by an exchange behind another one
    and by the headers CC and BCC too."""
    channel = vhost.channel
    for queue in ("billing", "inventory"):
        channel.queue_declare(queue)
    for kind in ("topic", "direct", "fanout", "headers"):
        channel.exchange_declare(kind, kind)
        channel.queue_bind("billing", kind, "new.eu", {"x-match": "all", "region": "eu"})
    channel.exchange_declare("first", "direct")
    channel.exchange_bind("fanout", "first", "far")
    channel.queue_bind("inventory", "first", "far")
    with reading(settings(vhost, "topic", "direct", "fanout", "headers", "first")) as collector:
        for kind in ("topic", "direct", "fanout", "headers"):
            vhost.publish(f"by-{kind}", exchange=kind, headers={"region": "eu"})
        vhost.publish("by-two", "far", "first")
        vhost.publish("by-cc", "billing", "", headers={"CC": ["inventory"]})
        vhost.publish("by-bcc", "billing", "", headers={"BCC": ["inventory"]})
        events = decoded(collector, read_to_now(collector))
    expected = {(f"by-{kind}", "billing", "persist") for kind in ("topic", "direct", "fanout", "headers")}
    expected |= {(name, hop, "persist") for name in ("by-two", "by-cc", "by-bcc") for hop in ("billing", "inventory")}
    assert told(events) == expected
    assert len(events) == len(expected)


def test_queues_of_every_type(vhost: Vhost) -> None:
    """Classic, lazy, with priorities, quorum, stream, exclusive, deleted with its last consumer: all the same."""
    types: dict[str, dict[str, Any]] = {
        "classic": {},
        "lazy": {"arguments": {"x-queue-mode": "lazy"}},
        "priority": {"arguments": {"x-max-priority": 5}},
        "quorum": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
        "stream": {"durable": True, "arguments": {"x-queue-type": "stream"}},
        "exclusive": {"exclusive": True},
        "auto-delete": {"auto_delete": True},
    }
    for queue, how in types.items():
        vhost.channel.queue_declare(queue, **how)
    queues = [{"queue": queue, "flow": "orders", "consumer": f"reads-{queue}"} for queue in types]
    with reading(vhost.settings(exchanges=[], queues=queues)) as collector:
        for queue in types:
            vhost.publish("m-1", queue, "", priority=3)
        events = decoded(collector, read_to_now(collector))
    assert {e.hop for e in events if e.stage == Stage.persist} == set(types)
    assert len(events) == len(types)


def test_an_alternate_exchange_takes_what_is_routed_nowhere(vhost: Vhost) -> None:
    """To a queue of its own: no drop, but not where it was wanted either. Without such a queue it is one."""
    vhost.channel.exchange_declare("spill", "fanout")
    vhost.channel.exchange_declare("orders", "topic", arguments={"alternate-exchange": "spill"})
    vhost.channel.queue_declare("billing")
    with reading(settings(vhost, "orders")) as collector:
        vhost.publish("m-1", "odd")
        vhost.channel.queue_declare("spilled")
        vhost.channel.queue_bind("spilled", "spill")
        vhost.publish("m-2", "odd")
        events = decoded(collector, read_to_now(collector))
    assert told(events) == {("m-1", "billing", "drop"), ("m-2", "spilled", "persist")}


def test_a_queue_whose_binding_is_missing_lacks_the_message(vhost: Vhost) -> None:
    """Routed to one of two: no drop is seen, for it was routed; the other `persist` stays away, and is named."""
    vhost.orders("billing")
    vhost.channel.queue_declare("inventory")
    with reading(settings(vhost, "orders")) as collector:
        vhost.publish("m-1")
        [event] = decoded(collector, read_to_now(collector))
    spec = flow("hop: billing, stage: persist", "hop: inventory, stage: persist, after: billing, within: 5s")
    verdict = later(spec, event)
    assert (event.hop, event.stage) == ("billing", Stage.persist)
    assert [s.name for s in verdict.checkpoints if s.kind] == ["inventory:persist"]


@pytest.mark.parametrize("ends", ["purge", "delete"])
def test_what_is_purged_or_goes_with_its_queue_is_named_by_its_missing_ack(vhost: Vhost, ends: str) -> None:
    """The firehose shows neither; for us the queue still holds it."""
    vhost.channel.queue_declare("billing")
    with reading(vhost.settings(queues=[{"queue": "billing", "flow": "orders"}])) as collector:
        vhost.publish("m-1", "billing", "")
        (vhost.channel.queue_purge if ends == "purge" else vhost.channel.queue_delete)("billing")
        [event] = decoded(collector, read_to_now(collector))
    verdict = later(flow("hop: billing, stage: persist", "hop: app, stage: ack, after: billing, within: 5s"), event)
    assert (verdict.verdict, verdict.held_by) == ("unacknowledged", ("billing",))
