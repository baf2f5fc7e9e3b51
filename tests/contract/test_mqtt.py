from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.base import Collector
from collectors.registry import factory
from tests.contract.broker import SECRET, BrokerContract, wait_for
from tests.contract.http_tracker import HttpTracker
from tests.servers.mosquitto import PASSWORD, Mosquitto
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers
_numbers = iter(range(10**9))


class TestMqtt(BrokerContract):
    quiet = 0.1

    @pytest.fixture(autouse=True)
    def system(self, mosquitto_server: Mosquitto, tmp_path: Path) -> Iterator[None]:
        """Two sessions that exist, on a topic of their own; a client that publishes, and one that sees everything."""
        self.server, self.folder, self.number, self.sent = mosquitto_server, tmp_path, next(_numbers), 0
        self.seen: list[tuple[str, bytes]] = []
        self.publisher, self.witness = mosquitto_server.client(), mosquitto_server.client()
        self.witness.on_message = self._witness
        self.answered = threading.Event()
        self.witness.on_unsubscribe = lambda *_: self.answered.set()
        self.witness.subscribe("#", 1)
        for client in (self.publisher, self.witness):
            client.loop_start()
        with self.running("one") as one, self.running("two") as two:
            for collector in (one, two):
                wait_for(lambda each=collector: each.read(1, 0.01) or each._subscribed, "the session")  # type: ignore[misc]
            self.put(1)  # before the first message nothing is vouched for
            for collector in (one, two):
                collector.commit(self.drain(collector, 1))
        yield
        for client in (self.publisher, self.witness):
            client.disconnect()
            client.loop_stop()

    def covered(self, tracker: HttpTracker) -> None:
        """Before the first message nothing is vouched for."""
        self.put(1)
        super().covered(tracker)

    def _witness(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self.seen.append((message.topic, bytes(message.payload)))

    def put(self, count: int) -> list[str]:
        """Publish at QoS 1, and wait for what the broker says to it."""
        return [self._publish(b"{}") for _ in range(count)]

    def _publish(self, payload: bytes) -> str:
        self.sent += 1
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("x-message-id", f"m-{self.sent}")]
        self.publisher.publish(f"orders/{self.number}", payload, 1, properties=properties).wait_for_publish(20)
        return f"m-{self.sent}"

    def described(self, name: str = "one", at: str = "") -> dict[str, Any]:
        """A subscriber to the topic."""
        url = self.server.url
        return {
            "name": name,
            "kind": "mqtt",
            "url": f"{url.rpartition('@')[0]}@{at}" if at else url,
            "topic": f"orders/{self.number}",
            "client_id": f"{name}-{self.number}",
            "flow": "orders",
            "hop": "broker",
            "at_least_once": True,
        }

    def collector(self, name: str = "one") -> Collector:
        """A session of this name."""
        own, folder = self.described(name), self.folder / name
        folder.mkdir(exist_ok=True)
        return factory(own.pop("kind"), folder)(own.pop("name"), own)

    def others(self) -> object:
        """What another subscriber was given; an answer shows that this is all."""
        self.answered.clear()
        self.witness.unsubscribe("nothing")
        assert self.answered.wait(self.patience)
        return [each for each in self.seen if not each[0].startswith("$SYS/")]

    def between(self) -> Proxy:
        """A proxy before the broker."""
        return Proxy(("127.0.0.1", self.server.port))

    def remake(self) -> None:
        """A topic is nothing that could be deleted; the session is, by a client that begins a clean one."""
        client = self.server.client(f"one-{self.number}")
        client.loop(1.0)
        client.disconnect()

    def large(self, size: int) -> str:
        """One message of the size."""
        return self._publish(b"x" * size)

    def refused(self) -> dict[str, Any]:
        """With a wrong password."""
        own = self.described()
        return {**own, "url": own["url"].replace(PASSWORD, SECRET)}
