"""The tail against a real Kafka: what it sees, where it goes on, and what it vouches for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from collectors.base import NOTHING_YET_MS
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid, Unavailable, Undecodable
from collectors.kafka.tail import KafkaTail, tail
from tests.brokers.kafka_raw import put_with_header
from tests.brokers.kafka_topic import Topic, ids, own_topic, read_to_now, read_until, wait_for
from tracker.model.carry import ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID
from tracker.model.event import Stage

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of two partitions."""
    with own_topic(kafka_server, partitions=2) as topic:
        yield topic


@contextmanager
def tailing(topic: Topic, **settings: Any) -> Iterator[KafkaTail]:
    """A tail of the topic; the same topic gives the same name, and so the same positions."""
    route = {"topic": topic.name, "flow": "orders", "hop": "kafka-eu"}
    found = tail(f"test.{topic.name}", {"url": topic.url, "topics": [route], "look_every": 0.2, **settings})
    try:
        yield found
    finally:
        found.close()


def test_a_record_is_a_persist_as_it_travelled(topic: Topic) -> None:
    """Id, origin, trace, digest and size come from the record; the cluster is the node; the key stays here."""
    headers = {ORIGIN_AT: b"1795000000000001", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01".encode()}
    topic.put(["m-1"], partition=1, headers=headers)
    with tailing(topic) as collector:
        [raw] = read_until(collector, 1)
        [event] = collector.decode(raw)
    assert (event.flow, event.hop, event.stage, event.message_id) == ("orders", "kafka-eu", Stage.persist, "m-1")
    assert (event.partition, event.offset, event.key) == (f"{topic.name}/1", 0, "")
    assert (event.digest, event.size) == (digest_of(b"m-1"), 3)
    assert (event.origin_at, event.trace_id, event.span_id) == (1795000000000001, "a" * 32, "b" * 16)
    assert event.node == topic.admin.cluster_id(timeout=10)
    assert abs(event.observed_at - time.time() * 1e6) < 60e6


def test_a_replayed_record_says_which_replay(topic: Topic) -> None:
    """Replay id and attempt are taken from their headers."""
    topic.put(["m-1"], headers={REPLAY_ID: b"r-7", REPLAY_ATTEMPT: b"2"})
    with tailing(topic, key="plain") as collector:
        [event] = collector.decode(read_until(collector, 1)[0])
    assert (event.replay_id, event.attempt, event.key) == ("r-7", 2, "m-1")


def test_without_an_origin_header_the_producers_timestamp_is_the_origin(topic: Topic) -> None:
    """CreateTime is the origin; the time of an append by the broker is not."""
    topic.put(["m-1"])
    with tailing(topic) as collector:
        [event] = collector.decode(read_until(collector, 1)[0])
    assert event.origin_at == event.observed_at


def test_the_brokers_timestamp_is_no_origin(kafka_server: str) -> None:
    """On a topic with LogAppendTime the append is when it was observed, and nothing says when it began."""
    with own_topic(kafka_server, config={"message.timestamp.type": "LogAppendTime"}) as topic:
        topic.put(["m-1"])
        with tailing(topic) as collector:
            [event] = collector.decode(read_until(collector, 1)[0])
    assert event.origin_at is None
    assert abs(event.observed_at - time.time() * 1e6) < 60e6


def test_a_record_without_id_is_named(topic: Topic) -> None:
    """It cannot be tracked, and the reason says where it stands; its neighbours are not held up."""
    producer = Producer(topic.client())
    producer.produce(topic.name, b"x", partition=0)
    producer.flush(20)
    topic.put(["m-1"], partition=0)
    with tailing(topic) as collector:
        nameless, named = read_until(collector, 2)
        with pytest.raises(Undecodable, match=f"{topic.name}/0 offset 0 has no header 'x-message-id'"):
            collector.decode(nameless)
        assert ids(collector, [named]) == ["m-1"]


@pytest.mark.long  # in a process of its own: what the driver hands out there has ended some
def test_a_header_name_that_is_no_text_stops_nothing(topic: Topic) -> None:
    """confluent-kafka shows no headers of such a record, so it has no id and is named; what lies behind it is read."""
    put_with_header(topic.servers, topic.name, b"\xff\xfe", b"odd")
    topic.put(["m-1"], partition=0)
    with tailing(topic) as collector:
        odd, named = read_until(collector, 2)
        with pytest.raises(Undecodable, match=f"{topic.name}/0 offset 0 has no header"):
            collector.decode(odd)
        assert ids(collector, [named]) == ["m-1"]


def test_the_place_is_the_id_only_when_asked(topic: Topic) -> None:
    """`id: offset` names records by topic, partition and offset."""
    topic.put(["m-1"], partition=1)
    with tailing(topic, id="offset") as collector:
        assert ids(collector, read_until(collector, 1)) == [f"{topic.name}/1/0"]


def test_another_header_may_carry_the_id(topic: Topic) -> None:
    """`identity_header` names it."""
    topic.put(["m-1"], headers={"order-id": b"o-1"})
    with tailing(topic, identity_header="order-id") as collector:
        assert ids(collector, read_until(collector, 1)) == ["o-1"]


def test_partitions_that_are_added_are_read_from_their_beginning(topic: Topic) -> None:
    """Records that a new partition got before it was noticed are read, and it is announced as a source."""
    with tailing(topic, **{"from": "latest"}) as collector:
        read_to_now(collector)
        topic.grow(3)
        topic.put(["m-1", "m-2"], partition=2)
        assert ids(collector, read_until(collector, 2)) == ["m-1", "m-2"]
        read_to_now(collector)
        assert [s.source for s in collector.sources()] == [f"{topic.name}/{n}" for n in range(3)]


def test_from_latest_reads_only_what_comes_after_the_first_start(topic: Topic) -> None:
    """And a restart before the first record goes on from there, though nothing was ever committed for it."""
    topic.put(["old-1", "old-2"])
    with tailing(topic, **{"from": "latest"}) as collector:
        assert read_to_now(collector) == []
    topic.put(["m-1", "m-2"])
    with tailing(topic, **{"from": "latest"}) as collector:
        assert ids(collector, read_until(collector, 2)) == ["m-1", "m-2"]


def test_nothing_is_vouched_for_before_reading_is_past_where_it_began(topic: Topic) -> None:
    """From the end: no source until a look at the log, made after reading began, has been passed."""
    with tailing(topic, **{"from": "latest"}) as collector:
        wait_for(lambda: collector.read(1, 0.0) is not None and collector._frontier.reach, "an assignment")
        before = collector.sources()
        read_to_now(collector)
        wait_for(lambda: collector.read(1, 0.05) or len(collector.sources()) == 2, "a look at both, read past")
        after = collector.sources()
    assert before == []
    assert [s.source for s in after] == [f"{topic.name}/0", f"{topic.name}/1"]


def test_the_first_read_knows_what_there_is(topic: Topic) -> None:
    """However short its wait: a list of sources without those of the last run would let go of them, and coverage would
    have a hole where nothing is missing."""
    with tailing(topic) as collector:
        collector.read(1, 0.0)
        assert [s.source for s in collector.sources()] == [f"{topic.name}/0", f"{topic.name}/1"]


def test_a_topic_made_again_is_read_from_its_beginning(topic: Topic) -> None:
    """Its offsets begin anew; the positions of the old one do not count, neither at once nor after a restart."""
    topic.put([f"old-{n}" for n in range(6)], partition=0)
    with tailing(topic) as collector:
        collector.commit(read_until(collector, 6))
        topic.delete()
        topic.create(2)
        topic.put(["m-1", "m-2"], partition=0)
        new = _read_patiently(collector, 2)
        assert ids(collector, new) == ["m-1", "m-2"]
        collector.commit(new[:1])
    topic.put(["m-3"], partition=0)
    with tailing(topic) as collector:
        assert ids(collector, read_until(collector, 2)) == ["m-2", "m-3"]


def test_a_topic_made_again_while_nobody_looked_is_read_from_its_beginning(topic: Topic) -> None:
    """Though it holds more records by now than the old one had."""
    topic.put(["old-1", "old-2"], partition=0)
    with tailing(topic) as collector:
        collector.commit(read_until(collector, 2))
    topic.delete()
    topic.create(2)
    topic.put([f"m-{n}" for n in range(4)], partition=0)
    with tailing(topic) as collector:
        assert ids(collector, read_until(collector, 4)) == ["m-0", "m-1", "m-2", "m-3"]


def _read_patiently(collector: KafkaTail, count: int) -> list[Any]:
    """As `read_until`, though the topic is away for a while."""
    raws: list[Any] = []

    def enough() -> bool:
        try:
            raws.extend(collector.read(100, 0.1))
        except Unavailable:
            return False
        return len(raws) >= count

    wait_for(enough, f"{count} records")
    return raws


def test_records_lost_unread_leave_a_hole(topic: Topic) -> None:
    """What was deleted before it was read is passed over, and the partition is not vouched for, for a while."""
    topic.put(["m-1"], partition=0)
    with tailing(topic) as collector:
        collector.commit(read_until(collector, 1))
    topic.put([f"lost-{n}" for n in range(5)], partition=0)
    topic.put(["m-2"], partition=0)
    deleted = topic.admin.delete_records([TopicPartition(topic.name, 0, 6)])
    for answer in deleted.values():
        answer.result(20)
    with tailing(topic) as collector:
        assert ids(collector, read_until(collector, 1)) == ["m-2"]
        read_to_now(collector)
        assert [s.source for s in collector.sources()] == [f"{topic.name}/1"]


@pytest.mark.parametrize(("isolation", "seen"), [("read_committed", ["m-2"]), ("read_uncommitted", ["m-1", "m-2"])])
def test_transactions(topic: Topic, isolation: str, seen: list[str]) -> None:
    """What a transaction took back is left out where asked; markers in the log never look like a backlog."""
    producer = Producer(topic.client(transactional_id=f"t-{topic.name}"))
    producer.init_transactions(20)
    for name, end in (("m-1", producer.abort_transaction), ("m-2", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic.name, b"x", partition=0, headers=[("x-message-id", name.encode())])
        producer.flush(20)
        end(20)
    with tailing(topic, isolation=isolation) as collector:
        assert ids(collector, read_to_now(collector)) == seen
        assert collector.lag().backlog == 0


def test_topics_by_pattern(kafka_server: str) -> None:
    """A pattern takes every topic that fits, also one that is made later."""
    with own_topic(kafka_server) as one, own_topic(kafka_server) as two:
        route = {"topic": f"^({one.name}|{two.name})", "flow": "orders", "hop": "kafka-eu"}
        collector = tail(f"test.{one.name}", {"url": one.url, "topics": [route], "look_every": 0.2})
        try:
            one.put(["m-1"])
            two.put(["m-2"])
            assert ids(collector, read_until(collector, 2)) == ["m-1", "m-2"]
            later = Topic(kafka_server, f"{one.name}-later")
            later.create()
            later.put(["m-3"])
            assert ids(collector, read_until(collector, 1)) == ["m-3"]
            later.delete()
        finally:
            collector.close()


def test_a_large_record(kafka_server: str) -> None:
    """Ten megabytes are read like ten bytes."""
    with own_topic(kafka_server, config={"max.message.bytes": "12000000"}) as topic:
        topic.put(["m-1"], value=b"x" * 10_000_000, settings={"message.max.bytes": 12_000_000})
        with tailing(topic) as collector:
            [event] = collector.decode(read_until(collector, 1)[0])
    assert event.size == 10_000_000


def test_no_topic_is_said(kafka_server: str) -> None:
    """A tail of topics that do not exist names them, once, and vouches for nothing, not even that nothing happens.
    One that is made later is found at once; when it is gone that is said again."""
    topic = Topic(kafka_server, f"later-{time.time_ns()}")
    with tailing(topic) as collector:
        said = rf"none of the topics exists: {topic.name}; create them"
        with pytest.raises(Unavailable, match=said):
            wait_for(lambda: collector.read(10, 1.0))
        began = time.monotonic()
        while time.monotonic() < began + 1:
            assert collector.read(10, 0.1) == []
        assert (collector.sources(), collector.lag().ms) == ([], NOTHING_YET_MS)
        topic.create()
        topic.put(["m-1"])
        assert ids(collector, read_until(collector, 1)) == ["m-1"]
        topic.delete()
        with pytest.raises(Unavailable, match=said):
            wait_for(lambda: collector.read(10, 1.0))


def test_nobody_there_is_unavailable() -> None:
    """A cluster that does not answer is said by name, within the time of one request; nothing else is raised."""
    with tailing(Topic("127.0.0.1:1", "orders"), client={"log_level": 0}) as collector:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            wait_for(lambda: collector.read(10, 0.5))
        assert collector.lag().ms > 60_000


def test_a_setting_that_the_driver_does_not_know_is_said(kafka_server: str) -> None:
    """Before anything is read."""
    with (
        pytest.raises(ConfigInvalid, match=r"sasl\.pasword"),
        tailing(Topic(kafka_server, "t"), client={"sasl.pasword": "x"}),
    ):
        pass


def claims(collector: KafkaTail, after: float) -> bool:
    """True when it vouches for a moment past `after` (epoch seconds) by more than clocks are rounded."""
    return bool(collector.sources()) and time.time() - collector.lag().ms / 1000 > after + 0.1


@pytest.mark.slow
def test_a_collector_that_starts_before_its_broker(kafka_factory: Callable[..., Any]) -> None:
    """It says that the broker is away, not that the topic does not exist, and vouches for nothing that it has not
    read when the broker comes with a backlog."""
    server = kafka_factory()
    topic = Topic(server.bootstrap, "orders")
    topic.create(1)
    topic.put([f"m-{n}" for n in range(3000)])
    made = time.time()
    server.kill()
    with tailing(topic, client={"log_level": 0}) as collector:
        until = time.monotonic() + 12
        while time.monotonic() < until:  # several questions without an answer
            with suppress(Unavailable):
                assert collector.read(10, 0.2) == []
            assert not claims(collector, made)
        server.start()
        raws = _read_patiently(collector, 1)
        while len(raws) < 3000:
            assert not claims(collector, made)
            raws += collector.read(100, 0.2)
        assert ids(collector, raws) == sorted(f"m-{n}" for n in range(3000))
    server.kill()


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back(kafka_factory: Callable[..., Any]) -> None:
    """While it is away the lag grows and reading says so; afterwards all comes, and nothing is missing."""
    server = kafka_factory()
    topic = Topic(server.bootstrap, "orders")
    topic.create(2)
    topic.put([f"m-{n}" for n in range(50)])
    with tailing(topic, client={"log_level": 0}) as collector:
        raws = _read_patiently(collector, 1)
        raws += read_to_now(collector)
        server.kill()
        with pytest.raises(Unavailable):
            wait_for(lambda: collector.read(100, 0.2), patience=40)
        assert collector.lag().ms > 0
        with pytest.raises(Unavailable):
            collector.commit(raws)
        server.start()
        topic.put([f"m-{n}" for n in range(50, 60)])
        raws += _read_patiently(collector, 10)
        assert ids(collector, raws) == sorted(f"m-{n}" for n in range(60))
        collector.commit(raws)
    with tailing(topic) as collector:
        assert read_to_now(collector) == []
    server.kill()
