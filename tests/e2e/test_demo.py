"""`tracker demo --once`: the whole story in one command, and it names exactly what was lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRACKER = Path(sys.executable).with_name("tracker")


def told(*more: str) -> dict[str, Any]:
    """What the story ended with; nothing but JSON is on stdout."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    run = subprocess.run(
        [str(TRACKER), "demo", "--once", "--json", "--port", "0", *more],
        capture_output=True, text=True, timeout=200, env=bare, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def right(story: dict[str, Any]) -> None:
    """All that was lost, and nothing else, was named and came back."""
    assert story["found_ids"] == story["expected_ids"]
    assert story["found"] == story["expected"] == story["recovered"] == 23
    assert story["conserved"]
    assert story["produced"] == sum(story["verdicts"].values()) == 600
    assert story["verdicts"].get("late", 0) >= 23


def test_in_memory() -> None:
    """Without any server."""
    right(told())


@pytest.mark.brokers
def test_on_kafka(kafka_server: str) -> None:
    """On a real cluster, where it deletes its topic at the end."""
    from confluent_kafka.admin import AdminClient

    right(told("--broker", f"kafka://{kafka_server}"))
    assert not [
        name for name in AdminClient({"bootstrap.servers": kafka_server}).list_topics(timeout=10).topics
        if name.startswith("tracker-demo-")
    ]  # fmt: skip
