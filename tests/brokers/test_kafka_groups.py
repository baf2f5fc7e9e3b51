"""Consumer groups' committed offsets as range evidence, against a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from collectors.base import Raw
from collectors.errors import ConfigInvalid, Unavailable, Undecodable
from collectors.kafka.groups import KafkaGroups, groups
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tracker.model.event import Range, Stage

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of two partitions with ten records in the first."""
    with own_topic(kafka_server, partitions=2) as topic:
        topic.put([f"m-{n}" for n in range(10)], partition=0)
        yield topic


@pytest.fixture
def app(topic: Topic) -> Iterator[Consumer]:
    """Somebody else's group, `app-<topic>`."""
    consumer = Consumer(topic.client(group_id=f"app-{topic.name}", enable_auto_commit=False))
    yield consumer
    consumer.close()


@contextmanager
def following(topic: Topic, group: str = "", **more: Any) -> Iterator[KafkaGroups]:
    """A follower of the group; the same topic gives the same name, and so the same positions."""
    followed = {"group": group or f"app-{topic.name}", "topic": topic.name}
    settings = {
        "url": topic.url,
        "poll_every": 0.1,
        "rebalance_delay": 60,  # however busy the machine is
        **more,
        "groups": [{**followed, **{"flow": "orders", "hop": "billing", "log": "kafka-eu"}}],
    }
    found = groups(f"test.{topic.name}", settings)
    try:
        yield found
    finally:
        found.close()


def move(app: Consumer, topic: Topic, offset: int, partition: int = 0) -> None:
    """The application commits."""
    app.commit(offsets=[TopicPartition(topic.name, partition, offset)], asynchronous=False)


def read(collector: KafkaGroups) -> tuple[list[Any], list[Range]]:
    """Everything that a poll made after this call shows."""
    raws: list[Any] = []
    began = time.monotonic()

    def polled() -> bool:
        raws.extend(collector.read(100, 0.05))
        return collector.lag().ms < (time.monotonic() - began) * 1000

    wait_for(polled, "a poll")
    return raws, [found for raw in raws for found in collector.decode(raw)]


def spans(found: list[Range]) -> list[tuple[str, int, int]]:
    """Partition number, from and to of each."""
    return [(r.partition.rpartition("/")[2], r.offset, r.offset_to) for r in found]


def test_a_commit_is_a_range_between_two_polls(topic: Topic, app: Consumer) -> None:
    """It names log, partition, group and span of offsets; it happened after the poll that did not show it yet."""
    with following(topic) as collector:
        assert read(collector)[1] == []
        before = time.time_ns() // 1000
        move(app, topic, 4)
        after = time.time_ns() // 1000
        [found] = read(collector)[1]
    assert (found.flow, found.hop, found.stage, found.log) == ("orders", "billing", Stage.ack, "kafka-eu")
    assert (found.partition, found.offset, found.offset_to) == (f"{topic.name}/0", 0, 4)
    assert (found.group, found.evidence) == (f"app-{topic.name}", "range")
    assert found.observed_from <= after
    assert before <= found.observed_at
    assert found.observed_at - found.observed_from < 10e6


def test_what_was_committed_before_the_first_start_is_reported_from_the_logs_beginning(
    topic: Topic, app: Consumer
) -> None:
    """That it was moved past is certain; when, only that it was after the first record that the log holds."""
    move(app, topic, 6)
    with following(topic) as collector:
        [found] = read(collector)[1]
    assert (found.offset, found.offset_to) == (0, 6)
    assert 0 < found.observed_at - found.observed_from < 60e6


def test_ranges_join(topic: Topic, app: Consumer) -> None:
    """Each begins where the one before ended; partitions are told apart; standing still gives nothing."""
    topic.put(["n-1"], partition=1)
    with following(topic) as collector:
        seen = []
        for offset, partition in ((3, 0), (1, 1), (9, 0)):
            move(app, topic, offset, partition)
            seen += spans(read(collector)[1])
            seen += spans(read(collector)[1])
    assert seen == [("0", 0, 3), ("1", 0, 1), ("0", 3, 9)]


def test_going_back_reports_nothing_until_the_old_place_is_passed(topic: Topic, app: Consumer) -> None:
    """A reset does not take back what was moved past, and reading it again is no news."""
    with following(topic) as collector:
        seen = []
        for offset in (8, 2, 5, 10):
            move(app, topic, offset)
            seen += spans(read(collector)[1])
    assert seen == [("0", 0, 8), ("0", 8, 10)]


