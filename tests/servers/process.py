"""One server process: started, proved ready, paused, stopped or killed, always by its own pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Probe = Callable[[], None]
"""Returns when the server answers in its own protocol, raises while it does not."""

# The guard outlives a test run that was killed: its stdin ends, and it takes the server's process group along.
_GUARD = 'cat >/dev/null; kill -s KILL -- "-$1" 2>/dev/null'


class NotReady(RuntimeError):
    """The server did not become ready; the message ends with the tail of its log."""


class Process:
    """A server that can be started again after it was stopped or killed, with the same command, ports and folder."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._env = dict(env) if env is not None else None
        self._child: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id; RuntimeError when it was not started."""
        if self._child is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self, probe: Probe, timeout: float = 60.0) -> None:
        """Starts it and returns when `probe` succeeds. Raises NotReady after `timeout` seconds or when it exits."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already (pid {self.pid})")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._env,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._child.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self._wait_ready(probe, timeout)
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self, probe: Probe, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            code = self._child.poll() if self._child else None
            if code is not None:
                raise NotReady(f"{self.name} ended with status {code} before it was ready\n{self.tail()}")
            try:
                probe()
                return
            except Exception as error:  # whatever a client raises while the server is still coming up
                if time.monotonic() > deadline:
                    reason = f"{type(error).__name__}: {error}"
                    raise NotReady(f"{self.name} not ready within {timeout:.0f} s ({reason})\n{self.tail()}") from error
            time.sleep(0.05)

    def tail(self, lines: int = 40) -> str:
        """The last lines of the server's log, for an error message."""
        if not self.log.exists():
            return f"({self.log} does not exist)"
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- {self.log} ---", *last])

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, as an operator does; SIGKILL when it has not ended after `timeout` seconds. Idempotent."""
        if self.running:
            self.resume()
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and what it started; the folder stays as it was. Idempotent."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin:
                self._guard.stdin.close()
        self._child = self._guard = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)


def accepts(port: int) -> None:
    """Raises OSError unless something accepts TCP connections on 127.0.0.1:`port`."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0):
        pass
