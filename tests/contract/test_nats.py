from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from collectors.nats.tail import tail
from tests.brokers.nats_stream import own_stream
from tests.contract.broker import SECRET, BrokerContract
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers


class TestNats(BrokerContract):
    @pytest.fixture(autouse=True)
    def system(self, nats_server):
        """A stream of its own, with a durable consumer of somebody else's that was given a part."""
        with own_stream(nats_server) as self.stream:
            self.server, self.sent = urlsplit(nats_server), 0
            self.stream.consumer("app")
            yield

    def put(self, count):
        """Publish, and wait for the acks."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        self.stream.put(ids)
        return ids

    def collector(self, name="one"):
        """Reads the one stream."""
        own = self.described(name)
        return tail(own.pop("name"), {key: value for key, value in own.items() if key != "kind"})

    def described(self, name="one", at=""):
        """Logged in."""
        route = {"stream": self.stream.name, "flow": "orders", "hop": "nats-eu"}
        url = f"nats://tracker:right@{at or self.server.netloc}"
        return {"name": f"{self.stream.name}.{name}", "kind": "nats", "url": url, "streams": [route]}

    def between(self):
        """Before the server."""
        return Proxy((self.server.hostname, self.server.port))

    def remake(self):
        """The stream."""
        self.stream.delete()
        self.stream.create()

    def large(self, size):
        """One message."""
        self.stream.put(["large"], bytes(size))
        return "large"

    def refused(self):
        """The same user."""
        return {**self.described(), "url": f"nats://tracker:{SECRET}@{self.server.netloc}"}

    def others(self):
        """What the stream holds, and where the application's consumer stands."""
        info = self.stream.do(self.stream.js.consumer_info(self.stream.name, "app"))
        return self.stream.content(), info.delivered, info.ack_floor, info.num_pending, info.num_ack_pending
