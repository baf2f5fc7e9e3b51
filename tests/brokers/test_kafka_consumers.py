"""A tail of more topics than one consumer of the driver is given, against a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from collectors.errors import CollectorError
from collectors.kafka import consumers
from collectors.kafka.consumers import Consumers
from collectors.kafka.tail import KafkaTail, tail
from tests.brokers.kafka_topic import Topic, ids, own_topic, read_to_now, read_until, wait_for

pytestmark = pytest.mark.brokers

TOPICS = 5


@pytest.fixture
def topics(kafka_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Topic]]:
    """Five topics of two partitions, where a consumer is given two."""
    monkeypatch.setattr(consumers, "MOST", 2)
    with ExitStack() as stack:
        yield [stack.enter_context(own_topic(kafka_server, partitions=2)) for _ in range(TOPICS)]


@pytest.fixture
def name() -> str:
    """Of the collector, and so of the group that keeps its positions."""
    return f"test.{uuid.uuid4().hex[:8]}"


def tailing(name: str, topics: Sequence[Topic]) -> KafkaTail:
    """A tail of these topics."""
    routes = [{"topic": topic.name, "flow": "orders", "hop": "kafka-eu"} for topic in topics]
    return tail(name, {"url": topics[0].url, "topics": routes, "look_every": 0.1})


def test_all_topics_are_read_by_some_consumer(topics: list[Topic], name: str) -> None:
    """Each record once, each partition a source, and complete; after a restart it goes on where it stood."""
    for number, topic in enumerate(topics):
        topic.put([f"m-{number}-{each}" for each in range(4)])
    wanted = {f"m-{number}-{each}" for number in range(TOPICS) for each in range(4)}
    collector = tailing(name, topics)
    raws = read_until(collector, len(wanted))
    assert sorted(ids(collector, raws)) == sorted(wanted)
    read_to_now(collector)
    assert {s.source for s in collector.sources()} == {f"{t.name}/{n}" for t in topics for n in range(2)}
    assert len(collector._reader.consumer._all) == 3
    collector.commit(raws)
    collector.close()
    for topic in topics:
        topic.put([f"later-{topic.name}"])
    again = tailing(name, topics)
    assert sorted(ids(again, read_until(again, TOPICS))) == sorted(f"later-{topic.name}" for topic in topics)
    read_to_now(again)
    again.close()


def test_a_topic_that_goes_and_comes_finds_a_consumer(topics: list[Topic], name: str) -> None:
    """Deleted, it is no source any more; made again, all that it holds is read."""
    collector = tailing(name, topics)
    topics[0].put(["first"])
    read_until(collector, 1)
    topics[0].delete()

    def gone() -> bool:
        collector.read(10, 0.05)
        return all(not source.source.startswith(topics[0].name) for source in collector.sources())

    wait_for(gone)
    assert topics[0].name not in collector._reader.consumer._of
    topics[0].create(partitions=1)
    topics[0].put(["second"])
    topics[3].put(["other"])
    assert sorted(ids(collector, read_until(collector, 2))) == ["other", "second"]
    collector.close()


def test_a_refusal_between_two_reads_is_an_error_of_ours(
    topics: list[Topic], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver raises while partitions that were added are looked up, also where the answer came beside records,
    is `Unavailable`: the runner tries again. Anything else would end the collector for good."""
    collector = tailing(name, topics)
    read_to_now(collector)
    refusals: list[int] = []
    real = Consumers.know

    def know(self: Consumers, *given: Any) -> Any:
        if len(refusals) < 3:
            refusals.append(1)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return real(self, *given)

    monkeypatch.setattr(Consumers, "know", know)
    topics[0].grow(3)
    topics[0].put(["new"], partition=2)
    found: list[str] = []

    def read() -> list[str]:
        with suppress(CollectorError):
            found.extend(ids(collector, collector.read(100, 0.05)))
        return found

    assert wait_for(read) == ["new"]
    assert len(refusals) == 3
    collector.close()


class Fed:
    """A consumer that has much to give, or nothing."""

    def __init__(self, gives: int) -> None:
        self.gives = gives

    def consume(self, limit: int, wait: float) -> list[int]:
        """As many as are asked for."""
        return [self.gives] * (limit if self.gives else 0)


def test_none_is_passed_over() -> None:
    """Where one has more than is asked for, the next call begins with another."""
    consumers = [Fed(1), Fed(2), Fed(0)]
    three = Consumers(lambda _: consumers[0])  # type: ignore[arg-type, return-value]
    three._all = consumers  # type: ignore[assignment]
    seen = {each for _ in range(6) for each in three.consume(10, 0.0)}
    assert seen == {1, 2}
    three._all = [Fed(0), Fed(0)]  # type: ignore[list-item]
    assert three.consume(10, 0.01) == []
