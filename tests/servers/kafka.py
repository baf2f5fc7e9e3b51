"""A real Kafka: one KRaft node (broker and controller), from the jars that `make servers` put into the cache."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers.ports import free_port
from tests.servers.process import Process, accepts

POM = Path(__file__).with_name("kafka.pom.xml")
MIN_JAVA = 17
LOGIN = ("tracker", "the-right-one")
"""User and password of the guarded listener (SASL PLAIN)."""

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def version() -> str:
    """The Kafka version that the pom asks for."""
    found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    if found is None:
        raise ValueError(f"{POM}: no <kafka.version>")
    return found.group(1)


def jars() -> Path | None:
    """The folder with the broker's jars, or None when `make servers` has not filled it for this version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "message-tracker" / f"kafka-{version()}"
    filled_for = folder / ".complete"  # a copy of the pom that the jars were fetched for
    return folder if filled_for.exists() and filled_for.read_bytes() == POM.read_bytes() else None


def java() -> str | None:
    """The path of a Java runtime of version 17 or newer, or None."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(f"{home}/bin/java") if home else None
    path = found or shutil.which("java")
    if path is None:
        return None
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    major = re.search(r'version "(\d+)', said)
    return path if major and int(major.group(1)) >= MIN_JAVA else None


def _java(runtime: str, jar_folder: Path, folder: Path, heap_mb: int) -> list[str]:
    return [
        runtime,
        f"-Xms{min(64, heap_mb)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:ActiveProcessorCount=2",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{jar_folder}/*",
    ]


class Kafka:
    """A cluster of one node. `start`, `stop`, `kill`, `start` again: its data and its ports stay the same.

    `properties` are added to, or win over, those in `_properties`. `heap_mb` is small so that several fit beside each
    other (about 300 MB resident each). `client`: what a client of it has to set. With `sides` there are two ways in
    beside `bootstrap`: clients that come to the port `behind` are told to come to the port `proxied`, where a test may
    put a proxy in between; at `guarded` one has to log in as LOGIN.
    """

    def __init__(
        self,
        folder: Path,
        runtime: str,
        jar_folder: Path,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 256,
        client: Mapping[str, str] | None = None,
        sides: bool = False,
    ) -> None:
        self.folder = folder
        self._client = dict(client or {})
        self.port = free_port()
        self.controller_port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.properties = {**self._properties(), **(self._sides() if sides else {}), **(properties or {})}
        self._config = folder / "server.properties"
        self._command = _java(runtime, jar_folder, folder, heap_mb)
        self.process = Process("kafka", [*self._command, "kafka.Kafka", str(self._config)], folder)

    def _properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"BROKER://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"BROKER://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "BROKER",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "1",
            "auto.create.topics.enable": "true",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A broker that was killed is registered anew only when its old session has ended.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            # Memory: the cleaner alone would take 128 MB of heap, and every index file 10 MB.
            "log.cleaner.dedupe.buffer.size": "4194304",
            "log.index.size.max.bytes": "1048576",
            "num.network.threads": "2",
            "num.io.threads": "2",
        }

    def _sides(self) -> dict[str, str]:
        self.behind, self.proxied, guarded = free_port(), free_port(), free_port()
        self.guarded = f"127.0.0.1:{guarded}"
        known = self._properties()
        ours = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return {
            "listeners": f"{known['listeners']},BEHIND://127.0.0.1:{self.behind},GUARDED://{self.guarded}",
            "advertised.listeners": f"{known['advertised.listeners']},BEHIND://127.0.0.1:{self.proxied},"
            f"GUARDED://{self.guarded}",
            "listener.security.protocol.map": f"{known['listener.security.protocol.map']},BEHIND:PLAINTEXT,"
            "GUARDED:SASL_PLAINTEXT",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f'{ours} required user_{LOGIN[0]}="{LOGIN[1]}";',
        }

    def _format(self) -> None:
        """Writes the configuration, and on the first start the storage's cluster id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))
        if (self.folder / "data" / "meta.properties").exists():
            return
        tool = [
            *self._command,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={self.cluster_id}",
            f"--config={self._config}",
        ]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"kafka: storage format failed ({done.returncode})\n{done.stdout}{done.stderr}")

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Make a topic of one replica."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result(30)

    def _answers(self) -> None:
        accepts(self.port)  # a cheap look first: the client below is slow to give up on a closed port
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 2000, **self._client}
        )
        if not admin.list_topics(timeout=2.0).brokers:
            raise KafkaException("no broker has registered yet")

    def start(self, timeout: float = 90.0) -> Kafka:
        """Starts the broker (again) and returns when it answers a metadata request."""
        self._format()
        self.process.start(self._answers, timeout)
        return self

    def stop(self) -> None:
        """A clean shutdown."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with its data."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: it neither answers nor copies, and its connections stay open."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    def restart(self) -> None:
        """A clean shutdown and a start on the same ports."""
        self.stop()
        self.start()
