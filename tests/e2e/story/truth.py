"""What really happened, as the applications wrote it down before they told anybody else."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

NONE = "-"


class Line(NamedTuple):
    """Something done to a message at a time (seconds since 1970); `replay` names the replay that had sent it."""

    at: float
    what: str
    message_id: str
    replay: str


class Truth:
    """An append-only file. One `write` system call per line: a SIGKILL loses none that was written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, message_id: str, replay: str = "") -> None:
        """In the file when this returns."""
        os.write(self._file, f"{time.time():.6f} {what} {message_id} {replay or NONE}\n".encode())


class Told:
    """A truth file, read."""

    def __init__(self, path: Path) -> None:
        split = [line.split(" ") for line in path.read_text().splitlines()]
        self.lines = [Line(float(at), what, name, "" if by == NONE else by) for at, what, name, by in split]

    def ids(self, what: str) -> set[str]:
        """Every message that this was done to."""
        return {line.message_id for line in self.lines if line.what == what}

    def first(self, what: str) -> dict[str, float]:
        """When it was done to each message for the first time."""
        times: dict[str, float] = {}
        for line in self.lines:
            if line.what == what:
                times.setdefault(line.message_id, line.at)
        return times

    def twice(self, what: str) -> set[str]:
        """The messages that it was done to more than once, replays not counted."""
        times = Counter(line.message_id for line in self.lines if line.what == what and not line.replay)
        return {name for name, count in times.items() if count > 1}

    def replayed(self, what: str) -> Counter[str]:
        """How often it was done to each message because a replay had sent it."""
        return Counter(line.message_id for line in self.lines if line.what == what and line.replay)
