"""Real Prometheus and Alertmanager servers, from Debian's packages."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.servers.ports import free_port
from tests.servers.process import Process


class Prometheus:
    """A Prometheus with the given configuration (YAML text), writing into `folder`."""

    def __init__(self, folder: Path, binary: str, config: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._config = config
        command = [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            "--web.enable-remote-write-receiver",
        ]
        self.process = Process("prometheus", command, folder)

    def start(self) -> Prometheus:
        """Writes the configuration, starts, and returns when the server says that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "prometheus.yml").write_text(self._config)
        self.process.start(lambda: _ready(self.url), 30.0)
        return self

    def query(self, expression: str) -> list[dict[str, object]]:
        """The instant vector (or scalar) that a PromQL expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10.0)
        answer.raise_for_status()
        result: list[dict[str, object]] = answer.json()["data"]["result"]
        return result

    def stop(self) -> None:
        """Ends it, as an operator does."""
        self.process.stop()


class Alertmanager:
    """An Alertmanager with the given configuration (YAML text), without gossip."""

    def __init__(self, folder: Path, binary: str, config: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._config = config
        command = [
            binary,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        self.process = Process("alertmanager", command, folder)

    def start(self) -> Alertmanager:
        """Writes the configuration, starts, and returns when the server says that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "alertmanager.yml").write_text(self._config)
        self.process.start(lambda: _ready(self.url), 30.0)
        return self

    def stop(self) -> None:
        """Ends it, as an operator does."""
        self.process.stop()


def _ready(url: str) -> None:
    httpx.get(f"{url}/-/ready", timeout=2.0).raise_for_status()
