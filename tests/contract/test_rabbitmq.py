from __future__ import annotations

import time
from functools import partial
from urllib.parse import urlsplit

import pika
import pytest

from collectors.rabbitmq.dead_letters import dead_letters
from collectors.rabbitmq.firehose import firehose
from collectors.rabbitmq.stream import streams
from tests.brokers.rabbitmq_vhost import PATIENCE, own_vhost, read_until, vouches
from tests.contract.broker import SECRET, BrokerContract
from tests.contract.suite import CollectorContract
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers


def _vouching(collector, stage, _raws):
    return vouches(collector, stage)


class TestRabbitFirehose(BrokerContract):
    @pytest.fixture(autouse=True)
    def system(self, rabbitmq_server):
        """A vhost of its own. The firehose shows what happens, not what happened: a collector sees everything from
        its first start on, so both names have been there once."""
        with own_vhost(rabbitmq_server) as vhost:
            self.vhost, self.sent = vhost, 0
            vhost.orders("billing")
            for name in ("one", "two"):
                collector = self.collector(name)
                read_until(collector, partial(_vouching, collector, "persist"))
                collector.close()
            yield

    def put(self, count):
        """Publish to an exchange that routes to one queue."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        for name in ids:
            self.vhost.publish(name)
        return ids

    def collector(self, name="one"):
        """A firehose with a trace queue of its own."""
        found = firehose(self.vhost.settings(name=name))
        assert not vouches(found)  # the break before its start, shown once
        return found

    def others(self):
        """What the application's queue holds."""
        return self.vhost.message_count("billing")

    def described(self, name="one", at=""):
        """Of the application's queue."""
        url = self.vhost.url.replace(urlsplit(self.vhost.url).netloc.rpartition("@")[2], at) if at else self.vhost.url
        return {"kind": "rabbitmq", **self.vhost.settings(name=name, url=url)}

    def between(self):
        """Before the node."""
        server = urlsplit(self.vhost.url)
        return Proxy((server.hostname, server.port))

    def remake(self):
        """The queue."""
        self.vhost.channel.queue_delete("billing")
        self.vhost.orders("billing")

    def large(self, size):
        """One message."""
        self.vhost.channel.basic_publish("orders", "new.eu", bytes(size), pika.BasicProperties(message_id="large"))
        return "large"

    def refused(self):
        """The same user."""
        known = urlsplit(self.vhost.url)
        return {**self.described(), "url": self.vhost.url.replace(f":{known.password}@", f":{SECRET}@")}


class TestRabbitDeadLetters(CollectorContract):
    patience = PATIENCE

    @pytest.fixture(autouse=True)
    def system(self, rabbitmq_server):
        """A queue in which everything expires at once, and one that its dead letters are parked in. Both names have
        been there once: an exchange copies to the queues that are bound to it then."""
        with own_vhost(rabbitmq_server) as vhost:
            self.vhost, self.sent = vhost, 0
            vhost.channel.exchange_declare("dead", "fanout")
            vhost.channel.queue_declare("parked")
            vhost.channel.queue_bind("parked", "dead")
            vhost.channel.queue_declare("billing", arguments={"x-dead-letter-exchange": "dead", "x-message-ttl": 0})
            for name in ("one", "two"):
                collector = self.collector(name)
                read_until(collector, partial(_vouching, collector, "dead_letter"))
                collector.close()
            yield

    def put(self, count):
        """Publish what nobody is there to take."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        for name in ids:
            self.vhost.publish(name, "billing", "")
        read_until_parked(self.vhost, self.sent)
        return ids

    def collector(self, name="one"):
        """With a queue of its own at the dead letter exchange."""
        queues = [{"queue": "billing", "flow": "orders", "hop": "rabbit-billing"}]
        found = dead_letters(
            {
                "name": name, "url": self.vhost.url, "queues": queues, "dead_letters": [{"exchange": "dead"}],
                "canary_every": 0.1, "hole_for": 0.0,
            }
        )  # fmt: skip
        assert not vouches(found, "dead_letter")  # the break before its start, shown once
        return found

    def others(self):
        """What is parked."""
        return self.vhost.message_count("parked")


def read_until_parked(vhost, count):
    """Until the broker has dead-lettered so many."""
    until = time.monotonic() + PATIENCE
    while vhost.message_count("parked") < count:
        assert time.monotonic() < until
        time.sleep(0.01)


class TestRabbitStreams(CollectorContract):
    patience = PATIENCE

    @pytest.fixture(autouse=True)
    def system(self, rabbitmq_server):
        """A stream, which somebody else reads too."""
        with own_vhost(rabbitmq_server) as vhost:
            self.vhost, self.sent = vhost, 0
            vhost.channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
            yield

    def put(self, count):
        """Publish into the stream."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        for name in ids:
            self.vhost.publish(name, "log", "")
        return ids

    def collector(self, name="one"):
        """A reader with a place of its own."""
        route = {"stream": "log", "flow": "orders", "hop": "rabbit-log"}
        found = streams(
            {
                "name": name,
                "url": self.vhost.url,
                "streams": [route],
                "look_every": 0.1,
                "settle": 0.05,
                "hole_for": 0.0,
            }
        )
        assert not vouches(found)  # the break before its start, shown once
        return found

    def others(self):
        """What somebody who reads it from its beginning gets."""
        channel = self.vhost.connection.channel()
        channel.basic_qos(prefetch_count=100)
        found = []
        for method, properties, body in channel.consume(
            "log", arguments={"x-stream-offset": "first"}, inactivity_timeout=0.3
        ):
            if method is None:
                break
            found.append((properties.headers, body))
        channel.close()
        return found
