"""Copies from the log of a real Kafka, and sending them again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from collectors.carried import digest_of
from collectors.errors import ConfigInvalid, Unavailable
from collectors.kafka.publisher import KafkaPublisher, publisher
from collectors.kafka.source import KafkaSource, source
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tracker.model.carry import Copy, Locator, Missing

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of two partitions."""
    with own_topic(kafka_server, partitions=2) as topic:
        yield topic


@contextmanager
def fetching(topic: Topic, **settings: Any) -> Iterator[KafkaSource]:
    """A source on the cluster of the topic."""
    found = source({"url": topic.url, "timeout": 10, **settings})
    try:
        yield found
    finally:
        found.close()


@contextmanager
def sending(topic: Topic, **settings: Any) -> Iterator[KafkaPublisher]:
    """A publisher to the topic."""
    found = publisher({"url": topic.url, "topic": topic.name, "timeout": 10, **settings})
    try:
        yield found
    finally:
        found.close()


def at(topic: Topic, name: str, offset: int, partition: int = 0) -> Locator:
    """Where a message lies."""
    return Locator(name, "kafka-eu", f"{topic.name}/{partition}", offset)


def records(topic: Topic, count: int) -> list[Any]:
    """The first records of the topic, as a plain consumer sees them."""
    consumer = Consumer(topic.client(group_id="plain", enable_auto_commit=False))
    consumer.assign([TopicPartition(topic.name, n, 0) for n in topic.ends()])
    found: list[Any] = []

    def enough() -> bool:
        found.extend(m for m in consumer.consume(100, 0.1) if not m.error())
        return len(found) >= count

    try:
        wait_for(enough)
    finally:
        consumer.close()
    return found


def test_a_round_trip_keeps_key_headers_and_payload(topic: Topic) -> None:
    """What is sent again is what was there, byte for byte, with the headers that a replay adds."""
    topic.put(["m-1", "m-2"], partition=1, headers={"colour": b"blue"}, value=b"\x00payload\xff")
    with own_topic(topic.servers) as target, fetching(topic) as log, sending(target) as back:
        [copy] = log.fetch([at(topic, "m-2", 1, partition=1)])
        assert isinstance(copy, Copy)
        assert copy.digest == digest_of(b"\x00payload\xff")
        again = Copy(copy.locator, copy.key, copy.value, {**copy.headers, "x-tracker-replay": b"r-1"}, copy.digest)
        [sent] = back.publish([again])
        [record] = records(target, 1)
    assert sent.error == ""
    assert (record.key(), record.value()) == (b"m-2", b"\x00payload\xff")
    assert record.headers() == [("x-message-id", b"m-2"), ("colour", b"blue"), ("x-tracker-replay", b"r-1")]


def test_scattered_records_are_fetched_in_one_go(topic: Topic) -> None:
    """Any order, both partitions, near and far apart, the same one twice: one answer each."""
    for partition in (0, 1):
        topic.put([f"p{partition}-{n}" for n in range(6000)], partition=partition)
    wanted = [at(topic, f"p{p}-{n}", n, partition=p) for n in (5999, 0, 1, 4500, 17) for p in (1, 0)]
    wanted.append(wanted[0])
    with fetching(topic) as log:
        found = log.fetch(wanted)
    assert sorted(found_at.locator.message_id for found_at in found) == sorted(w.message_id for w in wanted)
    assert all(isinstance(copy, Copy) and copy.value == copy.locator.message_id.encode() for copy in found)


def test_what_is_gone_is_missing_and_says_why(topic: Topic) -> None:
    """Expired, beyond the end, another message by now, a deleted topic, no partition at all."""
    topic.put([f"m-{n}" for n in range(5)], partition=0)
    for answer in topic.admin.delete_records([TopicPartition(topic.name, 0, 2)]).values():
        answer.result(20)
    asked = {
        "expired: the log begins at 2": at(topic, "m-1", 1),
        "the log ends at 5": at(topic, "m-9", 9),
        "another message is there now: 'm-3'; the topic was made again": at(topic, "m-77", 3),
        "the topic or partition no longer exists": Locator("m", "h", "never-made/0", 0),
        "'amqp-queue' is no Kafka partition; it reads topic/number": Locator("m", "h", "amqp-queue", 0),
    }
    with fetching(topic) as log:
        found = log.fetch(list(asked.values()))
    assert {missing.reason: missing.locator for missing in found if isinstance(missing, Missing)} == asked