def test_a_restart_goes_on_from_what_was_reported(topic: Topic, app: Consumer) -> None:
    """What was committed to us does not come again, what was not does; the span of time is still bounded."""
    move(app, topic, 3)
    with following(topic) as collector:
        collector.commit(read(collector)[0])
        move(app, topic, 5)
        assert spans(read(collector)[1]) == [("0", 3, 5)]
    move(app, topic, 7)
    with following(topic) as collector:
        raws, [found] = read(collector)
        collector.commit(raws)
    assert (found.offset, found.offset_to) == (3, 7)
    assert found.observed_at - found.observed_from < 60e6
    with following(topic) as collector:
        assert read(collector)[1] == []


def test_a_group_that_never_committed_is_watched_all_the_same(topic: Topic) -> None:
    """No range, but a source per partition, with range evidence: that nothing was moved past is known."""
    with following(topic, group="nobody") as collector:
        assert read(collector)[1] == []
        sources = collector.sources()
    assert [(s.hop, s.stage, s.source, s.evidence) for s in sources] == [
        ("billing", "ack", f"nobody@{topic.name}/{n}", "range") for n in range(2)
    ]


@pytest.fixture
def group(topic: Topic) -> str:
    """A group that has read three records as a member, and has none now."""
    name = f"members-{topic.name}"
    consume(topic, name, 3)
    return name


