"""The two brokers as their own clients show them, and a place of the story's own on each."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pika
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

EXCHANGE, QUEUE, KEY = "shop", "packing", "parcel.new"


class Topic:
    """A topic with three partitions."""

    def __init__(self, servers: str) -> None:
        self.servers, self.name = servers, f"orders-{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        self.places = [TopicPartition(self.name, number) for number in range(3)]

    def create(self) -> None:
        """Make it; returns once every partition has a leader."""
        self.admin.create_topics([NewTopic(self.name, len(self.places), 1)])[self.name].result(30)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert self.ends() == [0, 0, 0]
                return
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def ends(self) -> list[int]:
        """Where each partition's log ends."""
        with Consumer({"bootstrap.servers": self.servers, "group.id": f"look-{self.name}"}) as look:
            return [look.get_watermark_offsets(place, timeout=30)[1] for place in self.places]

    def committed(self, group: str) -> list[int]:
        """What a group has committed in each partition."""
        with Consumer({"bootstrap.servers": self.servers, "group.id": group}) as look:
            return [place.offset for place in look.committed(self.places, timeout=30)]


@contextmanager
def own_topic(servers: str) -> Iterator[Topic]:
    """A new topic, deleted afterwards."""
    topic = Topic(servers)
    topic.create()
    try:
        yield topic
    finally:
        topic.admin.delete_topics([topic.name])[topic.name].result(30)


class Vhost:
    """A virtual host with the firehose on, an exchange, and a queue that it routes one key to."""

    def __init__(self, server: Any) -> None:
        parts = urlsplit(server.url)
        self.name = f"story-{uuid.uuid4().hex[:8]}"
        self.url = urlunsplit(parts._replace(path=f"/{self.name}"))
        self._api = f"{server.management_url}/api"
        self._user = parts.username or "guest"

    def create(self) -> None:
        """Make it and what is in it."""
        self._put(f"vhosts/{self.name}", {"tracing": True})
        self._put(f"permissions/{self.name}/{self._user}", {"configure": ".*", "write": ".*", "read": ".*"})
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True)
            channel.queue_declare(QUEUE, durable=True)
            channel.queue_bind(QUEUE, EXCHANGE, KEY)

    def delete(self) -> None:
        """Everything in it goes."""
        httpx.delete(f"{self._api}/vhosts/{self.name}", timeout=30).raise_for_status()

    def waiting(self) -> int:
        """Messages that are ready in the queue."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            return int(connection.channel().queue_declare(QUEUE, passive=True).method.message_count)

    def _put(self, path: str, body: dict[str, Any]) -> None:
        httpx.put(f"{self._api}/{path}", json=body, timeout=30).raise_for_status()


@contextmanager
def own_vhost(server: Any) -> Iterator[Vhost]:
    """A new virtual host, deleted afterwards."""
    vhost = Vhost(server)
    vhost.create()
    try:
        yield vhost
    finally:
        vhost.delete()
