from __future__ import annotations

import pytest

from collectors.memory import Config, MemoryBroker, MemoryCollector, Tailed
from tests.contract.suite import CollectorContract
from tracker.model.carry import MESSAGE_ID


class TestMemory(CollectorContract):
    quiet = 0.01

    @pytest.fixture(autouse=True)
    def system(self):
        """An empty broker with an application group on the topic."""
        self.broker = MemoryBroker(partitions=3)
        self.broker.create("orders")
        self.broker.join("app", "a", ["orders"])
        self.sent = 0

    def put(self, count):
        """Append to three partitions, by key."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        for name in ids:
            self.broker.append("orders", name.encode(), name.encode(), {MESSAGE_ID: name.encode()})
        return ids

    def collector(self, name="one"):
        """Tails the one topic."""
        return MemoryCollector(name, Config(topics=[Tailed("orders", "orders", "log")]), self.broker)

    def others(self):
        """What the application's group and its operators see."""
        slots = self.broker.slots(["orders"])
        return self.broker.committed("app"), [self.broker.bounds(s) for s in slots], self.broker.assignment("app", "a")
