"""A collector that runs as `collectors run` would run it, in a thread; and what it told a tracker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collectors.emitter import Emitter
from collectors.registry import factory
from collectors.runner import Runner
from tests.contract.http_tracker import HttpTracker


def run(each: dict[str, Any], url: str, folder: Path) -> Callable[[], None]:
    """Run a collector, as a configuration has it, in a thread; gives what stops it."""
    own = {key: value for key, value in each.items() if key not in ("name", "kind")}
    collector = factory(each["kind"], folder / each["name"])(each["name"], own)
    emitter = Emitter(url, collector=each["name"], spool=folder / each["name"], reader=True)
    runner = Runner(each["name"], collector, emitter, folder / f"{each['name']}.rejects")
    thread = threading.Thread(target=runner.run)
    thread.start()

    def stop() -> None:
        runner.stop()
        thread.join(30)

    return stop


def lines(tracker: HttpTracker) -> list[dict[str, Any]]:
    """Everything that the tracker was sent."""
    return [line for request in tracker.requests for line in request.lines]


def covered(tracker: HttpTracker, stage: str) -> int:
    """How many sources of a stage the newest report that names any vouches for, with a lag of seconds at most."""
    for request in reversed(tracker.requests):
        found = [s for s in request.report.get("sources", []) if s["stage"] == stage]
        if found and request.report["lag_ms"] < 5000:
            return len(found)
    return 0
