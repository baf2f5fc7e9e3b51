"""The tail against a real Kafka whose producers abort transactions: what it takes back, and what it does not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from collectors.base import Raw
from collectors.errors import ConfigInvalid
from collectors.kafka.reader import AT_ONCE
from collectors.kafka.tail import KafkaTail
from tests.brokers.kafka_topic import Topic, own_topic, read_to_now, wait_for
from tests.brokers.test_kafka_tail import tailing
from tracker.model.event import Event, Stage, delivery_of

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of one partition."""
    with own_topic(kafka_server) as topic:
        yield topic


class Transactions:
    """A transactional producer of a topic."""

    def __init__(self, topic: Topic, name: str) -> None:
        self.topic = topic
        self.producer = Producer(topic.client(transactional_id=f"{topic.name}-{name}", linger_ms=0))
        self.producer.init_transactions(20)

    def put(self, *ids: str, begin: bool = True) -> None:
        """Records in the log, of a transaction that stays open."""
        if begin:
            self.producer.begin_transaction()
        for name in ids:
            self.producer.produce(self.topic.name, b"x", b"key", 0, headers=[("x-message-id", name.encode())])
        assert self.producer.flush(20) == 0

    def commit(self) -> None:
        """They stay."""
        self.producer.commit_transaction(20)

    def abort(self) -> None:
        """They were never there."""
        self.producer.abort_transaction(20)


class Said:
    """What a tail says, read and decoded and committed as the runner does it."""

    def __init__(self, tail: KafkaTail) -> None:
        self.tail, self.events = tail, list[Event]()

    def step(self) -> Said:
        """Read once."""
        raws: list[Raw] = self.tail.read(1000, 0.1)
        self.events += [event for raw in raws for event in self.tail.decode(raw)]
        self.tail.commit(raws)
        return self

    def ids(self, stage: Stage) -> list[str]:
        """Of the events of this stage, in order."""
        return [event.message_id for event in self.events if event.stage == stage]

    def until(self, stage: Stage, ids: Sequence[str]) -> None:
        """Read until these were said."""
        wait_for(lambda: set(ids) <= set(self.step().ids(stage)), f"{stage} of {ids}, not {self.events}")

    def settled(self) -> None:
        """Read until the position is behind the last record: nothing is undecided any more."""
        last = max(event.offset or 0 for event in self.events)
        wait_for(
            lambda: max((at.offset for at in self.step().tail._positions.kept.values()), default=0) > last, "a position"
        )


@contextmanager
def following(topic: Topic, **settings: Any) -> Iterator[Said]:
    """A tail that follows transactions."""
    with tailing(topic, transactions=True, **settings) as tail:
        yield Said(tail)


def test_what_was_aborted_is_taken_back_and_nothing_else(topic: Topic) -> None:
    """By name, in its delivery; by design, for the producer wanted it so."""
    one = Transactions(topic, "one")
    topic.put(["plain-1"])
    one.put("a-1", "a-2")
    one.abort()
    one.put("c-1", "c-2")
    one.commit()
    topic.put(["plain-2"])
    one.put("a-3")
    one.abort()
    with following(topic) as said:
        said.until(Stage.drop, ["a-1", "a-2", "a-3"])
        said.settled()
    assert said.ids(Stage.persist) == ["plain-1", "a-1", "a-2", "c-1", "c-2", "plain-2", "a-3"]
    assert said.ids(Stage.drop) == ["a-1", "a-2", "a-3"]
    drops = {event.message_id: event for event in said.events if event.stage == Stage.drop}
    persists = {event.message_id: event for event in said.events if event.stage == Stage.persist}
    assert {drop.reason for drop in drops.values()} == {"aborted"}
    assert all(delivery_of(drop) == delivery_of(persists[name]) for name, drop in drops.items())


def test_two_producers_whose_transactions_overlap(topic: Topic) -> None:
    """Records of one that was aborted lie between those of one that was committed, and the other way round."""
    one, two = Transactions(topic, "one"), Transactions(topic, "two")
    with following(topic) as said:
        one.put("a-1")
        two.put("c-1")
        one.put("a-2", begin=False)
        topic.put(["plain"])
        one.abort()
        two.put("c-2", begin=False)
        said.until(Stage.persist, ["a-1", "c-1", "a-2", "plain", "c-2"])
        said.until(Stage.drop, ["a-1"])  # the other one is still open
        one.put("c-3")
        two.commit()
        one.commit()
        said.until(Stage.drop, ["a-1", "a-2"])
        said.until(Stage.persist, ["c-3"])
        said.settled()
    assert said.ids(Stage.drop) == ["a-1", "a-2"]


