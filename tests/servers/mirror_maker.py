"""A real MirrorMaker 2 in dedicated mode, between two clusters of `tests.servers.kafka`, from the same jars.

What its own documents do not say at the place where one looks:

- A worker's settings (`offset.flush.interval.ms`, `session.timeout.ms`, ...) are taken only behind the *target's*
  alias, `us.offset.flush.interval.ms`; at the top of the file, and behind `eu->us.`, they are ignored in silence.
- It searches all classes of all jars for plugins, once for its own configuration and once for each worker: minutes on a
  busy machine, and more than 128 MB of heap. `plugin.discovery = service_load`, in both places, takes half a second.
- It opens the way back as well, `us->eu`, though that is not enabled: for its heartbeats, unless they are off there.
- How far it has copied is written once a minute. What was copied since is copied again after a SIGKILL.
- A worker that comes back after a SIGKILL waits until its dead predecessor's session has ended, and then
  `scheduled.rebalance.max.delay.ms`, five minutes, for it to return.
- Topics and partitions that are new at the source are looked for every ten minutes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers.kafka import _LOG4J, _java
from tests.servers.process import Process

SOURCE, TARGET = "eu", "us"
"""The clusters' aliases. By default the copy of `orders` is called `eu.orders`."""
READY = "mirror-ready"
"""A topic that is copied as well, to see that copies come."""


class NotYet(RuntimeError):
    """No copy has come so far."""


class MirrorMaker:
    """Copies `topics` (names, or patterns) from one cluster to another. `start`, `stop`, `kill`, `start` again: what it
    has copied is kept in the target cluster. `process.pause` and `process.resume` hold it up.

    `properties` are added to, or win over, those in `_properties`. With `same_names` the copies have the names of
    their originals.
    """

    def __init__(
        self,
        folder: Path,
        runtime: str,
        jar_folder: Path,
        source: str,
        target: str,
        topics: Sequence[str],
        same_names: bool = False,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 128,
    ) -> None:
        self.folder, self.source, self.target = folder, source, target
        self.prefix = "" if same_names else f"{SOURCE}."
        self.properties = {**self._properties(topics, same_names), **(properties or {})}
        self._config = folder / "mm2.properties"
        command = [*_java(runtime, jar_folder, folder, heap_mb), "org.apache.kafka.connect.mirror.MirrorMaker"]
        self.process = Process("mirror-maker", [*command, str(self._config)], folder)

    def _properties(self, topics: Sequence[str], same_names: bool) -> dict[str, str]:
        way, back = f"{SOURCE}->{TARGET}", f"{TARGET}->{SOURCE}"
        policy = "IdentityReplicationPolicy" if same_names else "DefaultReplicationPolicy"
        return {
            "clusters": f"{SOURCE}, {TARGET}",
            f"{SOURCE}.bootstrap.servers": self.source,
            f"{TARGET}.bootstrap.servers": self.target,
            f"{way}.enabled": "true",
            f"{way}.topics": ",".join([*topics, READY]),
            f"{back}.emit.heartbeats.enabled": "false",
            "replication.policy.class": f"org.apache.kafka.connect.mirror.{policy}",
            "sync.topic.acls.enabled": "false",
            # One node each.
            "replication.factor": "1",
            "checkpoints.topic.replication.factor": "1",
            "heartbeats.topic.replication.factor": "1",
            "offset-syncs.topic.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "config.storage.replication.factor": "1",
            "offset.storage.partitions": "1",
            "status.storage.partitions": "1",
            # Quick.
            "refresh.topics.interval.seconds": "1",
            "refresh.groups.interval.seconds": "1",
            "sync.topic.configs.interval.seconds": "1",
            "emit.heartbeats.interval.seconds": "1",
            "emit.checkpoints.interval.seconds": "1",
            "plugin.discovery": "service_load",
            f"{TARGET}.plugin.discovery": "service_load",
            f"{TARGET}.scheduled.rebalance.max.delay.ms": "0",
            f"{TARGET}.session.timeout.ms": "6000",
            f"{TARGET}.heartbeat.interval.ms": "1000",
        }

    def start(self, timeout: float = 120.0) -> MirrorMaker:
        """Starts it (again) and returns when a record that was sent to the source since has arrived at the target."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        self._config.write_text("".join(f"{key} = {value}\n" for key, value in self.properties.items()))
        token = uuid.uuid4().bytes
        self._send(token)
        self.process.start(lambda: self._arrived(token), timeout)
        return self

    def stop(self) -> None:
        """A clean shutdown: what was read is copied, and how far that is is written down."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def _send(self, token: bytes) -> None:
        admin = AdminClient({"bootstrap.servers": self.source, "log_level": 0})
        if READY not in admin.list_topics(timeout=20).topics:
            admin.create_topics([NewTopic(READY, 1, 1)])[READY].result(20)
        producer = Producer({"bootstrap.servers": self.source, "log_level": 0})
        producer.produce(READY, token)
        if producer.flush(20):
            raise NotYet(f"the source {self.source} does not take a record of {READY}")

    def _arrived(self, token: bytes) -> None:
        topic = f"{self.prefix}{READY}"
        settings = {"bootstrap.servers": self.target, "group.id": "mirror-ready", "enable.auto.commit": False}
        consumer = Consumer({**settings, "log_level": 0, "allow.auto.create.topics": False})
        try:
            if topic not in consumer.list_topics(timeout=10).topics:
                raise NotYet(f"{topic} does not exist yet")
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            while message := consumer.poll(1.0):
                if message.value() == token:
                    return
            raise NotYet(f"no copy in {topic} yet")
        finally:
            consumer.close()
