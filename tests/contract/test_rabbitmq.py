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
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers


def _vouching(collector, stage, _raws):
    return vouches(collector, stage)


def reached(url, at):
    """The same by a proxy, where there is one."""
    return url.replace(urlsplit(url).netloc.rpartition("@")[2], at) if at else url


def before(url):
    """A proxy before the node."""
    server = urlsplit(url)
    return Proxy((server.hostname, server.port))


def with_wrong_password(url):
    """The same user."""
    return url.replace(f":{urlsplit(url).password}@", f":{SECRET}@")


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
        return {"kind": "rabbitmq", **self.vhost.settings(name=name, url=reached(self.vhost.url, at))}

    def between(self):
        """Before the node."""
        return before(self.vhost.url)

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
        return {**self.described(), "url": with_wrong_password(self.vhost.url)}


class TestRabbitDeadLetters(BrokerContract):
    stage = "dead_letter"

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
        described = self.described(name)
        del described["kind"]
        found = dead_letters(described)
        assert not vouches(found, "dead_letter")  # the break before its start, shown once
        return found

    def described(self, name="one", at=""):
        """Of the queue whose messages expire."""
        return {
            "name": name, "kind": "rabbitmq-dead-letters", "url": reached(self.vhost.url, at),
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit-billing"}],
            "dead_letters": [{"exchange": "dead"}], "canary_every": 0.1, "hole_for": 0.0,
        }  # fmt: skip

    def between(self):
        """Before the node."""
        return before(self.vhost.url)

    def remake(self):
        """The dead letter exchange."""
        self.vhost.channel.exchange_delete("dead")
        self.vhost.channel.exchange_declare("dead", "fanout")
        self.vhost.channel.queue_bind("parked", "dead")

    def large(self, size):
        """One message."""
        self.vhost.channel.basic_publish("", "billing", bytes(size), pika.BasicProperties(message_id="large"))
        return "large"

    def refused(self):
        """The same user."""
        return {**self.described(), "url": with_wrong_password(self.vhost.url)}

    def others(self):
        """What is parked."""
        return self.vhost.message_count("parked")


def read_until_parked(vhost, count):
    """Until the broker has dead-lettered so many."""
    until = time.monotonic() + PATIENCE
    while vhost.message_count("parked") < count:
        assert time.monotonic() < until
        time.sleep(0.01)


class TestRabbitStreams(BrokerContract):
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
        described = self.described(name)
        del described["kind"]
        found = streams(described)
        assert not vouches(found)  # the break before its start, shown once
        return found

    def described(self, name="one", at=""):
        """Of the stream."""
        return {
            "name": name, "kind": "rabbitmq-stream", "url": reached(self.vhost.url, at),
            "streams": [{"stream": "log", "flow": "orders", "hop": "rabbit-log"}],
            "look_every": 0.1, "settle": 0.05, "hole_for": 0.0,
        }  # fmt: skip

    def between(self):
        """Before the node."""
        return before(self.vhost.url)

    def remake(self):
        """The stream; the broker takes a moment to let go of the old one."""
        self.vhost.channel.queue_delete("log")
        self.vhost.channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})

    def large(self, size):
        """One message."""
        self.vhost.channel.basic_publish("", "log", bytes(size), pika.BasicProperties(message_id="large"))
        return "large"

    def refused(self):
        """The same user."""
        return {**self.described(), "url": with_wrong_password(self.vhost.url)}

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
