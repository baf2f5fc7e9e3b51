"""The firehose collector against a real RabbitMQ."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from collectors.base import Raw
from collectors.carried import digest_of
from collectors.clock import now_micros
from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq.config import firehose_config
from collectors.rabbitmq.firehose import RabbitFirehose, firehose
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost, decoded, own_vhost, read_to_now, read_until, reading, vouches
from tracker.model.carry import ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage, natural_key
from tracker.model.flags import SKEW

pytestmark = pytest.mark.brokers


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        yield vhost


def test_a_routed_message_is_persisted_at_the_hop_of_its_queue(vhost: Vhost) -> None:
    """One publish, one queue: one `persist` with id, origin, trace id and digest as they travelled."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        headers = {ORIGIN_AT: "1795000000000001", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        vhost.publish("m-1", headers=headers, correlation_id="c-1")
        [event] = decoded(collector, read_to_now(collector))
    assert (event.flow, event.message_id, event.hop, event.stage) == ("orders", "m-1", "rabbit-billing", Stage.persist)
    assert (event.digest, event.size) == (digest_of(b"m-1"), 3)
    assert (event.origin_at, event.trace_id, event.correlation_id) == (1795000000000001, "a" * 32, "c-1")
    assert event.node
    assert event.delivery.startswith("billing:")


def test_a_message_routed_to_two_queues_is_persisted_at_both(vhost: Vhost) -> None:
    """Fan-out: one `persist` per queue; a queue that is not configured is a hop by its own name."""
    vhost.orders("billing", "inventory")
    with reading(vhost.settings()) as collector:
        vhost.publish("m-1")
        events = decoded(collector, read_to_now(collector))
    assert {(e.hop, e.stage) for e in events} == {("rabbit-billing", Stage.persist), ("inventory", Stage.persist)}


@pytest.mark.parametrize("mandatory", [False, True])
def test_a_message_routed_nowhere_is_a_drop(vhost: Vhost, mandatory: bool) -> None:
    """`routed_queues` empty: `drop: unroutable` at the configured hop, though the broker confirmed the publish."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        about = pika.BasicProperties(message_id="m-1")
        try:
            vhost.channel.basic_publish("orders", "nobody", b"x", about, mandatory=mandatory)
        except pika.exceptions.UnroutableError:
            assert mandatory
        [event] = decoded(collector, read_to_now(collector))
    assert (event.hop, event.stage, event.reason) == ("rabbit-billing", Stage.drop, "unroutable")


def test_taking_a_message_is_a_deliver_at_the_consumers_hop(vhost: Vhost) -> None:
    """Each hand-over is one `deliver`; a redelivery is another delivery and says so."""
    vhost.orders("billing")
    vhost.publish("m-1")
    with reading(vhost.settings()) as collector:
        tag = vhost.channel.basic_get("billing")[0].delivery_tag or 0
        vhost.channel.basic_nack(tag, requeue=True)
        vhost.channel.basic_ack(vhost.channel.basic_get("billing")[0].delivery_tag or 0)
        first, second = decoded(collector, read_to_now(collector))
    assert {(e.hop, e.stage) for e in (first, second)} == {("billing", Stage.deliver)}
    assert [e.attributes["redelivered"] for e in (first, second)] == ["false", "true"]
    assert first.delivery != second.delivery


def test_what_was_not_committed_comes_again_with_the_same_natural_keys(vhost: Vhost) -> None:
    """A collector that dies before `commit` loses nothing, and the second reading makes the same events."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        for number in range(20):
            vhost.publish(f"m-{number}")
        raws = read_until(collector, lambda raws: len(raws) == 20)
        before = [natural_key(e) for e in decoded(collector, raws)]
        collector.commit(raws[:5])
    second = firehose(vhost.settings())
    try:
        again = read_until(second, lambda raws: len(raws) == 15)
        assert [natural_key(e) for e in decoded(second, again)] == before[5:]
        second.commit(again)
        second.commit(again)  # idempotent
    finally:
        second.close()
    with reading(vhost.settings()) as third:
        assert read_to_now(third) == []


