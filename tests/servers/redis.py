"""A real Redis server, from Debian's binary, in a folder of its own that ends with the test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from redis import Redis as Client

from tests.servers.needed import HINT, missing
from tests.servers.ports import free_port
from tests.servers.process import Process

BINARY = "redis-server"
FORGETFUL = MappingProxyType({"save": "", "appendonly": "no"})
"""Keeps everything in memory only."""
LASTING = MappingProxyType({"save": "", "appendonly": "yes", "appendfsync": "always"})
"""Every write is in the log on disk before it is answered."""


class Redis:
    """One server of our own. `start`, `stop`, `kill`, `start` again: folder and port stay the same."""

    def __init__(self, folder: Path, binary: str, settings: Mapping[str, str] = FORGETFUL) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        given = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(folder), "daemonize": "no", **settings}
        command = [binary, *(word for name, value in given.items() for word in (f"--{name}", value))]
        self.process = Process("redis", command, folder)

    def start(self) -> Redis:
        """Returns when it answers."""
        self.process.start(self._answers, 30.0)
        return self

    def _answers(self) -> None:
        with Client.from_url(self.url, socket_timeout=2.0) as client:
            client.ping()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.kill()

    def stop(self) -> None:
        """End it, as an operator does."""
        self.process.stop()


@pytest.fixture(scope="session")
def redis_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Redis]]:
    """Starts servers of one's own: `redis_factory(settings={...})` gives a running `Redis` that may be killed."""
    binary = shutil.which(BINARY)
    if binary is None:
        missing("redis", f"`{BINARY}` is not on the PATH; {HINT}")
    made: list[Redis] = []

    def make(settings: Mapping[str, str] = FORGETFUL) -> Redis:
        made.append(Redis(tmp_path_factory.mktemp("redis"), binary, settings))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> str:
    """The URL of a running Redis shared by the session: use keys of your own, and do not stop it (`redis_factory` gives
    one to kill). TRACKER_TEST_REDIS (redis://:password@host:port/0) wins over our own."""
    url = os.environ.get("TRACKER_TEST_REDIS")
    return url or request.getfixturevalue("redis_factory")().url