def consume(topic: Topic, group: str, count: int) -> None:
    """Read so many records as the group's only member, commit, leave."""
    consumer = Consumer(topic.client(group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"))
    try:
        consumer.subscribe([topic.name])
        for _ in range(count):
            message = wait_for(lambda: consumer.poll(0.5), "a record")
            assert message.error() is None
            consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()


def reset(topic: Topic, group: str, offset: int) -> None:
    """As `kafka-consumer-groups.sh --reset-offsets` does."""
    there = ConsumerGroupTopicPartitions(group, [TopicPartition(topic.name, 0, offset)])
    [place] = topic.admin.alter_consumer_group_offsets([there])[group].result(20).topic_partitions
    assert place.error is None


def told(found: list[Range]) -> list[tuple[str, str, str, int, int]]:
    """Hop, stage, reason, from and to of each."""
    return [(r.hop, r.stage.value, r.reason, r.offset, r.offset_to) for r in found]


def listed(collector: KafkaGroups) -> int:
    """Partitions that are vouched for."""
    return len(collector.sources())


def test_set_forward_while_nobody_is_there(topic: Topic, group: str) -> None:
    """What lies between was passed over, at the group's hop. What it reads of that when it is set back, it has read."""
    with following(topic, group) as collector:
        assert told(read(collector)[1]) == [("billing", "ack", "", 0, 3)]
        reset(topic, group, 8)
        [skipped] = read(collector)[1]
        assert told([skipped]) == [("billing", "drop", "skipped", 3, 8)]
        assert (skipped.log, skipped.partition, skipped.group) == ("kafka-eu", f"{topic.name}/0", group)
        assert listed(collector) == 2
        reset(topic, group, 2)
        assert read(collector)[1] == []
        consume(topic, group, 3)
        [again] = read(collector)[1]
    assert told([again]) == [("billing", "ack", "", 3, 5)]
    assert again.observed_from > skipped.observed_at, "so it counts"


def test_set_forward_while_nobody_looked(topic: Topic, group: str) -> None:
    """Between two polls far apart, or before and after a restart, somebody may have come and gone: neither is said, and
    a hole is told before that stretch is given up; after the next restart, too, nobody takes it for read."""
    with following(topic, group) as collector:
        collector.commit(read(collector)[0])
    reset(topic, group, 6)
    with following(topic, group) as collector:
        assert read(collector) == ([], [])
        assert listed(collector) == 1
        raws, found = read(collector)
        assert (len(raws), found) == (1, [])
        assert listed(collector) == 2
        collector.commit(raws)
    consume(topic, group, 1)
    with following(topic, group, rebalance_delay=0) as collector:
        for _ in ("somebody was there, and is gone", "polls are never close enough"):
            assert read(collector) == ([], [])
            assert listed(collector) == 1
            raws, found = read(collector)
            assert (len(raws), found) == (1, [])
            collector.commit(raws)
            reset(topic, group, 9)


def test_set_back_around_a_restart(topic: Topic) -> None:
    """What was told to be read stays so: that it is delivered once more is no news, wherever the group stands when
    somebody looks again. What it had skipped, and reads once more from where it was seen to stand, it has read."""
    name = f"members-{topic.name}"
    settings = {"group_id": name, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    consumer = Consumer(topic.client(**settings))
    consumer.subscribe([topic.name])
    message = wait_for(lambda: consumer.poll(0.5), "a record")
    move(consumer, topic, 3, message.partition())
    consumer.close()
    with following(topic, name) as collector:
        collector.commit(read(collector)[0])
        reset(topic, name, 8)
        raws, found = read(collector)
        assert told(found) == [("billing", "drop", "skipped", 3, 8)]
        collector.commit(raws)
        reset(topic, name, 2)
        assert read(collector)[1] == []
        consumer = Consumer(topic.client(**settings))
        consumer.subscribe([topic.name])
        wait_for(lambda: consumer.poll(0.5), "a record")
        assert read(collector)[1] == []
        move(consumer, topic, 4)
        assert told(read(collector)[1]) == [("billing", "ack", "", 3, 4)], "read, and not stored before the stop"
    move(consumer, topic, 6)
    with following(topic, name) as collector:
        raws, found = read(collector)
        assert told(found) == [("billing", "ack", "", 3, 6)]
        assert listed(collector) == 2
        collector.commit(raws)
    move(consumer, topic, 1)
    move(consumer, topic, 3)
    with following(topic, name) as collector:
        assert read(collector)[1] == []
        assert listed(collector) == 2
        move(consumer, topic, 10)
        assert told(read(collector)[1]) == [("billing", "ack", "", 3, 8), ("billing", "ack", "", 8, 10)]
    consumer.close()


def test_a_restart_beside_members(topic: Topic) -> None:
    """Who was there before and is there now has read what was passed meanwhile."""
    name = f"members-{topic.name}"
    consumer = Consumer(topic.client(group_id=name, enable_auto_commit=False, auto_offset_reset="earliest"))
    consumer.subscribe([topic.name])
    message = wait_for(lambda: consumer.poll(0.5), "a record")
    move(consumer, topic, message.offset() + 1, message.partition())
    with following(topic, name) as collector:
        collector.commit(read(collector)[0])
        read(collector)
    move(consumer, topic, 6)
    with following(topic, name) as collector:
        assert told(read(collector)[1]) == [("billing", "ack", "", 1, 6)]
        assert listed(collector) == 2
    consumer.close()


def test_a_restart_beside_others_than_before(topic: Topic) -> None:
    """While the collector was down all consumers were stopped, the group was set forward, and new ones were started:
    nobody can tell that from reading, so it is not said to be read."""
    name = f"members-{topic.name}"
    settings = {"group_id": name, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    consumer = Consumer(topic.client(**settings))
    consumer.subscribe([topic.name])
    message = wait_for(lambda: consumer.poll(0.5), "a record")
    move(consumer, topic, message.offset() + 1, message.partition())
    with following(topic, name) as collector:
        collector.commit(read(collector)[0])
        read(collector)
    consumer.close()
    reset(topic, name, 6)
    consumer = Consumer(topic.client(**settings))
    consumer.subscribe([topic.name])
    message = wait_for(lambda: consumer.poll(0.5), "a record")
    assert message.offset() == 6
    move(consumer, topic, 7)
    with following(topic, name) as collector:
        assert read(collector) == ([], [])
        assert listed(collector) == 1
        raws, found = read(collector)
        assert (len(raws), found) == (1, [])
        collector.commit(raws)
        move(consumer, topic, 9)
        assert told(read(collector)[1]) == [("billing", "ack", "", 7, 9)]
    consumer.close()


def test_positions_are_said_again_each_hour(topic: Topic, group: str) -> None:
    """Those of quiet partitions would expire with the group, which never has a member."""
    hours = [0]
    own = f"tracker.test.{topic.name}.{group}"
    with following(topic, group) as collector:
        now = collector._ticks
        collector._ticks = lambda: now() + hours[0] * 3_600_000_000
        raws, _ = read(collector)
        collector.commit(raws)
        topic.admin.delete_consumer_groups([own])[own].result(20)
        read(collector)
        assert kept_by(topic, own) == {}
        hours[0] = 1
        wait_for(lambda: collector.read(100, 0.05) or kept_by(topic, own), "the positions")
        assert kept_by(topic, own) == {0: 3, 1: 0}


def kept_by(topic: Topic, group: str) -> dict[int, int]:
    """What a group has committed."""
    asked = topic.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    return {place.partition: place.offset for place in asked[group].result(20).topic_partitions}


def delete(topic: Topic, offset: int) -> None:
    """The log loses what lies before, as by retention."""
    place = TopicPartition(topic.name, 0, offset)
    topic.admin.delete_records([place])[place].result(20)
    wait_for(lambda: topic.ends()[0][0] == offset, "the deletion")


def test_deleted_before_the_group_came_there(topic: Topic, group: str) -> None:
    """At the log's hop, once, across a restart too; that the client then goes on where the log begins acks nothing."""
    with following(topic, group) as collector:
        collector.commit(read(collector)[0])
        delete(topic, 5)
        [lost] = read(collector)[1]
        assert told([lost]) == [("kafka-eu", "drop", "expired", 3, 5)]
        assert (lost.log, lost.partition, lost.group) == ("kafka-eu", f"{topic.name}/0", group)
        assert read(collector)[1] == []
    with following(topic, group) as collector:
        raws, found = read(collector)
        assert told(found) == [("kafka-eu", "drop", "expired", 3, 5)], "it was not committed to us"
        collector.commit(raws)
    with following(topic, group) as collector:
        assert read(collector)[1] == []
        consume(topic, group, 2)
        raws, found = read(collector)
        assert told(found) == [("billing", "ack", "", 5, 7)]
        collector.commit(raws)
        delete(topic, 6)
        assert read(collector)[1] == [], "everybody has read it"


def test_deleted_and_passed_while_nobody_looked(topic: Topic, group: str) -> None:
    """It may have been read just before it was deleted."""
    with following(topic, group) as collector:
        collector.commit(read(collector)[0])
    delete(topic, 5)
    consume(topic, group, 2)
    with following(topic, group) as collector:
        assert read(collector) == ([], [])
        assert listed(collector) == 1
        assert len(read(collector)[0]) == 2
        assert listed(collector) == 2


def test_an_unread_group_of_an_emptied_log(topic: Topic) -> None:
    """It had committed nothing, and never will."""
    with following(topic, group="nobody-yet") as collector:
        assert read(collector)[1] == []
        delete(topic, 10)
        assert told(read(collector)[1]) == [("kafka-eu", "drop", "expired", 0, 10)]


def test_following_changes_nothing_for_the_group(topic: Topic, app: Consumer) -> None:
    """Its offsets and its members are the same, and it stays empty when it was."""
    move(app, topic, 3)
    with following(topic) as collector:
        collector.commit(read(collector)[0])
        group = f"app-{topic.name}"
        described = topic.admin.describe_consumer_groups([group])[group].result(20)
        assert list(described.members) == []
    [kept] = app.committed([TopicPartition(topic.name, 0)], timeout=10)
    assert (kept.offset, kept.metadata or "") == (3, "")


def test_a_record_of_something_else_is_undecodable(topic: Topic) -> None:
    """`decode` says so and nothing else."""
    with following(topic) as collector, pytest.raises(Undecodable):
        collector.decode(Raw(b"x", observed_at=1))


def test_an_unknown_key_is_named() -> None:
    """The error names the collector and the key."""
    with pytest.raises(
        ConfigInvalid, match=r"collector one: groups\.0\.topics.*groups\.0\.topic: Field required|topic"
    ):
        groups(
            "one",
            {"url": "kafka://h:1", "groups": [{"group": "g", "topics": "t", "flow": "f", "hop": "h", "log": "l"}]},
        )


@pytest.mark.slow
def test_a_broker_that_is_restarted(kafka_factory: Callable[..., Any]) -> None:
    """While it is away reading says so and the lag grows; afterwards the ranges go on where they ended."""
    server = kafka_factory()
    topic = Topic(server.bootstrap, "orders")
    topic.create(2)
    topic.put([f"m-{n}" for n in range(10)], partition=0)
    app = Consumer(topic.client(group_id="app-orders", enable_auto_commit=False))
    with following(topic) as collector:
        wait_for(lambda: reads(collector))
        move(app, topic, 3)
        raws, found = read(collector)
        collector.commit(raws)
        server.kill()
        with pytest.raises(Unavailable):
            wait_for(lambda: collector.read(10, 0.1), patience=40)
        server.start()
        move(app, topic, 7)
        wait_for(lambda: reads(collector), patience=40)
        found += read(collector)[1]
    app.close()
    server.kill()
    assert [(r.offset, r.offset_to) for r in found] == [(0, 3), (3, 7)]


def reads(collector: KafkaGroups) -> bool:
    """Whether a poll works; what it found is kept by the collector for the next read."""
    try:
        collector.read(0, 0.1)
    except Unavailable:
        return False
    return True
