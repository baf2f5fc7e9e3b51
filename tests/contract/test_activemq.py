from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from collectors.activemq.advisories import advisories
from tests.brokers.activemq_app import app
from tests.contract.broker import SECRET, BrokerContract
from tests.servers.activemq import PASSWORD, USER
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers
REMOVED = b'"operationType":1'
"""Of an advisory about a queue."""


class TestActiveMQ(BrokerContract):
    @pytest.fixture(autouse=True)
    def system(self, activemq_server):
        """A queue of its own, that the broker deletes when it is empty and nobody reads it."""
        with app(activemq_server.url, "passing.") as self.app:
            self.server, self.sent = urlsplit(activemq_server.first), 0
            yield

    def put(self, count):
        """Send, and wait until the broker has it."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        self.app.put(ids)
        return ids

    def collector(self, name="one"):
        """Watches the one queue. The break before its start is shown once."""
        own = self.described(name)
        found = advisories(own.pop("name"), {key: value for key, value in own.items() if key != "kind"})
        found.read(0, 0)
        assert {source.stage for source in found.sources()} == {"deliver"}
        return found

    def described(self, name="one", at=""):
        """Logged in, with a queue of advisories that the broker's configuration names."""
        route = {"queue": self.app.queue, "flow": "orders", "hop": "activemq", "consumer": "billing"}
        url = f"stomp://{USER}:{PASSWORD}@{at or self.server.netloc}"
        return {"name": name, "kind": "activemq", "url": url, "routes": [route], "canary_every": 0.1,
                "hole_for": 0.0}  # fmt: skip

    def between(self):
        """Before the server."""
        return Proxy((self.server.hostname, self.server.port))

    def remake(self):
        """The queue: this broker deletes one that is empty and unread; the next message makes it again."""
        with app(self.app.url) as other:
            other.consume("/topic/ActiveMQ.Advisory.Queue", transformation="jms-advisory-json")
            self.app.consume()
            self.app.ack(*self.app.take(len(self.app.browse())))
            self.app.client.unsubscribe("1")
            while not (self.app.queue.encode() in (said := other.take(1)[0].body) and REMOVED in said):
                pass

    def large(self, size):
        """One message."""
        self.app.put(["large"], bytes(size))
        return "large"

    def refused(self):
        """The same user."""
        return {**self.described(), "url": f"stomp://{USER}:{SECRET}@{self.server.netloc}"}

    def others(self):
        """What is in the queue, in its order."""
        return self.app.browse()
