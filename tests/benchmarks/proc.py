"""What a running process and its data folder look like from outside: memory, processor time by thread, parts."""

from __future__ import annotations

import collections
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PART = re.compile(r"(.+?)_(\d+)_(\d+)_(\d+)(?:_\d+)?")


def rss_mb(pid: int, field: str = "VmRSS") -> int:
    """Resident memory now; with `VmHWM` the most that it ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) >> 10


def process_cpu_s(pid: int) -> float:
    """Processor seconds of all threads, ended ones too."""
    return _cpu(Path(f"/proc/{pid}/stat"))[1]


def thread_cpu_s(pid: int) -> dict[tuple[int, str], float]:
    """Processor seconds of each living thread, by (id, name)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            name, seconds = _cpu(task / "stat")
            found[int(task.name), name] = seconds
    return found


def _cpu(stat: Path) -> tuple[str, float]:
    """Name and user plus system time; the name stands in brackets and may hold any character."""
    head, _, tail = stat.read_text().rpartition(")")
    fields = tail.split()
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS


def disk_bytes(folder: Path) -> int:
    """What all files of a folder take on disk."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def tables(ledger: Path, database: str = "tracker") -> dict[str, Path]:
    """The data folder of every table of an embedded engine."""
    return {link.name: link.resolve() for link in (ledger / "data" / database).iterdir()}


def active_parts(table: Path) -> int:
    """The most active parts of one partition: those that no other part, made by a merge, contains."""
    partitions: dict[str, list[tuple[int, int, int]]] = collections.defaultdict(list)
    for entry in os.scandir(table):
        if found := _PART.fullmatch(entry.name):
            partitions[found[1]].append((int(found[2]), -int(found[3]), -int(found[4])))
    return max((_uncovered(parts) for parts in partitions.values()), default=0)


def _uncovered(parts: list[tuple[int, int, int]]) -> int:
    """How many are not inside a part that begins no later, ends no sooner and was merged more often."""
    reached = count = -1
    for _, last, _ in sorted(parts):
        if -last > reached:
            count, reached = max(count, 0) + 1, -last
    return max(count, 0)


class Sampler:
    """Looks at a process every `interval` seconds until closed; ended threads keep what they had used when last seen.

    `parts` is the most active parts of one partition that each table ever had.
    """

    def __init__(self, pid: int, ledger: Path, interval: float = 0.5) -> None:
        self._pid, self._interval = pid, interval
        self._tables = tables(ledger)
        self._first = thread_cpu_s(pid)
        self._last = dict(self._first)
        self._before = process_cpu_s(pid)
        self.cpu_s = 0.0
        self.parts: dict[str, int] = {}
        self.now: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()

    def look(self) -> None:
        """One look, now."""
        with suppress(OSError):
            self.cpu_s = process_cpu_s(self._pid) - self._before
            self._last |= thread_cpu_s(self._pid)
            self.now = {name: active_parts(folder) for name, folder in self._tables.items()}
            self.parts = {name: max(count, self.parts.get(name, 0)) for name, count in self.now.items()}

    def close(self) -> None:
        """The last look; from then on nothing changes."""
        self._stop.set()
        self._thread.join()
        self.look()

    def threads(self) -> dict[str, float]:
        """Processor seconds since the start by thread name, most first; `(ended)`: threads that nobody saw."""
        spent: dict[str, float] = collections.defaultdict(float)
        for key, seconds in self._last.items():
            spent[key[1]] += seconds - self._first.get(key, 0.0)
        unseen = self.cpu_s - sum(spent.values())
        if unseen > 0:
            spent["(ended)"] = unseen
        ranked = sorted(spent.items(), key=lambda item: -item[1])
        return {name: round(seconds, 2) for name, seconds in ranked if seconds >= 0.01}


def settled(pid: int, quiet: float = 2.0, patience: float = 60.0) -> None:
    """Returns once the process has used next to no processor for `quiet` seconds, or when patience ends."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = process_cpu_s(pid)
        time.sleep(quiet)
        if process_cpu_s(pid) - before < 0.3 * quiet:
            return
