"""Instrumented confluent-kafka clients against a real Kafka."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from collectors.carried import digest_of
from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.confluent_kafka_producer import ObservedProducer
from collectors.instrument.observe import Observer
from tests.brokers.kafka_raw import put_with_header
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tests.brokers.kept import Kept
from tests.contract.http_tracker import HttpTracker
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of one partition."""
    with own_topic(kafka_server) as topic:
        yield topic


@pytest.fixture
def kept() -> Kept:
    """Where observations go."""
    return Kept()


@pytest.fixture
def observer(kept: Kept) -> Observer:
    """Observes hop `billing` of flow `orders`."""
    return Observer(kept, "orders", "billing")


def producing(topic: Topic, observer: Observer, **settings: Any) -> ObservedProducer:
    """An instrumented producer."""
    return instrument.producer(Producer(topic.client(linger_ms=1, **settings)), observer)


@pytest.fixture
def consumer(topic: Topic, observer: Observer) -> Iterator[instrument.ObservedConsumer]:
    """An instrumented consumer of group `app-<topic>`, subscribed."""
    with consuming(topic, observer) as consumer:
        consumer.subscribe([topic.name])
        yield consumer


def consuming(topic: Topic, observer: Observer, **settings: Any) -> instrument.ObservedConsumer:
    """An instrumented consumer, not subscribed yet; `with` closes it."""
    wanted = {"group_id": f"app-{topic.name}", "auto_offset_reset": "earliest", "enable_auto_commit": False, **settings}
    return instrument.consumer(Consumer(topic.client(**wanted)), observer)


def take(consumer: Any, count: int) -> list[Any]:
    """Consume so many messages."""
    found: list[Any] = []

    def enough() -> bool:
        found.extend(consumer.consume(count - len(found), 0.2))
        return len(found) >= count

    wait_for(enough)
    return found