@pytest.mark.parametrize("prefetch", [3, 100])
def test_committed_out_of_order_never_comes_again(vhost: Vhost, prefetch: int) -> None:
    """Acks of single records in any order settle exactly these, across the prefetch window too."""
    vhost.orders("billing")
    with reading(vhost.settings(prefetch=prefetch)) as collector:
        for number in range(12):
            vhost.publish(f"m-{number}")
        raws: list[Raw] = []
        until = time.monotonic() + PATIENCE
        while len(raws) < 12:
            assert time.monotonic() < until
            raws += collector.read(1, 0.1)
            if raws and len(raws) % 3 == 0:
                collector.commit([raws[-1], raws[-3], raws[-2]])
        assert [e.message_id for e in decoded(collector, raws)] == [f"m-{n}" for n in range(12)]
    with reading(vhost.settings()) as second:
        assert read_to_now(second) == []


def test_seeing_changes_nothing_for_others(vhost: Vhost) -> None:
    """Depth and content of the application's queues are the same with and without the collector."""
    vhost.orders("billing")

    def publish_and_take() -> tuple[int, list[bytes | None]]:
        for number in range(10):
            vhost.publish(f"m-{number}")
        depth = vhost.message_count("billing")
        return depth, [vhost.channel.basic_get("billing", auto_ack=True)[2] for _ in range(10)]

    without = publish_and_take()
    with reading(vhost.settings()) as collector:
        assert publish_and_take() == without
        assert len(read_to_now(collector)) == 20
    assert vhost.message_count("billing") == 0


def test_a_message_without_an_id_is_undecodable_and_others_go_on(vhost: Vhost) -> None:
    """No id, no ledger entry: the record is refused by name, its neighbours are decoded."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        vhost.channel.basic_publish("orders", "new.eu", b"anonymous")
        vhost.publish("m-2")
        anonymous, named = read_to_now(collector)
        with pytest.raises(ValueError, match="flow 'orders': no message id"):
            collector.decode(anonymous)
        assert [e.message_id for e in decoded(collector, [named])] == ["m-2"]


def test_a_replay_straight_into_a_queue_is_seen_as_one(vhost: Vhost) -> None:
    """A replay by the default exchange belongs to the queue's flow; its attempts are told apart."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        for attempt in ("1", "2"):
            headers = {REPLAY_ID: "r-1", REPLAY_ATTEMPT: attempt}
            vhost.publish("m-1", key="billing", exchange="", headers=headers)
        events = decoded(collector, read_to_now(collector))
    assert [(e.hop, e.replay_id, e.attempt) for e in events] == [
        ("rabbit-billing", "r-1", 1),
        ("rabbit-billing", "r-1", 2),
    ]
    assert len({natural_key(e) for e in events}) == 2


def test_while_the_firehose_is_off_nothing_is_vouched_for(vhost: Vhost) -> None:
    """Off: the collector says so, names the command, and vouches for nothing; on again: it vouches again, after one
    report without its sources."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        assert SourceRef("orders", "rabbit-billing", "persist", "billing") in collector.sources()
        vhost.trace(False)
        with pytest.raises(Unavailable, match=f"rabbitmqctl trace_on -p {vhost.name}"):
            read_until(collector, lambda raws: False)
        assert not vouches(collector)
        vhost.publish("m-unseen")
        vhost.trace(True)
        until = time.monotonic() + PATIENCE
        while not vouches(collector):
            assert time.monotonic() < until
            with contextlib.suppress(Unavailable):  # until a canary has proven that it is on
                assert collector.read(10, 0.1) == []
        vhost.publish("m-seen")
        assert [e.message_id for e in decoded(collector, read_to_now(collector))] == ["m-seen"]


def test_the_lag_is_the_age_of_the_last_canary_that_was_read(vhost: Vhost) -> None:
    """While records wait unread the lag grows with time; once they are read it is small again."""
    vhost.orders("billing")
    with reading(vhost.settings(settle=0.0)) as collector:
        before = collector.lag()
        assert before.ms < 5_000
        read_to_now(collector)
        assert collector.lag().ms < 1_000


def test_a_trace_that_is_read_late_says_so(vhost: Vhost) -> None:
    """Read a second after it may have happened, by a collector that was held up: an interval, no exact time, or an ack
    that came meanwhile would contradict it."""
    vhost.orders("billing")
    settings = {k: v for k, v in vhost.settings().items() if k not in ("name", "canary_every")}
    held_up = [0.0]
    collector = RabbitFirehose(
        "late", firehose_config("late", settings), monotonic=lambda: time.monotonic() + held_up[0]
    )
    try:
        read_until(collector, lambda _: vouches(collector))
        vhost.publish("m-1")
        published = now_micros()
        held_up[0] += SKEW / 1e6
        [event] = decoded(collector, read_until(collector, lambda raws: len(raws) == 1))
        assert event.observed_from is not None
        assert event.observed_from <= published <= event.observed_at
    finally:
        collector.close()


def test_what_waited_while_nobody_read_is_not_of_long_ago(vhost: Vhost) -> None:
    """A collector that was killed had read every canary in its queue. The next one knows all the same that what came
    then came after the last of them, or whoever vouches for the acks behind it would be asked for those of years."""
    vhost.orders("billing")
    with reading(vhost.settings()) as killed:
        vhost.publish("m-1")
        killed.commit(read_to_now(killed))
        began = now_micros()
        read_until(killed, lambda _: _kept(vhost) > began)
    after = now_micros()
    vhost.publish("m-2")
    with contextlib.closing(firehose(vhost.settings())) as next_one:
        [event] = decoded(next_one, read_until(next_one, lambda raws: len(raws) == 1))
    assert event.message_id == "m-2"
    assert event.observed_from is not None
    assert began < event.observed_from < after < event.observed_at


def _kept(vhost: Vhost) -> int:
    """Since when records wait, as the collector's queue says; 0 while it says nothing."""
    method, _, body = vhost.channel.basic_get("tracker.since.test")
    if method is None:
        return 0
    vhost.channel.basic_nack(method.delivery_tag or 0, requeue=True)
    return int(json.loads(body or b"{}")["since"])


