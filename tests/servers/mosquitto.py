"""A real Mosquitto, from Debian's binary, in a folder of its own that ends with the test run."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tests.servers.needed import HINT, missing
from tests.servers.ports import free_port
from tests.servers.process import Process

BINARY = "mosquitto"
BINARIES = f"{os.environ.get('PATH', '')}:/usr/sbin"
"""Debian's is not on everybody's PATH."""
USER, PASSWORD = "watcher", "its-password"
FORGETFUL: Mapping[str, str] = MappingProxyType({"persistence": "false"})
"""Sessions and queues end with the process."""
LASTING: Mapping[str, str] = MappingProxyType(
    {"persistence": "true", "autosave_on_changes": "true", "autosave_interval": "1"}
)
"""They are on disk after each change, and come back."""


class Mosquitto:
    """One broker of our own, which asks for a login. `start`, `stop`, `kill`, `start` again: folder and port stay."""

    def __init__(self, folder: Path, binary: str, settings: Mapping[str, str], more: str = "") -> None:
        self.port = free_port()
        self.url = f"mqtt://{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        passwords, config = folder / "passwords", folder / "mosquitto.conf"
        passwords.write_text(f"{USER}:{PASSWORD}\n")
        passwords.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        given = {
            "user": getpass.getuser(),  # started by root it would become another one
            "listener": f"{self.port} 127.0.0.1",
            "allow_anonymous": "false",
            "password_file": str(passwords),
            "persistence_location": f"{folder}/",
            "sys_interval": "1",
            **settings,
        }
        config.write_text("".join(f"{name} {value}\n" for name, value in given.items()) + more)
        self.process = Process("mosquitto", [binary, "-c", str(config)], folder)

    def start(self) -> Mosquitto:
        """Returns when it answers."""
        self.process.start(self._answers, 30.0)
        return self

    def client(self, client_id: str = "") -> Client:
        """A client that is connected; its loop is the caller's."""
        made = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5)
        made.username_pw_set(USER, PASSWORD)
        made.connect("127.0.0.1", self.port)
        return made

    def _answers(self) -> None:
        client = self.client()
        while not client.is_connected():
            if (code := client.loop(2.0)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise ConnectionError(code)
        client.disconnect()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.kill()

    def stop(self) -> None:
        """End it, as an operator does."""
        self.process.stop()


@pytest.fixture(scope="session")
def mosquitto_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mosquitto]]:
    """Starts brokers of one's own: `mosquitto_factory(LASTING)` gives a running `Mosquitto` that may be killed. `more`
    is the end of its configuration: another listener."""
    binary = shutil.which(BINARY, path=BINARIES)
    if binary is None:
        missing("mosquitto", f"`mosquitto` is not on the PATH; {HINT}")
    made: list[Mosquitto] = []

    def make(settings: Mapping[str, str] = FORGETFUL, more: str = "") -> Mosquitto:
        made.append(Mosquitto(tmp_path_factory.mktemp("mosquitto"), binary, settings, more))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def mosquitto_server(mosquitto_factory: Callable[..., Mosquitto]) -> Mosquitto:
    """A running Mosquitto shared by the session: `.url`, `.client()`. Use topics and sessions of your own, and do not
    stop it (`mosquitto_factory` gives one to kill)."""
    return mosquitto_factory()
