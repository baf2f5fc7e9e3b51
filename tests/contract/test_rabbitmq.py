from __future__ import annotations

from functools import partial

import pytest

from collectors.rabbitmq import firehose
from tests.brokers.rabbitmq_vhost import PATIENCE, own_vhost, read_until, vouches
from tests.contract.suite import CollectorContract

pytestmark = pytest.mark.brokers


def _vouching(collector, _raws):
    return vouches(collector)


class TestRabbitFirehose(CollectorContract):
    patience = PATIENCE

    @pytest.fixture(autouse=True)
    def system(self, rabbitmq_server):
        """A vhost of its own. The firehose shows what happens, not what happened: a collector sees everything from
        its first start on, so both names have been there once."""
        with own_vhost(rabbitmq_server) as vhost:
            self.vhost, self.sent = vhost, 0
            vhost.orders("billing")
            for name in ("one", "two"):
                collector = self.collector(name)
                read_until(collector, partial(_vouching, collector))
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
