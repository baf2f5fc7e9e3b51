"""Dead letters of a real RabbitMQ: every way in which a message leaves a queue without an ack."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
from pika.exceptions import NackError

from collectors.base import Raw
from collectors.errors import Unavailable
from collectors.rabbitmq.dead_letters import RabbitDeadLetters, dead_letters
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost, decoded, own_vhost, read_to_now, read_until, reading, vouches
from tests.unit.model.case import flow
from tracker.model.event import Event, Stage, natural_key
from tracker.model.facts import Facts

pytestmark = pytest.mark.brokers

SPEC = flow("hop: rabbit-billing, stage: persist", "hop: billing, stage: ack, after: rabbit-billing, within: 1m")


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own, with a dead letter exchange that somebody's queue is bound to."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.channel.exchange_declare("dead", "fanout", durable=True)
        vhost.channel.queue_declare("parked", durable=True)
        vhost.channel.queue_bind("parked", "dead")
        yield vhost


def settings(vhost: Vhost, *exchanges: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Settings of a collector of dead letters of the queue `billing`."""
    return {
        "name": "dead",
        "url": vhost.url,
        "dead_letters": list(exchanges) or [{"exchange": "dead"}],
        "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit-billing"}],
        "canary_every": 0.1,
        "hole_for": 0.0,
        **more,
    }


def watching(
    vhost: Vhost, *exchanges: dict[str, Any], stage: str = "dead_letter"
) -> AbstractContextManager[RabbitDeadLetters]:
    """A collector that vouches, closed afterwards."""
    return reading(settings(vhost, *exchanges), dead_letters, stage)


def billing(vhost: Vhost, **arguments: Any) -> None:
    """The queue `billing`, whose dead letters go to `dead`."""
    wanted = {"x-dead-letter-exchange": "dead", **{k.replace("_", "-"): v for k, v in arguments.items()}}
    vhost.channel.queue_declare("billing", durable=True, arguments=wanted)


def put(vhost: Vhost, *ids: str) -> None:
    """Straight into the queue."""
    for name in ids:
        vhost.publish(name, "billing", "")


def give_back(vhost: Vhost, requeue: bool = False) -> None:
    """Take one message and give it back."""
    until = time.monotonic() + PATIENCE
    while (method := vhost.channel.basic_get("billing")[0]) is None:
        assert time.monotonic() < until, "nothing comes"
        time.sleep(0.01)
    vhost.channel.basic_reject(method.delivery_tag or 0, requeue=requeue)


def come(collector: RabbitDeadLetters, count: int) -> list[Event]:
    """The events of as many dead letters."""
    return decoded(collector, read_until(collector, lambda raws: len(raws) >= count))


def rejected(vhost: Vhost) -> None:
    """Given back for good by its consumer."""
    billing(vhost)
    put(vhost, "m-1")
    give_back(vhost)


def expired(vhost: Vhost) -> None:
    """Nobody took it in time."""
    billing(vhost, x_message_ttl=1)
    put(vhost, "m-1")


def maxlen(vhost: Vhost) -> None:
    """The queue is full, and its oldest message makes room."""
    billing(vhost, x_max_length=1)
    put(vhost, "m-1", "m-2")


def refused(vhost: Vhost) -> None:
    """The queue is full, and the newest message finds no room: its publish is nacked, and it is parked all the same."""
    billing(vhost, x_max_length=1, x_overflow="reject-publish-dlx")
    put(vhost, "m-0")
    with pytest.raises(NackError):
        put(vhost, "m-1")


def delivery_limit(vhost: Vhost) -> None:
    """Given back to a quorum queue too often."""
    billing(vhost, x_queue_type="quorum", x_delivery_limit=1)
    put(vhost, "m-1")
    give_back(vhost, requeue=True)
    give_back(vhost, requeue=True)


def test_every_way_to_leave_a_queue_without_an_ack(vhost: Vhost) -> None:
    """Each at its queue's hop with the broker's reason; and whoever parks dead letters still gets each of them."""
    ways = {
        rejected: "rejected",
        expired: "expired",
        maxlen: "maxlen",
        refused: "maxlen",
        delivery_limit: "delivery_limit",
    }
    with watching(vhost) as collector:
        for way, reason in ways.items():
            way(vhost)
            [event] = come(collector, 1)
            assert (event.message_id, event.hop) == ("m-1", "rabbit-billing")
            assert (event.stage, event.reason) == (Stage.dead_letter, reason)
            vhost.channel.queue_delete("billing")
    assert vhost.message_count("parked") == len(ways)


