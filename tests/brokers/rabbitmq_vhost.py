"""A virtual host of a test's own on the shared RabbitMQ: its own queues, exchanges and firehose switch."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import pika

from collectors.base import Collector, Raw
from collectors.rabbitmq.firehose import firehose
from tracker.model.event import Event

PATIENCE = 20.0
"""Seconds that a test waits for a real server before it fails."""


class Vhost:
    """`url` for clients; `trace` switches the firehose; `message_count` as a client sees it."""

    def __init__(self, server: Any) -> None:
        self.name = f"t-{uuid.uuid4().hex[:8]}"
        self._api = f"{server.management_url}/api"
        user = urlsplit(server.url).username or "guest"
        self.url = urlunsplit(urlsplit(server.url)._replace(path=f"/{self.name}"))
        self._put(f"vhosts/{self.name}", {"tracing": True})
        self._put(f"permissions/{self.name}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        self.connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()  # when `publish` returns the message is where it belongs

    def _put(self, path: str, body: dict[str, Any]) -> None:
        httpx.put(f"{self._api}/{path}", json=body, timeout=20.0).raise_for_status()

    def trace(self, on: bool) -> None:
        """Switch the firehose of this vhost."""
        self._put(f"vhosts/{self.name}", {"tracing": on})

    def message_count(self, queue: str) -> int:
        """Messages ready in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def cut(self, name: str) -> None:
        """Close every connection of this client name here, as an operator does; the API shows one after seconds."""
        until = time.monotonic() + PATIENCE
        cut: list[str] = []
        while not cut:
            assert time.monotonic() < until, f"the broker shows no connection {name!r}"
            time.sleep(0.2)
            listed = httpx.get(f"{self._api}/vhosts/{self.name}/connections", timeout=20.0).json()
            found = [c["name"] for c in listed if c.get("client_properties", {}).get("connection_name") == name]
            cut = [c for c in found if httpx.delete(f"{self._api}/connections/{quote(c)}", timeout=20.0).is_success]

    def delete(self) -> None:
        """Everything in it goes."""
        if self.connection.is_open:
            self.connection.close()
        httpx.delete(f"{self._api}/vhosts/{self.name}", timeout=20.0).raise_for_status()

    def orders(self, *queues: str) -> None:
        """A topic exchange `orders` that routes `new.#` to each of the queues."""
        self.channel.exchange_declare("orders", "topic", durable=True)
        for queue in queues:
            self.channel.queue_declare(queue, durable=True)
            self.channel.queue_bind(queue, "orders", "new.#")

    def publish(self, message_id: str, key: str = "new.eu", exchange: str = "orders", **properties: Any) -> None:
        """One message with its id as the payload."""
        about = pika.BasicProperties(message_id=message_id, **properties)
        self.channel.basic_publish(exchange, key, message_id.encode(), about)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings of a firehose collector of the flow `orders`."""
        return {
            "name": "test",
            "url": self.url,
            "exchanges": [{"exchange": "orders", "flow": "orders"}],
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit-billing", "consumer": "billing"}],
            "canary_every": 0.1,
            "hole_for": 0.0,
            **more,
        }


@contextmanager
def own_vhost(server: Any) -> Iterator[Vhost]:
    """A vhost with the firehose on, deleted afterwards."""
    vhost = Vhost(server)
    try:
        yield vhost
    finally:
        vhost.delete()


@contextmanager
def reading(
    settings: dict[str, Any], made: Callable[[dict[str, Any]], Collector] = firehose, stage: str = "persist"
) -> Iterator[Any]:
    """A collector that has declared its queue and vouches for a stage of the application's; closed afterwards."""
    collector = made(settings)
    try:
        assert read_until(collector, lambda _: vouches(collector, stage)) == []
        yield collector
    finally:
        collector.close()


def vouches(collector: Collector, stage: str = "persist") -> bool:
    """Whether it vouches for the application's queues, not only for reading its own."""
    return any(source.stage == stage for source in collector.sources() or ())


def read_until(collector: Collector, done: Callable[[Sequence[Raw]], bool]) -> list[Raw]:
    """Read until `done` of all that was read, or fail after `PATIENCE`."""
    raws: list[Raw] = []
    until = time.monotonic() + PATIENCE
    while not done(raws):
        assert time.monotonic() < until, f"waited {PATIENCE} s, read {len(raws)}"
        raws += collector.read(500, 0.1)
    return raws


def read_to_now(collector: Collector) -> list[Raw]:
    """Everything that happened before this call: read until a canary sent after it has come back."""
    began = time.monotonic()

    def proven(_: Sequence[Raw]) -> bool:
        lag = collector.lag().ms / 1000 - 0.25  # without the margin `settle`
        return time.monotonic() - lag > began

    return read_until(collector, proven)


def decoded(collector: Collector, raws: Sequence[Raw]) -> list[Event]:
    """The events of all of them."""
    return [event for raw in raws for event in collector.decode(raw) if isinstance(event, Event)]
