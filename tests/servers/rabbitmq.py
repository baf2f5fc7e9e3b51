"""A real RabbitMQ node, from Debian's package, without its system user, its service and its default ports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pika

from tests.servers.ports import free_port
from tests.servers.process import Process, accepts

# Not /usr/sbin/rabbitmq-server: Debian's wrapper changes to the system user and to /var/lib/rabbitmq.
SCRIPTS = Path("/usr/lib/rabbitmq/bin")
PLUGINS = "rabbitmq_management,rabbitmq_event_exchange,rabbitmq_prometheus,rabbitmq_stream"


def scripts() -> Path | None:
    """The folder with RabbitMQ's own scripts, or None when it or epmd is not installed."""
    return SCRIPTS if (SCRIPTS / "rabbitmq-server").exists() and shutil.which("epmd") else None


class RabbitMQ:
    """One node. `start`, `stop`, `kill`, `start` again: its data, name and ports stay the same."""

    def __init__(self, folder: Path, plugins: str = PLUGINS, conf: str = "") -> None:
        self.folder = folder
        self.port, self.management_port, self.stream_port = free_port(), free_port(), free_port()
        self.metrics_port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self.management_url = f"http://guest:guest@127.0.0.1:{self.management_port}"
        self.node = f"tracker-{self.port}@localhost"
        self._plugins = plugins
        self._conf = conf
        self._env = self._environment()
        self._epmd = Process(
            "epmd", ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)], folder, self._env
        )
        self.process = Process("rabbitmq", [str(SCRIPTS / "rabbitmq-server")], folder, self._env)

    def _environment(self) -> dict[str, str]:
        at = self.folder
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(at / "home"),  # the Erlang cookie lives here
            # exec the Erlang machine in place of the shell, so that our pid is the server's
            "RUNNING_UNDER_SYSTEMD": "1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(at / "mnesia"),
            "RABBITMQ_LOG_BASE": str(at / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(at / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(at / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(at / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(at / "rabbitmq-env.conf"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(at / "feature_flags"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
        }

    def _write(self) -> None:
        for name in ("home", "mnesia", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "enabled_plugins").write_text(f"[{self._plugins}].\n")
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            "collect_statistics_interval = 1000",
            "log.console = true",
            "log.console.level = warning",
        ]
        # A key of a plugin that is not enabled is an unknown key, and with one of those the node does not boot.
        if "rabbitmq_management" in self._plugins:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.management_port}"]
        if "rabbitmq_stream" in self._plugins:
            lines += [f"stream.listeners.tcp.default = 127.0.0.1:{self.stream_port}"]
        if "rabbitmq_prometheus" in self._plugins:
            lines += ["prometheus.tcp.ip = 127.0.0.1", f"prometheus.tcp.port = {self.metrics_port}"]
        (self.folder / "rabbitmq.conf").write_text("\n".join([*lines, self._conf, ""]))

    def _answers(self) -> None:
        accepts(self.port)
        pika.BlockingConnection(pika.URLParameters(self.url)).close()
        if "rabbitmq_management" in self._plugins:
            httpx.get(f"{self.management_url}/api/overview", timeout=5.0).raise_for_status()

    def start(self, timeout: float = 90.0) -> RabbitMQ:
        """Starts the node (again) and returns when it takes an AMQP connection and its management API answers."""
        self._write()
        if not self._epmd.running:
            self._epmd.start(lambda: accepts(self._epmd_port), 10.0)
        self.process.start(self._answers, timeout)
        return self

    def stop(self) -> None:
        """A clean shutdown; the private epmd, which outlives a node, ends too."""
        self.process.stop(30.0)
        self._epmd.kill()

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with its data."""
        self.process.kill()

    def ctl(self, *arguments: str) -> str:
        """Runs `rabbitmqctl` against this node and gives its output. RuntimeError with its words when it fails."""
        command = [str(SCRIPTS / "rabbitmqctl"), "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._env, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def trace(self, on: bool = True, vhost: str = "/") -> None:
        """Switches the firehose on or off. A node that restarts has it off again."""
        self.ctl("trace_on" if on else "trace_off", "-p", vhost)