def test_what_nobody_keeps_is_dropped_and_its_queue_holds_it_no_more(vhost: Vhost) -> None:
    """An exchange that is there only so that we can see: TTL and length are losses, and take one copy each."""
    billing(vhost, x_message_ttl=1)
    with (
        reading(vhost.settings()) as firehose,
        watching(vhost, {"exchange": "dead", "means": "dropped"}, stage="drop") as collector,
    ):
        put(vhost, "m-1")
        [kept] = decoded(firehose, read_to_now(firehose))
        [gone] = come(collector, 1)
    assert (kept.stage, gone.stage, gone.reason) == (Stage.persist, Stage.drop, "expired")
    assert (gone.hop, gone.message_id, gone.digest) == (kept.hop, kept.message_id, kept.digest)
    assert Facts.of(SPEC, [kept]).holding == {"rabbit-billing"}
    assert Facts.of(SPEC, [kept, gone]).holding == frozenset()
    assert Facts.of(SPEC, [kept, gone]).emptied == {"rabbit-billing"}


def test_a_queue_of_retries(vhost: Vhost) -> None:
    """Rejected, a while in a queue with a TTL, back, and again: each round is a retry of its own."""
    vhost.channel.exchange_declare("again", "direct", durable=True)
    back = {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "billing"}
    vhost.channel.queue_declare("waiting", durable=True, arguments=back)
    vhost.channel.queue_bind("waiting", "again", "billing")
    vhost.channel.queue_declare("billing", durable=True, arguments={"x-dead-letter-exchange": "again"})
    retry = {"exchange": "again", "means": "retry", "routing_keys": ["billing"]}
    with watching(vhost, retry) as collector:
        put(vhost, "m-1")
        for _ in range(3):
            give_back(vhost)
        events = come(collector, 3)
    assert [(e.hop, e.stage, e.reason, e.attributes["deaths"]) for e in events] == [
        ("rabbit-billing", Stage.dead_letter, "retry", str(round_)) for round_ in (1, 2, 3)
    ]
    assert len({e.delivery for e in events}) == 3


@pytest.mark.parametrize("kind", ["direct", "topic", "headers"])
def test_dead_letter_exchanges_of_every_type(vhost: Vhost, kind: str) -> None:
    """All but `direct`, which has no patterns, need no keys."""
    vhost.channel.exchange_delete("dead")
    vhost.channel.exchange_declare("dead", kind, durable=True)
    billing(vhost, x_message_ttl=1)
    keys = {"routing_keys": ["billing"]} if kind == "direct" else {}
    with watching(vhost, {"exchange": "dead", **keys}) as collector:
        put(vhost, "m-1")
        assert [e.message_id for e in come(collector, 1)] == ["m-1"]


def test_what_was_not_committed_comes_again_with_the_same_natural_keys(vhost: Vhost) -> None:
    """Though our own queue counts the second delivery in a header."""
    billing(vhost, x_message_ttl=1)
    with watching(vhost) as collector:
        put(vhost, "m-1", "m-2")
        before = [natural_key(e) for e in come(collector, 2)]
    second = dead_letters(settings(vhost))
    try:
        assert [natural_key(e) for e in come(second, 2)] == before
    finally:
        second.close()


def test_purged_and_deleted_are_no_dead_letters(vhost: Vhost) -> None:
    """The broker dead-letters neither what is purged nor what goes with its queue."""
    with watching(vhost) as collector:
        for ends in (vhost.channel.queue_purge, vhost.channel.queue_delete):
            billing(vhost)
            put(vhost, "m-1")
            ends("billing")
        assert read_to_now(collector) == []


def test_a_binding_that_somebody_took_away_is_made_again(vhost: Vhost) -> None:
    """Before the next canary."""
    billing(vhost, x_message_ttl=1)
    with watching(vhost) as collector:
        vhost.channel.queue_unbind("tracker.dead.dead", "dead", "#")
        read_to_now(collector)
        put(vhost, "m-1")
        assert [e.message_id for e in come(collector, 1)] == ["m-1"]


def test_an_exchange_that_is_not_there_is_named(vhost: Vhost) -> None:
    """Without it the broker forgets dead letters in silence: nothing is vouched for until it is there."""
    billing(vhost, x_message_ttl=1)
    with watching(vhost) as collector:
        vhost.channel.exchange_delete("dead")
        with pytest.raises(Unavailable, match="no exchange 'dead'"):
            read_until(collector, lambda _: False)
        assert not vouches(collector, "dead_letter")
        vhost.channel.exchange_declare("dead", "topic", durable=True)

        def again(_: Sequence[Raw]) -> bool:
            return vouches(collector, "dead_letter")

        with suppress(Unavailable):
            read_until(collector, again)
        read_until(collector, again)
        put(vhost, "m-1")
        assert [e.message_id for e in come(collector, 1)] == ["m-1"]