def test_a_transaction_that_stays_open_over_a_restart(topic: Topic) -> None:
    """Nothing is said of it while it is open, and the position stays before it: so the next process knows its records
    when it is aborted."""
    one = Transactions(topic, "one")
    topic.put(["plain-1"])
    one.put("a-1")
    topic.put(["plain-2"])
    with following(topic) as said:
        said.until(Stage.persist, ["plain-1", "a-1", "plain-2"])
        read_to_now(said.tail)
        wait_for(lambda: said.step().events and _committed(topic) == 1, "a position behind what is decided")
        assert said.ids(Stage.drop) == []
    one.abort()
    with following(topic) as said:
        said.until(Stage.drop, ["a-1"])
        said.settled()
    assert said.ids(Stage.persist) == ["a-1", "plain-2"]
    assert said.ids(Stage.drop) == ["a-1"]
    with following(topic) as said:
        assert read_to_now(said.tail) == []


def _committed(topic: Topic) -> int:
    consumer = Consumer(topic.client(group_id=f"tracker.test.{topic.name}"))
    [found] = consumer.committed([TopicPartition(topic.name, 0)], timeout=10)
    consumer.close()
    return int(found.offset)


def test_without_transactions_nothing_is_read_twice(topic: Topic) -> None:
    """No offset is missing, so no marker can be there; and the position moves on."""
    topic.put([f"m-{number}" for number in range(20)])
    with following(topic) as said:
        said.until(Stage.persist, ["m-19"])
        said.settled()
        aborts = said.tail._recall._aborts
        assert aborts is not None
        assert aborts._consumer.assignment() == []
        assert aborts._consumer.position([TopicPartition(topic.name, 0)])[0].offset < 0
    assert said.ids(Stage.drop) == []


def test_of_a_compacted_topic_nothing_is_said(kafka_server: str) -> None:
    """Compaction takes records away without a trace: what is passed over may have been committed."""
    with own_topic(kafka_server, config={"cleanup.policy": "compact"}) as topic:
        one = Transactions(topic, "one")
        one.put("a-1")
        one.abort()
        topic.put(["plain"])
        with following(topic) as said:
            said.until(Stage.persist, ["a-1", "plain"])
            said.settled()
        assert said.ids(Stage.drop) == []


def test_what_retention_took_before_it_was_decided_is_left_unsaid(topic: Topic) -> None:
    """It was there when it was seen; whether it was committed, nobody can know any more."""
    one = Transactions(topic, "one")
    one.put("a-1", "a-2")
    with following(topic) as said:
        said.until(Stage.persist, ["a-1", "a-2"])
        one.abort()
        topic.put(["plain-1"])
        for answer in topic.admin.delete_records([TopicPartition(topic.name, 0, 2)]).values():
            answer.result(20)
        said.until(Stage.persist, ["plain-1"])
        said.settled()
    assert said.ids(Stage.drop) == []


def test_a_backlog_of_more_than_is_remembered(topic: Topic) -> None:
    """Every abort in it is told: reading waits for what it has read, and goes on then. Without transactions, too."""
    one, count = Transactions(topic, "one"), 2 * AT_ONCE
    one.put(*(f"a-{number}" for number in range(count)))
    one.abort()
    topic.put([f"m-{number}" for number in range(count)])
    one.put("a-last")
    one.abort()
    with following(topic, remember=4) as said:
        said.until(Stage.drop, ["a-0", "a-last"])
        said.settled()
    assert said.ids(Stage.drop) == [*(f"a-{number}" for number in range(count)), "a-last"]
    assert said.ids(Stage.persist) == [*(f"a-{n}" for n in range(count)), *(f"m-{n}" for n in range(count)), "a-last"]


def test_behind_an_open_transaction_no_more_is_read_than_can_be_remembered(topic: Topic) -> None:
    """Nor is it vouched for; when the transaction has ended, all of it is told."""
    one = Transactions(topic, "one")
    one.put("a-0")
    topic.put([f"m-{number}" for number in range(3 * AT_ONCE)])
    with following(topic, remember=4) as said:
        said.until(Stage.persist, ["m-0"])
        began = time.monotonic()
        while time.monotonic() < began + 1:
            said.step()
        assert len(said.ids(Stage.persist)) <= AT_ONCE
        assert said.tail.lag().ms >= 1000
        one.abort()
        said.until(Stage.drop, ["a-0"])
        said.until(Stage.persist, [f"m-{3 * AT_ONCE - 1}"])
        said.settled()
    assert said.ids(Stage.drop) == ["a-0"]
    assert said.ids(Stage.persist) == ["a-0", *(f"m-{number}" for number in range(3 * AT_ONCE))]


def test_one_or_the_other(topic: Topic) -> None:
    """With `read_committed` there is nothing to take back."""
    with pytest.raises(ConfigInvalid, match="transactions: with isolation read_committed"):
        following(topic, isolation="read_committed").__enter__()
