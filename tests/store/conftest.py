"""Stores to ask: the embedded engine in this process, and a ClickHouse server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.servers import docker
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.world.installation import Installation
from tracker.store import Store

ROOT = Path(__file__).parents[2]
IMAGE = "clickhouse/clickhouse-server:25.8"
"""As in deploy/compose.yaml."""
_numbers = count()


@dataclass(frozen=True)
class Server:
    """A server's address up to the database, and where it writes what it was asked (None: it does not)."""

    base: str
    journal: Path | None = None
    process: Process | None = None
    port: int = 0

    def start(self) -> None:
        """Returns when it answers; only for one of ours."""
        if self.process:
            self.process.start(partial(_ready, self.port), 60.0)

    def kill(self) -> None:
        """SIGKILL; only for one of ours."""
        if self.process:
            self.process.kill()

    def stop(self) -> None:
        """End it; only for one of ours."""
        if self.process:
            self.process.stop()

    def url(self, database: str) -> str:
        """A store URL."""
        return f"{self.base}/{database}"


@pytest.fixture(scope="session")
def clickhouse_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded engine behind ClickHouse's HTTP protocol, as user `ann` with a password that needs encoding."""
    server = started(tmp_path_factory.mktemp("clickhouse-http"))
    yield server
    server.stop()


def started(folder: Path) -> Server:
    """Such a server of one's own, which may be killed and started again."""
    port = free_port()
    command = [sys.executable, "-m", "tests.servers.clickhouse_http", "--port", str(port)]
    command += ["--folder", str(folder / "data"), "--user", "ann", "--password", "p/w@x"]
    command += ["--journal", str(folder / "journal")]
    process = Process("clickhouse-http", command, folder, {**os.environ, "PYTHONPATH": str(ROOT)})
    server = Server(f"clickhouse://ann:p%2Fw%40x@127.0.0.1:{port}", folder / "journal", process, port)
    server.start()
    return server


def _ready(port: int) -> None:
    httpx.get(f"http://127.0.0.1:{port}/ping").raise_for_status()


@pytest.fixture(scope="session")
def clickhouse_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A ClickHouse server: TRACKER_TEST_CLICKHOUSE (clickhouse://user:password@host:8123) wins, then Docker; where
    there is neither, the embedded engine behind the same protocol."""
    named = os.environ.get("TRACKER_TEST_CLICKHOUSE")
    if named:
        yield Server(named.rstrip("/"))
    elif docker.works():
        from testcontainers.community.clickhouse import ClickHouseContainer

        with ClickHouseContainer(IMAGE) as container:
            host, port = container.get_container_host_ip(), container.get_exposed_port(8123)
            yield Server(f"clickhouse://{container.username}:{container.password}@{host}:{port}")
    else:
        yield request.getfixturevalue("clickhouse_http")


@pytest.fixture(scope="session")
def embedded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder of this process's engine; tests use databases of their own in it."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture
def at_zero(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """One installation with the `SPEC` of the test's module, its clock at 0: events say when they happen in seconds."""
    installation = Installation(tmp_path)
    installation.now = 0
    installation.put(request.module.SPEC)
    yield installation
    installation.close()


@pytest.fixture
def new_store(embedded_folder: Path) -> Iterator[Callable[[], Store]]:
    """`new_store()` gives a migrated, empty store on the embedded engine."""
    made: list[Store] = []

    def make() -> Store:
        made.append(Store.open(f"chdb://{embedded_folder}?database=t{next(_numbers)}", durability="process"))
        made[-1].migrate()
        return made[-1]

    yield make
    for store in made:
        store.close()