def test_what_a_transaction_took_back_is_missing(topic: Topic) -> None:
    """It was never meant to be there, so it is not sent again; a tombstone has nothing to send."""
    producer = Producer(topic.client(transactional_id=f"t-{topic.name}"))
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic.name, b"x", partition=0, headers=[("x-message-id", b"aborted")])
    producer.flush(20)
    producer.abort_transaction(20)
    producer.begin_transaction()
    producer.produce(topic.name, None, key=b"k", partition=0, headers=[("x-message-id", b"tombstone")])
    producer.commit_transaction(20)
    with fetching(topic) as log:
        aborted, tombstone = log.fetch([at(topic, "aborted", 0), at(topic, "tombstone", 2)])
    assert isinstance(aborted, Missing)
    assert aborted.reason == "compacted, or taken back by its transaction"
    assert isinstance(tombstone, Missing)
    assert tombstone.reason.startswith("a tombstone")


def test_a_copy_of_the_same_topic_goes_where_it_was(topic: Topic) -> None:
    """So that it stays behind those of its key."""
    topic.put(["m-1"], partition=1)
    with fetching(topic) as log, sending(topic) as back:
        copies = [c for c in log.fetch([at(topic, "m-1", 0, partition=1)]) if isinstance(c, Copy)]
        assert [s.error for s in back.publish(copies * 20)] == [""] * 20
    assert topic.ends() == {0: (0, 0), 1: (0, 21)}


@pytest.mark.parametrize(("partition", "there"), [("same", {0: (0, 0), 1: (0, 20)}), ("key", {0: (0, 20), 1: (0, 0)})])
def test_a_copy_for_a_mirror_keeps_its_partition_where_that_is_said(
    topic: Topic, partition: str, there: dict[int, tuple[int, int]]
) -> None:
    """The producer need not choose partitions as Java's clients do: beside the copies of its key it is in order."""
    place = Locator("m-1", "kafka", f"another.{topic.name}/1", 7)
    with sending(topic, partition=partition) as back:
        assert [s.error for s in back.publish([Copy(place, b"k", b"v", {}, "")] * 20)] == [""] * 20
    assert topic.ends() == there


def test_many_are_confirmed_in_order(topic: Topic) -> None:
    """The answers stand in the order of the copies, each confirmed."""
    copies = [Copy(at(topic, f"m-{n}", n), b"k", b"v" * 200, {}, "") for n in range(20_000)]
    with sending(topic) as back:
        sent = back.publish(copies)
    assert [s.locator for s in sent] == [c.locator for c in copies]
    assert {s.error for s in sent} == {""}


def test_what_cannot_be_sent_says_so(topic: Topic) -> None:
    """A message that is too large is refused; its neighbours are sent."""
    copies = [
        Copy(at(topic, name, 0), None, value, {}, "") for name, value in (("big", b"x" * 2_000_000), ("small", b"x"))
    ]
    with sending(topic) as back:
        big, small = back.publish(copies)
    assert "MSG_SIZE_TOO_LARGE" in big.error
    assert small.error == ""


def test_nobody_there_is_said(topic: Topic) -> None:
    """The source raises; the publisher answers for each copy that it was not confirmed."""
    nowhere = Topic("127.0.0.1:1", topic.name)
    with fetching(nowhere) as log, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        log.fetch([at(topic, "m-1", 0)])
    began = time.monotonic()
    with sending(nowhere, timeout=60) as back:
        [sent] = back.publish([Copy(at(topic, "m-1", 0), None, b"x", {}, "")])
    assert sent.error == "Kafka 127.0.0.1:1: no broker answers: in doubt whether it arrived"
    assert time.monotonic() - began < 20


def test_a_broker_that_dies_under_a_publisher(kafka_factory: Any) -> None:
    """It is told long before the timeout; what was not confirmed then is not sent later behind anybody's back; and the
    same publisher goes on when the broker is there again."""
    node = kafka_factory()
    topic = Topic(node.bootstrap, "orders")
    topic.create()
    with sending(topic, timeout=60) as back:
        first = [Copy(at(topic, f"m-{n}", n), None, b"x", {}, "") for n in range(100)]
        assert {sent.error for sent in back.publish(first)} == {""}
        node.kill()
        began = time.monotonic()
        lost = back.publish([Copy(at(topic, f"lost-{n}", n), None, b"x", {}, "") for n in range(100)])
        assert time.monotonic() - began < 20
        assert all("no broker answers" in sent.error for sent in lost)
        node.start()
        wait_for(lambda: not back.publish([Copy(at(topic, "later", 0), None, b"later", {}, "")])[0].error)
    assert {record.value() for record in records(topic, 101)} == {b"x", b"later"}
    assert topic.ends()[0][1] == 101


@pytest.mark.parametrize("make", [source, publisher])
def test_a_wrong_key_is_named(make: Any) -> None:
    """Strict, like every configuration."""
    with pytest.raises(ConfigInvalid, match="topics: Extra inputs are not permitted"):
        make({"url": "kafka://h:1", "topics": "orders"})