def test_a_produce_is_observed_when_the_broker_has_it(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Not when it was called; with partition, offset, digest and the id that was set; the callback is still called."""
    reports: list[Any] = []
    producer = producing(topic, observer)
    producer.produce(
        topic.name, b"payload", key="k", on_delivery=lambda error, message: reports.append((error, message.offset()))
    )
    assert kept.events == []
    assert producer.flush(20) == 0
    [event] = kept.events
    assert reports == [(None, 0)]
    assert (event.flow, event.hop, event.stage) == ("orders", "billing", Stage.produce)
    assert (event.partition, event.offset, event.key) == (f"{topic.name}/0", 0, "")
    assert (event.digest, event.size) == (digest_of(b"payload"), 7)
    assert event.origin_at is not None
    assert event.origin_at <= event.observed_at


def test_id_and_origin_travel_with_the_message(topic: Topic, kept: Kept, observer: Observer) -> None:
    """They are set where absent and left alone where present; other headers stay, twice named ones too."""
    producer = producing(topic, observer)
    producer.produce(topic.name, b"1", headers=[("a", b"1"), ("a", b"2")])
    producer.produce(topic.name, b"2", headers={MESSAGE_ID: b"mine", ORIGIN_AT: b"17"})
    producer.flush(20)
    with Consumer(topic.client(group_id="plain", auto_offset_reset="earliest")) as plain:
        plain.subscribe([topic.name])
        first, second = (message.headers() for message in take(plain, 2))
    assert first[:2] == [("a", b"1"), ("a", b"2")]
    assert [name for name, _ in first[2:]] == [MESSAGE_ID, ORIGIN_AT]
    assert second == [(MESSAGE_ID, b"mine"), (ORIGIN_AT, b"17")]
    assert kept.of(Stage.produce) == [first[2][1].decode(), "mine"]
    assert [event.origin_at for event in kept.events] == [int(first[3][1]), 17]


def test_what_the_broker_did_not_take_was_not_produced(topic: Topic, kept: Kept, observer: Observer) -> None:
    """A delivery report with an error is none, and reaches the application."""
    reports: list[Any] = []
    nowhere = Topic("127.0.0.1:1", topic.name)
    producer = producing(nowhere, observer, message_timeout_ms=500)
    producer.produce(topic.name, b"x", on_delivery=lambda error, _: reports.append(error.name()))
    producer.flush(20)
    assert reports == ["_MSG_TIMED_OUT"]
    assert kept.events == []


def test_a_transaction_is_produced_when_it_is_committed(topic: Topic, kept: Kept, observer: Observer) -> None:
    """What was taken back never counts."""
    producer = producing(topic, observer, transactional_id=f"t-{topic.name}")
    producer.init_transactions(20)
    for name, end in ((b"taken-back", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic.name, b"x", headers=[(MESSAGE_ID, name)])
        producer.flush(20)
        assert kept.events == []
        end(20)
    assert kept.of(Stage.produce) == ["kept"]


def test_a_batch_carries_ids_too(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Though the driver's own batches cannot carry headers."""
    producer = producing(topic, observer)
    assert producer.produce_batch(topic.name, [{"value": b"1"}, {"value": b"2", "key": b"k"}]) == 2
    producer.flush(20)
    assert len(set(kept.of(Stage.produce))) == 2


def test_skipped_messages_have_no_ack_though_the_commit_went_past_them(
    topic: Topic, kept: Kept, consumer: instrument.ObservedConsumer
) -> None:
    """The story: 137 of 500 messages are skipped, the offset is committed past all; 363 have an ack, 137 have none."""
    names = [f"m-{n}" for n in range(500)]
    topic.put(names)
    skipped = {f"m-{n}" for n in range(100, 237)}
    for message in take(consumer, 500):
        if message.value().decode() not in skipped:
            consumer.commit(message=message)
    consumer.commit(asynchronous=False)
    [position] = consumer.committed([TopicPartition(topic.name, 0)], timeout=20)
    assert position.offset == 500
    assert kept.of(Stage.deliver) == names
    assert set(names) - set(kept.of(Stage.ack)) == skipped
    assert len(kept.of(Stage.ack)) == 363


def test_only_what_is_said_of_a_message_is_an_ack(
    topic: Topic, kept: Kept, consumer: instrument.ObservedConsumer
) -> None:
    """`commit()`, `commit(offsets=...)`: none. `ack`, `store_offsets(message=...)`, `commit(message=...)`: one each."""
    topic.put([f"m-{n}" for n in range(4)])
    first, second, third, fourth = take(consumer, 4)
    consumer.commit(asynchronous=False)
    consumer.commit(offsets=[TopicPartition(topic.name, 0, 4)], asynchronous=False)
    assert kept.of(Stage.ack) == []
    assert consumer.ack(first)
    consumer.commit(message=second, asynchronous=False)
    assert kept.of(Stage.ack) == ["m-0", "m-1"]
    consumer.nack(third, "card declined")
    consumer.dead_letter(fourth, "poison")
    consumer.commit(message=third)
    consumer.commit(message=fourth)
    assert kept.of(Stage.ack) == ["m-0", "m-1"]
    assert (kept.of(Stage.nack), kept.of(Stage.dead_letter)) == (["m-2"], ["m-3"])
    assert [e.reason for e in kept.events[-2:]] == ["card declined", "poison"]


def test_stored_offsets_of_a_message_are_an_ack(topic: Topic, kept: Kept, observer: Observer) -> None:
    """With automatic commits of stored offsets: the message that was stored, none before it."""
    topic.put(["m-0", "m-1"])
    with consuming(topic, observer, enable_auto_commit=True, enable_auto_offset_store=False) as consumer:
        consumer.subscribe([topic.name])
        _, second = take(consumer, 2)
        consumer.store_offsets(message=second)
    assert kept.of(Stage.ack) == ["m-1"]


def test_a_delivery_is_named_by_place_group_and_session(
    topic: Topic, kept: Kept, consumer: instrument.ObservedConsumer
) -> None:
    """Deliver and ack of one hand-over agree; reading it again is another hand-over."""
    topic.put(["m-0"])
    [message] = take(consumer, 1)
    consumer.ack(message)
    consumer.seek(TopicPartition(topic.name, 0, 0))
    [again] = take(consumer, 1)
    consumer.ack(again)
    first, acked, second, acked_again = (event.delivery for event in kept.events)
    assert first.startswith(f"{topic.name}/0:0:app-{topic.name}:{consumer.memberid()}-")
    assert first == acked
    assert second == acked_again
    assert first != second


def test_another_member_is_another_session(topic: Topic, kept: Kept, observer: Observer) -> None:
    """What was not committed is delivered again to the next member: another delivery of the same message."""
    topic.put(["m-0"])
    for _ in range(2):
        with consuming(topic, observer) as consumer:
            consumer.subscribe([topic.name])
            consumer.ack(take(consumer, 1)[0])
    deliveries = {event.delivery for event in kept.events}
    assert kept.of(Stage.ack) == ["m-0", "m-0"]
    assert len(deliveries) == 2


def test_callbacks_get_the_observed_consumer(topic: Topic, kept: Kept, observer: Observer) -> None:
    """What the application does in `on_assign` with the consumer it is given is seen as well."""
    topic.put(["m-0", "m-1"])
    given: list[Any] = []

    def assigned(consumer: Any, partitions: list[TopicPartition]) -> None:
        given.append(consumer)
        consumer.assign([TopicPartition(place.topic, place.partition, 1) for place in partitions])

    with consuming(topic, observer) as consumer:
        consumer.subscribe([topic.name], on_assign=assigned, on_revoke=lambda c, _: given.append(c))
        take(consumer, 1)
    assert kept.of(Stage.deliver) == ["m-1"]
    assert given == [consumer, consumer]


def test_partitions_assigned_by_hand(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Without a group's membership the session is the client's own."""
    topic.put(["m-0"])
    with consuming(topic, observer) as consumer:
        consumer.assign([TopicPartition(topic.name, 0, 0)])
        message = wait_for(lambda: consumer.poll(0.2))
        consumer.ack(message)
    delivered, acked = kept.events
    assert delivered.delivery == acked.delivery
    assert delivered.delivery.startswith(f"{topic.name}/0:0:app-{topic.name}:")


def test_a_broken_spool_never_reaches_the_application(
    topic: Topic, kept: Kept, observer: Observer, consumer: instrument.ObservedConsumer
) -> None:
    """Producing, consuming and committing go on; the failures are counted."""
    kept.broken = True
    producer = producing(topic, observer)
    producer.produce(topic.name, b"x")
    assert producer.flush(20) == 0
    [message] = take(consumer, 1)
    consumer.commit(message=message, asynchronous=False)
    assert consumer.ack(message) is False
    assert observer.counts.errors == 4


@pytest.mark.long  # in a process of its own: what the driver hands out there has ended some
def test_headers_that_cannot_be_read_never_reach_the_application(
    topic: Topic, kept: Kept, observer: Observer, consumer: instrument.ObservedConsumer
) -> None:
    """A name that is no UTF-8: the driver raises when it is asked for the headers, and the application did not ask. It
    gets its message; what we could not see of it nobody vouches for."""
    put_with_header(topic.servers, topic.name, b"\xff\xfe", b"odd")
    [message] = take(consumer, 1)
    assert message.value() == b"odd"
    consumer.commit(message=message, asynchronous=False)
    assert kept.events == []
    assert (observer.counts.errors, kept.missed) == (2, 2)


def test_other_topics_are_left_alone(topic: Topic, kept: Kept, observer: Observer) -> None:
    """With `topics` given, messages of others are neither marked nor observed."""
    producer = instrument.producer(Producer(topic.client()), observer, topics=["orders-only"])
    producer.produce(topic.name, b"x")
    producer.flush(20)
    with Consumer(topic.client(group_id="plain", auto_offset_reset="earliest")) as plain:
        watched = instrument.consumer(plain, observer, topics=["orders-only"])
        watched.subscribe([topic.name])
        [message] = take(watched, 1)
    assert message.headers() is None
    assert kept.events == []


def test_a_consumer_killed_in_mid_batch_loses_no_observation(topic: Topic, tmp_path: Path) -> None:
    """SIGKILL: every offset that the broker was told of has its ack in the spool, for the next process to deliver."""
    topic.put([f"m-{n}" for n in range(300)])
    group, spool = f"app-{topic.name}", tmp_path / "spool"
    command = [sys.executable, "-m", "tests.brokers.kafka_consuming", topic.servers, topic.name, group, str(spool)]
    application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert application.stdout is not None
    for line in application.stdout:
        if line.startswith("100 "):
            break
    application.kill()
    application.wait(20)
    application.stdout.close()
    with Consumer(topic.client(group_id=group)) as look:
        [position] = look.committed([TopicPartition(topic.name, 0)], timeout=20)
    acked = {line["message_id"] for line in _delivered(spool) if line["stage"] == "ack"}
    assert position.offset >= 100
    assert acked >= {f"m-{n}" for n in range(position.offset)}
    assert len(acked) <= position.offset + 1


def _delivered(spool: Path) -> list[dict[str, Any]]:
    """What the next process with this spool brings to the tracker."""
    with HttpTracker() as tracker:
        emitter = Emitter(tracker.url, collector="billing", spool=spool)
        assert emitter.flush(20)
        emitter.close()
        return [line for request in tracker.requests for line in request.lines]


def test_what_an_observation_costs(topic: Topic, tmp_path: Path) -> None:
    """Deliver and ack through the real emitter: tens of microseconds at most (the benchmark measures it better)."""
    names = [f"m-{n}" for n in range(2000)]
    topic.put(names)
    with HttpTracker() as tracker, Emitter(tracker.url, collector="c", spool=tmp_path) as emitter:
        with consuming(topic, Observer(emitter, "orders", "billing")) as consumer:
            consumer.subscribe([topic.name])
            messages = take(consumer, 2000)
            began = time.perf_counter()
            for message in messages:
                consumer.ack(message)
            spent = (time.perf_counter() - began) / 2000
        assert emitter.flush(20)
    assert spent < 200e-6
