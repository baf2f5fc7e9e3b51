"""A topic of a test's own on a real Kafka, and what tests do with it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from collectors.base import Collector, Raw
from tracker.model.carry import MESSAGE_ID

PATIENCE = 20.0
"""Seconds within which a real server shows what was done."""


class Topic:
    """`name` on `servers`. Producers are made per call: one that stays would make a deleted topic again."""

    def __init__(self, servers: str, name: str) -> None:
        self.servers, self.name = servers, name
        self.url = f"kafka://{servers}"
        self.admin = AdminClient(self.client())

    def client(self, **more: Any) -> dict[str, Any]:
        """Settings of a plain client."""
        return {"bootstrap.servers": self.servers, "log_level": 0, **{k.replace("_", "."): v for k, v in more.items()}}

    def create(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make it, and wait until it can be written to."""
        self.admin.create_topics([NewTopic(self.name, partitions, 1, config=dict(config or {}))])[self.name].result(20)
        wait_for(lambda: len(self.admin.list_topics(self.name, timeout=5).topics[self.name].partitions) == partitions)

    def grow(self, partitions: int) -> None:
        """Add partitions, up to this number."""
        self.admin.create_partitions([NewPartitions(self.name, partitions)])[self.name].result(20)
        wait_for(lambda: len(self.admin.list_topics(self.name, timeout=5).topics[self.name].partitions) == partitions)

    def delete(self) -> None:
        """Delete it, and wait until it is gone."""
        self.admin.delete_topics([self.name])[self.name].result(20)
        wait_for(lambda: self.name not in self.admin.list_topics(timeout=5).topics)

    def put(
        self,
        ids: Sequence[str],
        partition: int = -1,
        headers: Mapping[str, bytes] | None = None,
        value: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Produce one record per id, in order, and wait until all are confirmed. The value is the id unless given."""
        failed: list[object] = []
        producer = Producer(self.client(linger_ms=1) | dict(settings or {}))
        for name in ids:
            said = {MESSAGE_ID: name.encode(), **(headers or {})}
            content = name.encode() if value is None else value
            producer.produce(
                self.name, content, name.encode(), partition, headers=list(said.items()),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )  # fmt: skip
        assert producer.flush(PATIENCE) == 0
        assert failed == []

    def ends(self) -> dict[int, tuple[int, int]]:
        """First and next offset of every partition."""
        consumer = Consumer(self.client(group_id=f"look-{uuid.uuid4().hex}"))
        try:
            known = consumer.list_topics(self.name, timeout=10).topics[self.name].partitions
            return {n: consumer.get_watermark_offsets(TopicPartition(self.name, n), timeout=10) for n in known}
        finally:
            consumer.close()

    def content(self) -> list[tuple[int, int, bytes]]:
        """Partition, offset and key of every record, in order, as another reader finds them."""
        consumer = Consumer(self.client(group_id=f"look-{uuid.uuid4().hex}"))
        try:
            left = {n: range(first, end) for n, (first, end) in self.ends().items() if end > first}
            consumer.assign([TopicPartition(self.name, n, offsets.start) for n, offsets in left.items()])
            wanted, found = sum(map(len, left.values())), list[tuple[int, int, bytes]]()
            while len(found) < wanted:
                found += [(m.partition(), m.offset(), m.key()) for m in consumer.consume(wanted, 1.0)]  # type: ignore[misc]
            return sorted(found)
        finally:
            consumer.close()


@contextmanager
def own_topic(servers: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> Iterator[Topic]:
    """A new topic, deleted afterwards."""
    topic = Topic(servers, f"orders-{uuid.uuid4().hex[:8]}")
    topic.create(partitions, config)
    try:
        yield topic
    finally:
        topic.admin.delete_topics([topic.name])


def wait_for(met: Callable[[], Any], what: str = "what was waited for", patience: float = PATIENCE) -> Any:
    """What `met` gives, as soon as it is true; fails after `patience` seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if found := met():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {patience:.0f} s")


def read_until(collector: Collector, count: int, patience: float = PATIENCE) -> list[Raw]:
    """Read until `count` records came."""
    raws: list[Raw] = []

    def enough() -> bool:
        raws.extend(collector.read(1000, 0.2))
        return len(raws) >= count

    wait_for(enough, f"{count} records", patience)
    return raws


def read_to_now(collector: Collector) -> list[Raw]:
    """Read until everything that happened before this call is known to have been read."""
    raws: list[Raw] = []
    began = time.monotonic()

    def caught_up() -> bool:
        raws.extend(collector.read(1000, 0.05))
        return collector.lag().ms < (time.monotonic() - began) * 1000

    wait_for(caught_up, "the end of the log")
    return raws


def ids(collector: Any, raws: Sequence[Raw]) -> list[str]:
    """Their message ids, sorted."""
    return sorted(event.message_id for raw in raws for event in collector.decode(raw))
