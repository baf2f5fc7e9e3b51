"""A real Kafka of several brokers: one controller that stays, and brokers that may be killed, paused and resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.servers.kafka import Kafka
from tests.servers.process import NotReady, accepts

CONTROLLER = 100


class Node(Kafka):
    """One of the processes: the controller (`number` 100), or a broker."""

    def __init__(self, cluster: Cluster, number: int, runtime: str, jars: Path) -> None:
        self.number, self._cluster = number, cluster
        super().__init__(cluster.folder / f"node-{number}", runtime, jars, heap_mb=cluster.heap_mb)

    def _properties(self) -> dict[str, str]:
        if self.number == CONTROLLER:
            mine = {"process.roles": "controller", "listeners": f"CONTROLLER://127.0.0.1:{self.port}"}
            voter = self.port
        else:
            address = f"BROKER://127.0.0.1:{self.port}"
            mine = {"process.roles": "broker", "listeners": address, "advertised.listeners": address}
            voter = self._cluster.controller.port
        both = {"node.id": str(self.number), "controller.quorum.voters": f"{CONTROLLER}@127.0.0.1:{voter}"}
        found = super()._properties() | mine | both | self._cluster.properties
        if self.number == CONTROLLER:
            del found["advertised.listeners"], found["inter.broker.listener.name"]
        return found

    def _answers(self) -> None:
        accepts(self.port)


class Cluster:
    """`brokers` by number, from 1. Data and ports stay the same over restarts. `properties` are those of all nodes."""

    def __init__(
        self,
        folder: Path,
        runtime: str,
        jars: Path,
        brokers: int = 3,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 192,
    ) -> None:
        self.folder, self.heap_mb = folder, heap_mb
        copies = {"offsets.topic.replication.factor": str(brokers), "default.replication.factor": str(brokers)}
        self.properties = copies | dict(properties or {})
        self.controller = Node(self, CONTROLLER, runtime, jars)
        self.brokers = {number: Node(self, number, runtime, jars) for number in range(1, brokers + 1)}
        for node in self.brokers.values():
            node.cluster_id = self.controller.cluster_id

    @property
    def bootstrap(self) -> str:
        """All brokers, whether they run or not."""
        return ",".join(node.bootstrap for node in self.brokers.values())

    def start(self, timeout: float = 120.0) -> Cluster:
        """Start all of them at once; returns when every broker is registered."""
        nodes = [self.controller, *self.brokers.values()]
        with ThreadPoolExecutor(len(nodes)) as starting:
            list(starting.map(lambda node: node.start(timeout), nodes))
        self.await_brokers(len(self.brokers), timeout)
        return self

    def await_brokers(self, count: int, timeout: float = 60.0) -> None:
        """Return when so many brokers are registered and not fenced."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        deadline = time.monotonic() + timeout
        while (found := len(admin.list_topics(timeout=10.0).brokers)) != count:
            if time.monotonic() > deadline:
                raise NotReady(f"{found} of {count} brokers after {timeout:.0f} s\n{self.controller.process.tail()}")
            time.sleep(0.1)

    def replicas(self, topic: str, broker: int) -> dict[int, tuple[int, list[int]]]:
        """Leader (-1: none) and in-sync replicas of every partition, by brokers' numbers, as `broker` knows them."""
        admin = AdminClient({"bootstrap.servers": self.brokers[broker].bootstrap, "log_level": 0})
        known = admin.list_topics(topic, timeout=10.0).topics[topic].partitions
        return {number: (one.leader, sorted(one.isrs)) for number, one in known.items()}

    def kill(self) -> None:
        """SIGKILL to all."""
        for node in [*self.brokers.values(), self.controller]:
            node.kill()
