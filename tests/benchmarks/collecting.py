"""How quick one process of collectors is, from a broker to the tracker's yes: what the benchmarks of systems share."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.benchmarks import proc
from tests.benchmarks.watch import load
from tests.e2e.service import Service, environment
from tests.servers.ports import free_port
from tests.servers.process import Process

COUNTED = re.compile(r'tracker_ingest_events_total\{flow="orders"\} (\S+)')
LOOK = 0.1
"""Seconds between two looks at how far it is."""
FRESH_S, LONGEST_S = 2.0, 60.0
PATIENCE = 1800.0


@dataclass(frozen=True)
class Target:
    """What collectors tell: a tracker, or a sink that says yes at once."""

    url: str
    process: Process

    def events(self) -> int:
        """So many were stored."""
        found = COUNTED.search(httpx.get(f"{self.url}/metrics", timeout=30).text)
        return int(float(found[1])) if found else 0

    def lag_s(self) -> float:
        """How old the newest thing is that is vouched for."""
        rows = httpx.get(f"{self.url}/v1/coverage", params={"flow": "orders", "limit": 1000}, timeout=30).json()
        return min((age_s(row["end"]) for row in rows["items"]), default=math.inf)


def age_s(moment: str) -> float:
    """How long ago."""
    return round(time.time() - datetime.fromisoformat(moment).timestamp(), 2)


def target(stack: ExitStack, folder: Path, spec: str, sink: bool) -> Target:
    """Started; ended with the stack."""
    if sink:
        port = free_port()
        process = Process("sink", [sys.executable, "-m", "tests.benchmarks.sink", str(port)], folder, environment())
        stack.callback(process.stop)
        url = f"http://127.0.0.1:{port}"
        process.start(lambda: httpx.get(f"{url}/readyz"))  # type: ignore[arg-type]
        return Target(url, process)
    service = Service(folder, "--insecure")
    stack.callback(service.process.stop, 120.0)
    service.start()
    service.http.put("/v1/flows", content=spec).raise_for_status()
    service.http.close()
    return Target(service.url, service.process)


def collecting(stack: ExitStack, folder: Path, told: Target, described: Mapping[str, Any]) -> Process:
    """`collectors run` with one collector, its threads named; ended with the stack."""
    config = folder / "collectors.yaml"
    settings = {"tracker": {"url": told.url}, "spool": str(folder / "spool"), "collectors": [dict(described)]}
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "tests.benchmarks.named", "collectors", "run", str(config)]
    process = Process("collectors", command, folder, environment())
    stack.callback(process.stop, 60.0)
    process.start(lambda: None)
    return process


def measured(told: Target, process: Process, wanted: int, others: Mapping[str, Process]) -> dict[str, Any]:
    """From the first records that were stored to the last of `wanted`, so that starting does not count."""
    before, watched = load(), {"collector": process, "target": told.process, **others}
    first = _until(told, lambda events: events > 0)
    began, spent = time.perf_counter(), {name: proc.process_cpu_s(one.pid) for name, one in watched.items()}
    threads = proc.thread_cpu_s(process.pid)
    _until(told, lambda events: events >= wanted)
    seconds, count = time.perf_counter() - began, wanted - first
    used = {name: proc.process_cpu_s(one.pid) - spent[name] for name, one in watched.items()}
    later = proc.thread_cpu_s(process.pid)
    by_thread: dict[str, float] = {}
    for (ident, name), value in later.items():
        by_thread[name] = by_thread.get(name, 0.0) + value - threads.get((ident, name), 0.0)
    return {
        "records": wanted,
        "records_per_s": round(count / seconds),
        "seconds": round(seconds, 2),
        **{f"{name}_cpu_us_per_record": round(value / count * 1e6, 2) for name, value in used.items()},
        "threads_cpu_us_per_record": {
            name: round(value / count * 1e6, 2) for name, value in sorted(by_thread.items(), key=lambda one: -one[1])
            if value / count * 1e6 >= 0.01
        },
        "vouched_after_s": _caught_up(told),
        "peak_rss_mb": proc.rss_mb(process.pid, "VmHWM"),
        "load_average": [before, load()],
    }  # fmt: skip


def _caught_up(told: Target) -> float:
    """How long after the last record it took until what is vouched for is no older than two seconds."""
    began = time.perf_counter()
    while told.lag_s() > FRESH_S and time.perf_counter() - began < LONGEST_S:
        time.sleep(LOOK)
    return round(time.perf_counter() - began, 2)


def _until(told: Target, met: Callable[[int], bool]) -> int:
    until = time.monotonic() + PATIENCE
    while not met(events := told.events()):
        if time.monotonic() > until:
            raise SystemExit(f"{events} stored after {PATIENCE:.0f} s\n{told.process.tail()}")
        time.sleep(LOOK)
    return events


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several runs the one in which the collector took the least processor time for a record."""
    return min(runs, key=lambda one: float(one["collector_cpu_us_per_record"]))


def told(result: Mapping[str, Any], as_json: bool) -> None:
    """Print it."""
    print(json.dumps(result) if as_json else json.dumps(result, indent=2))
