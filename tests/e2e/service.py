"""A real `tracker serve` process on the embedded engine, and a client of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any

import httpx

from tests.servers.ports import free_port
from tests.servers.process import Process

TRACKER = str(Path(sys.executable).with_name("tracker"))
PATIENCE = 60.0
"""Seconds that a machine with other work to do gets for what takes one."""


def environment(**settings: str) -> dict[str, str]:
    """The environment without any TRACKER_ variable but `settings`. Compiled modules are kept, wherever the checkout
    lies, because many processes are started."""
    left_out = ("TRACKER_", "PYTHONDONTWRITEBYTECODE")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    compiled = Path(tempfile.gettempdir()) / f"message-tracker-pycache-{os.getuid()}"
    return clean | {"PYTHONPYCACHEPREFIX": str(compiled)} | settings


class Service:
    """Start, stop, kill; the ledger's folder stays."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"TRACKER_STORE": f"chdb://{folder / 'ledger'}", **settings}
        command = [TRACKER, "serve", "--port", str(self.port), *options]
        self.process = Process("tracker", command, folder, environment(**self.settings))
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def start(self) -> Service:
        """Returns once it is ready."""
        self.process.start(self._ready, PATIENCE)
        return self

    def _ready(self) -> None:
        httpx.get(f"{self.url}/readyz", timeout=5).raise_for_status()

    def close(self) -> None:
        """Stop it and let go of the connection."""
        self.http.close()
        self.process.stop()

    def send(self, events: Iterable[Mapping[str, Any]], **headers: str) -> dict[str, Any]:
        """POST /v1/events; all must be taken."""
        body = "\n".join(json.dumps(event) for event in events)
        answer = self.http.post("/v1/events", content=body, headers={"Content-Type": "application/x-ndjson", **headers})
        answer.raise_for_status()
        return dict(answer.json())

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`."""
        answer = self.http.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    def until(self, look: Callable[[], Any], wanted: Callable[[Any], bool], patience: float = PATIENCE) -> Any:
        """What `look` gives once it is as wanted; AssertionError with the last look when it never is."""
        deadline = time.monotonic() + patience
        while not wanted(found := look()):
            assert time.monotonic() < deadline, f"still {found}\n{self.process.tail()}"
            time.sleep(0.1)
        return found

    def cli(self, *arguments: str, token: str = "", patience: float = PATIENCE) -> CompletedProcess[str]:
        """The `tracker` command as a client of this service. `patience`: seconds that it, and an answer, may take."""
        about = {"TRACKER_URL": self.url, "TRACKER_TOKEN": token, "TRACKER_TIMEOUT_S": str(patience)}
        return _command(arguments, about | self.settings, patience)


def tracker(*arguments: str, **settings: str) -> CompletedProcess[str]:
    """One command, to its end."""
    return _command(arguments, settings, PATIENCE)


def _command(arguments: Sequence[str], settings: Mapping[str, str], patience: float) -> CompletedProcess[str]:
    command = [TRACKER, *arguments]
    return run(command, env=environment(**settings), capture_output=True, text=True, timeout=patience)


def now_us() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000