def test_a_second_instance_stands_by_and_takes_over(vhost: Vhost) -> None:
    """Two collectors of one name do not share the traces between them: one reads, the other one waits."""
    vhost.orders("billing")
    with reading(vhost.settings()) as first:
        second = firehose(vhost.settings())
        try:
            for number in range(10):
                vhost.publish(f"m-{number}")
            assert second.read(100, 0.5) == []
            assert len(read_until(first, lambda raws: len(raws) == 10)) == 10
            assert not vouches(second)
            first.close()  # nothing was committed
            assert len(read_until(second, lambda raws: len(raws) == 10)) == 10
            read_until(second, lambda _: vouches(second))
        finally:
            second.close()


def test_a_trace_queue_deleted_under_it_is_declared_again(vhost: Vhost) -> None:
    """The loss is said, not hidden: `Unavailable`, no sources, then it goes on."""
    vhost.orders("billing")
    with reading(vhost.settings()) as collector:
        vhost.channel.queue_delete("tracker.trace.test")
        with pytest.raises(Unavailable):
            read_until(collector, lambda raws: False)
        assert not vouches(collector)
        read_until(collector, lambda _: vouches(collector))
        vhost.publish("m-1")
        assert len(decoded(collector, read_to_now(collector))) == 1


def test_wrong_credentials_and_an_unknown_vhost_are_the_operators_to_mend(vhost: Vhost) -> None:
    """Permanent, with the address, the user and no password in the text."""
    wrong = vhost.url.replace("guest:guest", "guest:secret-word")
    with pytest.raises(ConfigInvalid, match="user 'guest' is refused") as refused:
        firehose(vhost.settings(url=wrong)).read(1, 0)
    assert "secret-word" not in str(refused.value)
    with pytest.raises(ConfigInvalid, match="nowhere"):
        firehose(vhost.settings(url=vhost.url.replace(vhost.name, "nowhere"))).read(1, 0)


def test_other_arguments_of_an_existing_trace_queue_are_refused(vhost: Vhost) -> None:
    """The broker cannot change a queue's limits: the text says which one differs."""
    with reading(vhost.settings()):
        pass
    with pytest.raises(ConfigInvalid, match="x-max-length"):
        firehose(vhost.settings(max_length=5000)).read(1, 0)


def test_a_nearly_full_trace_queue_is_not_vouched_for(vhost: Vhost) -> None:
    """The broker drops the oldest traces of a full queue without a word, so near the limit nobody vouches."""
    vhost.orders("billing")
    settings = vhost.settings(max_length=1000, prefetch=10)
    with reading(settings) as collector:
        for number in range(1100):
            vhost.publish(f"m-{number}")
        raws = read_until(collector, lambda _: not vouches(collector))  # the broker takes its time to fill that queue
        until = time.monotonic() + PATIENCE
        while not vouches(collector):
            assert time.monotonic() < until
            collector.commit(raws)
            raws = list(collector.read(500, 0.1))


def test_an_unreachable_broker_is_unavailable() -> None:
    """Nothing listens: try again later, and the text names the address."""
    settings = {"name": "x", "url": "amqp://guest:guest@127.0.0.1:1/%2F", "queues": [{"queue": "q", "flow": "f"}]}
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        firehose(settings).read(1, 0)
