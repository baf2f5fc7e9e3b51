"""Fixtures that start real servers, loaded by `tests/conftest.py`.

For each server: a URL in the environment wins, then the server's own binary, then Docker (testcontainers). When there
is none of them the test is skipped with a line that says how to get it, or fails under TRACKER_TEST_REQUIRE.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.servers import docker, kafka, rabbitmq
from tests.servers.external import ExternalRabbitMQ
from tests.servers.kafka import Kafka
from tests.servers.mirror_maker import MirrorMaker
from tests.servers.needed import HINT, missing, skipped_for_want
from tests.servers.prometheus import Alertmanager, Prometheus
from tests.servers.rabbitmq import RabbitMQ

KafkaFactory = Callable[..., Kafka]


def _java_and_jars() -> tuple[str, Path]:
    runtime, jars = kafka.java(), kafka.jars()
    if runtime is None:
        missing("kafka", f"Java {kafka.MIN_JAVA} or newer not found (PATH, JAVA_HOME); {HINT}")
    if jars is None:
        missing(
            "kafka", f"the jars of Kafka {kafka.version()} are not in the cache; `make servers` fetches them by Maven"
        )
    return runtime, jars


def _kafka_maker(factory: pytest.TempPathFactory) -> KafkaFactory:
    runtime, jars = _java_and_jars()

    def make(
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 256,
        client: Mapping[str, str] | None = None,
        sides: bool = False,
    ) -> Kafka:
        return Kafka(factory.mktemp("kafka"), runtime, jars, properties, heap_mb, client, sides).start()

    return make


@pytest.fixture(scope="session")
def kafka_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFactory]:
    """Starts clusters of one's own: `kafka_factory(properties={...})` gives a running `Kafka` (bootstrap, stop, kill,
    start, restart, process.pause). All of them end with the session. Never an external one, so killing is safe."""
    make, made = _kafka_maker(tmp_path_factory), []

    def remember(*arguments: Any, **options: Any) -> Kafka:
        made.append(make(*arguments, **options))
        return made[-1]

    yield remember
    for cluster in made:
        cluster.kill()


@pytest.fixture(scope="session")
def kafka_node(kafka_factory: KafkaFactory) -> Kafka:
    """The node of our own that `kafka_server` shares, with its two other ways in (`behind`, `guarded`)."""
    return kafka_factory(sides=True)


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The bootstrap address (`host:port`) of a running Kafka shared by the session: use topics and groups of your own,
    and do not stop it (`kafka_factory` gives one to kill)."""
    url = os.environ.get("TRACKER_TEST_KAFKA")
    if url:
        yield url
    elif (kafka.java() is None or kafka.jars() is None) and docker.works():
        with docker.kafka() as bootstrap:
            yield bootstrap
    else:
        yield request.getfixturevalue("kafka_node").bootstrap


@pytest.fixture(scope="module")
def mirror_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., MirrorMaker]]:
    """`mirror_factory(source, target, topics)` gives a running `MirrorMaker` (stop, kill, start, process.pause) between
    two bootstrap addresses; ends with the module."""
    runtime, jars = _java_and_jars()
    made: list[MirrorMaker] = []

    def make(source: str, target: str, topics: Sequence[str], **options: Any) -> MirrorMaker:
        mirror = MirrorMaker(tmp_path_factory.mktemp("mirror"), runtime, jars, source, target, topics, **options)
        made.append(mirror.start())
        return mirror

    yield make
    for mirror in made:
        mirror.kill()


@pytest.fixture(scope="session")
def rabbitmq_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RabbitMQ]]:
    """Starts nodes of one's own: `rabbitmq_factory(conf="...")` gives a running `RabbitMQ` that may be killed."""
    if rabbitmq.scripts() is None:
        missing("rabbitmq", f"RabbitMQ's scripts are not in {rabbitmq.SCRIPTS}; {HINT}")
    made: list[RabbitMQ] = []

    def make(**options: Any) -> RabbitMQ:
        made.append(RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), **options).start())
        return made[-1]

    yield make
    for node in made:
        node.kill()
        node.stop()


@pytest.fixture(scope="session")
def rabbitmq_server(request: pytest.FixtureRequest) -> Iterator[RabbitMQ | ExternalRabbitMQ]:
    """A running RabbitMQ shared by the session: `.url`, `.management_url`, `.trace(on)`, `.ctl("list_queues")`.
    Use queues of your own, and do not stop it (`rabbitmq_factory` gives one to kill)."""
    url = os.environ.get("TRACKER_TEST_RABBITMQ")
    if url:
        yield ExternalRabbitMQ(url, os.environ.get("TRACKER_TEST_RABBITMQ_MANAGEMENT"))
    elif rabbitmq.scripts() is None and docker.works():
        with docker.rabbitmq() as server:
            yield server
    else:
        yield request.getfixturevalue("rabbitmq_factory")()


def _binary(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        missing(package, f"`{name}` is not on the PATH; {HINT}")
    return path


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of `promtool`."""
    return _binary("promtool", "prometheus")


@pytest.fixture(scope="session")
def amtool() -> str:
    """The path of `amtool`."""
    return _binary("amtool", "alertmanager")


@pytest.fixture
def prometheus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Prometheus]]:
    """`prometheus_server(config_yaml)` gives a running `Prometheus` (`.url`, `.query(promql)`); ends with the test."""
    binary, made = _binary("prometheus", "prometheus"), []

    def make(config: str) -> Prometheus:
        made.append(Prometheus(tmp_path_factory.mktemp("prometheus"), binary, config).start())
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def alertmanager_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Alertmanager]]:
    """`alertmanager_server(config_yaml)` gives a running `Alertmanager` (`.url`); ends with the test."""
    binary, made = _binary("prometheus-alertmanager", "alertmanager"), []

    def make(config: str) -> Alertmanager:
        made.append(Alertmanager(tmp_path_factory.mktemp("alertmanager"), binary, config).start())
        return made[-1]

    yield make
    for server in made:
        server.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Ends the run with a list of what was not tested for want of a server."""
    wanted = skipped_for_want(terminalreporter.stats.get("skipped", []))
    if wanted:
        terminalreporter.section("not tested for want of a server")
        for reason, count in sorted(wanted.items()):
            terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")
