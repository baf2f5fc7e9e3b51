"""A real NATS server with JetStream, from Debian's binary, in a folder of its own that ends with the test run."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.needed import HINT, missing
from tests.servers.ports import free_port
from tests.servers.process import Process

BINARY = "nats-server"
USER, PASSWORD = "tracker", "right"
CONFIG = """
host: 127.0.0.1
port: {port}
max_payload: 32MB
jetstream {{ store_dir: "{folder}/data" }}
no_auth_user: app
authorization {{ users: [ {{user: app, password: app}}, {{user: {user}, password: {password}}} ] }}
"""
"""Who does not log in is let in; who logs in with a wrong password is not."""


class Nats:
    """One server of our own. `start`, `stop`, `kill`, `start` again: folder and port stay the same."""

    def __init__(self, folder: Path, binary: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        (folder / "nats.conf").write_text(
            CONFIG.format(port=self.port, folder=folder, user=USER, password=PASSWORD), "utf-8"
        )
        self.process = Process("nats", [binary, "-c", str(folder / "nats.conf")], folder)

    def start(self) -> Nats:
        """Returns when it answers, and JetStream is on."""
        self.process.start(self._answers, 30.0)
        return self

    def _answers(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as client:
            said = client.makefile("rb").readline()
            assert json.loads(said.removeprefix(b"INFO "))["jetstream"] is True

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.kill()

    def stop(self) -> None:
        """End it, as an operator does."""
        self.process.stop()


def binary() -> str | None:
    """The server's program; None where it is not installed."""
    return shutil.which(BINARY)


@pytest.fixture(scope="session")
def nats_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Nats]]:
    """Starts servers of one's own: `nats_factory()` gives a running `Nats` that may be killed."""
    program = binary()
    if program is None:
        missing("nats", f"`{BINARY}` is not on the PATH; {HINT}")
    made: list[Nats] = []

    def make(*_: Any) -> Nats:
        made.append(Nats(tmp_path_factory.mktemp("nats"), program))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def nats_server(request: pytest.FixtureRequest) -> str:
    """The URL of a running NATS shared by the session: use streams of your own, and do not stop it (`nats_factory`
    gives one to kill). TRACKER_TEST_NATS (nats://host:port) wins over our own."""
    url = os.environ.get("TRACKER_TEST_NATS")
    return url or request.getfixturevalue("nats_factory")().url
