"""The demo's broker, when a real Kafka is named: a topic of its own there, deleted when the demo ends."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from collectors.base import Collector
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from collectors.kafka.publisher import publisher
from collectors.kafka.source import source
from collectors.kafka.tail import tail
from tracker.cli.demo_world import FLOW, LOG, Consuming
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.model.carry import MESSAGE_ID, Publisher, Source

ANSWER_S = 10.0
"""Seconds that the cluster gets to answer."""


class Kafka:
    """The demo on a Kafka cluster. Its topic has one partition and a name that nobody else has."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._url = f"kafka://{servers}"
        self.topic = f"tracker-demo-{uuid.uuid4().hex[:8]}"
        self._admin = AdminClient({"bootstrap.servers": servers})
        try:
            self._admin.list_topics(timeout=ANSWER_S)
            made = self._admin.create_topics([NewTopic(self.topic, num_partitions=1, replication_factor=1)])
            made[self.topic].result(ANSWER_S)
        except KafkaException as error:
            raise CommandError(f"Kafka at {servers} does not let us make a topic: {error}", UNAVAILABLE) from None

    def producer(self, observer: Observer) -> Any:
        """An instrumented producer."""
        return _Shop(
            instrument.producer(Producer({"bootstrap.servers": self._servers}), observer), observer, self.topic
        )

    def consumer(self, group: str, observer: Observer) -> Consuming:
        """An instrumented consumer in a group of the demo's own."""
        settings = {
            "bootstrap.servers": self._servers,
            "group.id": f"{self.topic}.{group}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        return _Group(instrument.consumer(Consumer(settings), observer), observer, self.topic)

    def tail(self) -> Collector:
        """Each record of the topic is a `persist`."""
        topics = [{"topic": self.topic, "flow": FLOW, "hop": LOG}]
        return tail(self.topic, {"url": self._url, "topics": topics})

    def source(self) -> Source:
        """By partition and offset."""
        return source({"url": self._url})

    def publisher(self) -> Publisher:
        """Back to the topic."""
        return publisher({"url": self._url, "topic": self.topic})

    def close(self) -> None:
        """Delete the demo's topic."""
        self._admin.delete_topics([self.topic])[self.topic].result(ANSWER_S)


class _Shop:
    def __init__(self, producer: Any, observer: Observer, topic: str) -> None:
        self._producer, self._observer, self._topic = producer, observer, topic
        self._closing = threading.Event()
        self._reports = threading.Thread(target=self._poll, name="demo delivery reports", daemon=True)
        self._reports.start()

    def send(self, _: str, value: bytes, key: bytes | None, headers: dict[str, bytes]) -> None:
        self._producer.produce(self._topic, value, key=key, headers=list(headers.items()))

    def _poll(self) -> None:
        """Delivery reports come while somebody polls, and `produce` is recorded with them."""
        while not self._closing.is_set():
            self._producer.poll(0.1)

    def close(self) -> None:
        self._closing.set()
        self._reports.join()
        self._producer.flush(ANSWER_S)
        self._observer.close()


class _Group:
    def __init__(self, consumer: Any, observer: Observer, topic: str) -> None:
        self._consumer, self._observer = consumer, observer
        consumer.subscribe([topic])

    def work(self, limit: int, wait: float) -> int:
        taken = self._taken(limit, wait)
        for message in taken:
            self._consumer.ack(message)
        if taken:
            self._consumer.commit(asynchronous=False)
        return len(taken)

    def skip(self, count: int) -> list[str]:
        skipped = [_ident(message) for message in self._taken(count, 0.1)]
        if skipped:
            self._consumer.commit(asynchronous=False)
        return skipped

    def close(self) -> None:
        self._consumer.close()
        self._observer.close()

    def _taken(self, limit: int, wait: float) -> list[Message]:
        return [m for m in self._consumer.consume(limit, wait) if m.error() is None]


def _ident(message: Message) -> str:
    headers: Any = dict(message.headers() or ())
    return str(headers[MESSAGE_ID].decode())
