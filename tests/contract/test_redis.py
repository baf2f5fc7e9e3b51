from __future__ import annotations

import itertools
from urllib.parse import urlsplit

import pytest
import redis

from collectors.redis.streams import streams
from tests.contract.broker import SECRET, BrokerContract
from tests.servers.proxy import Proxy
from tests.servers.redis import FORGETFUL

pytestmark = pytest.mark.brokers
PROMPT = {**FORGETFUL, "repl-diskless-sync-delay": "0"}
"""The server's own delay of five seconds before it takes a replica is left out."""
_names = itertools.count()


@pytest.fixture(scope="module")
def server(redis_factory):
    """With a user who needs a password."""
    return redis_factory(PROMPT)


class RedisContract(BrokerContract):
    watch = "replica"

    @pytest.fixture(autouse=True)
    def system(self, server, tmp_path):
        """A stream of its own, with a group that has one entry pending."""
        self.url, self.folder, self.sent = server.url, tmp_path, 0
        self.stream = f"orders-{next(_names)}"
        with redis.Redis.from_url(self.url) as self.application:
            self.application.xgroup_create(self.stream, "billing", id="0", mkstream=True)
            yield
            self.application.delete(self.stream)

    def put(self, count):
        """Entries."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        with self.application.pipeline(transaction=False) as batch:
            for each in ids:
                batch.xadd(self.stream, {"x-message-id": each, "payload": "{}"})
            batch.execute()
        return ids

    def described(self, name="one", at=""):
        """Of the one stream."""
        url = self.url.replace(urlsplit(self.url).netloc, at) if at else self.url
        part = {"stream": self.stream, "flow": "orders", "hop": "redis", "payload": "payload"}
        return {"name": name, "kind": "redis-streams", "url": url, "cursor": str(self.folder / f"{name}.cursor"),
                "watch": self.watch, "streams": [part], "look_every": 0.1}  # fmt: skip

    def collector(self, name="one"):
        """Reads the one stream."""
        own = self.described(name)
        return streams(own.pop("name"), {key: value for key, value in own.items() if key != "kind"})

    def between(self):
        """Before the server."""
        found = urlsplit(self.url)
        return Proxy((found.hostname, found.port))

    def remake(self):
        """The stream."""
        self.application.delete(self.stream)
        self.application.xgroup_create(self.stream, "billing", id="0", mkstream=True)

    def large(self, size):
        """One entry."""
        self.application.xadd(self.stream, {"x-message-id": "large", "payload": b"x" * size})
        return "large"

    def refused(self):
        """A user that is not there."""
        return {**self.described(), "url": self.url.replace("redis://", f"redis://stranger:{SECRET}@")}

    def others(self):
        """What the stream and its group hold, and how many replicas a WAIT finds."""
        info = self.application.xinfo_stream(self.stream, full=True)
        return info, self.application.execute_command("WAIT", 1, 50)


class TestRedisStreams(RedisContract):
    """As a replica."""


class TestPolledStreams(RedisContract):
    """By polling."""

    watch = "poll"
