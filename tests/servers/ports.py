"""Ports that nobody else takes while a test run lives."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

# Below the range that Linux hands to outgoing connections (32768-60999): a server that is killed and started again on
# the same port must not find it taken by somebody's client socket.
FIRST, LAST = 20_000, 31_999

_held: list[IO[str]] = []


def _claim(port: int, folder: Path) -> bool:
    """Locks the port's file for the life of this process, so that parallel runs never choose the same one."""
    lock = (folder / str(port)).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            return False
    _held.append(lock)
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now and that no other test process will be given before this one ends."""
    folder = Path(tempfile.gettempdir()) / f"message-tracker-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    chooser = random.Random()  # not the seeded global one: parallel workers share its seed
    for _ in range(1000):
        port = chooser.randint(FIRST, LAST)
        if _claim(port, folder):
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}: see which processes listen there (ss -ltnp)")
