"""A real PostgreSQL server, from Debian's binaries, in a folder of its own that ends with the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.servers.needed import HINT, missing
from tests.servers.ports import free_port
from tests.servers.process import Process

# Debian keeps the server's programs out of the PATH, one folder per major version.
INSTALLED = Path("/usr/lib/postgresql")
# What speeds tests up and what logical decoding needs.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "wal_level": "logical",
    "max_slot_wal_keep_size": "1GB",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "200",
}


def binaries() -> Path | None:
    """The folder that holds `postgres` and `initdb`, of the newest version there is; None when it is not installed."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(INSTALLED.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in found if (path / "postgres").exists() and (path / "initdb").exists()), None)


class Databases:
    """A server that somebody runs: gives databases of one's own on it."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._made = 0

    def url(self, database: str = "postgres") -> str:
        """The address of a database, as libpq and psycopg take it."""
        return f"{self._base}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """The name of a new database, a copy of `template` (to which nobody may be connected)."""
        self._made += 1
        name = f"tracker_test_{os.getpid()}_{self._made}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop_database(self, name: str) -> None:
        """Forget a database; those still connected to it are cut off."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _run(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def let_go(connection: psycopg.Connection[tuple[str]]) -> None:
    """Drop the replication slots of the connection's database: a reader that is gone holds one for a moment longer."""
    ours = "FROM pg_replication_slots WHERE database = current_database()"
    deadline = time.monotonic() + 20
    while connection.execute(f"SELECT pg_terminate_backend(active_pid) {ours} AND active").fetchall():
        if time.monotonic() > deadline:
            raise TimeoutError("a replication slot stays active")
        time.sleep(0.02)
    connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {ours}")


class PostgreSQL(Databases):
    """One server of our own. `start`, `stop`, `kill`, `start` again: data and port stay the same."""

    def __init__(self, bin_folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        # Not below pytest's own folder: only its owner may enter that, and the server refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="message-tracker-postgres-"))
        self.port = free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}")
        self._bin = bin_folder
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        command = [*self._as_user, str(bin_folder / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        options = SETTINGS | dict(settings) | {"unix_socket_directories": str(self.folder)}
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.process = Process("postgres", command, self.folder)

    def start(self) -> PostgreSQL:
        """Makes the data folder if there is none, starts, and returns when a query is answered."""
        if not (self.folder / "data").exists():
            self._initialise()
        self.process.start(lambda: psycopg.connect(self.url(), connect_timeout=2).close(), 30.0)
        return self

    def _initialise(self) -> None:
        if self._as_user:
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]
        command = [*self._as_user, str(self._bin / "initdb"), "-D", str(self.folder / "data"), *options]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60)

    def kill(self) -> None:
        """SIGKILL, as a crash. Its children are in sessions of their own and end by themselves a moment later; until
        then the data folder cannot be used again."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.process.kill()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and remove the folder. SIGINT cuts clients off, where SIGTERM would wait for them."""
        if self.process.running:
            os.kill(self.process.pid, signal.SIGINT)
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_factory() -> Iterator[Callable[..., PostgreSQL]]:
    """Starts servers of one's own: `postgres_factory(setting="value")` gives a running `PostgreSQL` that may be
    killed."""
    folder = binaries()
    if folder is None:
        missing("postgres", f"no postgres and initdb in {INSTALLED}/*/bin or on the PATH; {HINT}")
    made: list[PostgreSQL] = []

    def make(**settings: str) -> PostgreSQL:
        made.append(PostgreSQL(folder, settings))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Databases:
    """A running PostgreSQL shared by the session: `.url(database)`, `.create_database()`, `.drop_database(name)`.
    Use databases of your own. TRACKER_TEST_POSTGRES (postgresql://user:password@host:port) wins over our own."""
    url = os.environ.get("TRACKER_TEST_POSTGRES")
    server: Databases = Databases(url) if url else request.getfixturevalue("postgres_factory")()
    return server
