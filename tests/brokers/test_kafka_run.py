"""The example of the docs page, through the one runner and emitter, against a real Kafka."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from collectors.emitter import Emitter
from collectors.registry import factory
from collectors.runner import Runner
from tests.brokers.kafka_topic import own_topic, wait_for
from tests.contract.http_tracker import HttpTracker

pytestmark = pytest.mark.brokers
PAGE = Path(__file__).parents[2] / "docs" / "collectors" / "kafka.md"


def example(topic: str, servers: str) -> list[dict[str, Any]]:
    """The collectors of the page's configuration, on a topic of the test's."""
    found = re.search(r"```yaml\n(tracker:.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("127.0.0.1:9092", servers).replace("topic: orders", f"topic: {topic}")
    collectors: list[dict[str, Any]] = yaml.safe_load(text)["collectors"]
    return collectors


def test_the_example_of_the_docs_reports_what_happened(kafka_server: str, tmp_path: Path) -> None:
    """Each record is a `persist`, the group's commit is a range; both are covered, and positions are kept."""
    with own_topic(kafka_server, partitions=2) as topic, HttpTracker() as tracker:
        tail, groups = example(topic.name, kafka_server)
        names = [f"m-{n}" for n in range(200)]
        topic.put(names, partition=1)
        with Consumer(topic.client(group_id="inventory-service")) as app:
            app.commit(offsets=[TopicPartition(topic.name, 1, 120)], asynchronous=False)
        stops = [run(each, tracker.url, tmp_path, topic.name) for each in (tail, groups)]
        try:
            wait_for(lambda: covered(tracker, "persist") >= 2 and covered(tracker, "ack") >= 2, "coverage")
            wait_for(lambda: len(lines(tracker)) >= 201, "all lines")
            wait_for(lambda: kept(topic, tail["name"]) == 200, "the position")
        finally:
            for stop in stops:
                stop()
    seen = lines(tracker)
    ranges = [line for line in seen if line.get("evidence") == "range"]
    assert sorted(line["message_id"] for line in seen if line["stage"] == "persist") == sorted(names)
    assert [(r["hop"], r["log"], r["offset"], r["offset_to"]) for r in ranges] == [("inventory", "kafka-eu", 0, 120)]


def run(each: dict[str, Any], url: str, folder: Path, unique: str) -> Callable[[], None]:
    """Run a collector in a thread; gives what stops it."""
    own = {key: value for key, value in each.items() if key not in ("name", "kind")}
    each["name"] = f"{each['name']}.{unique}"
    collector = factory(each["kind"])(each["name"], own)
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


def kept(topic: Any, name: str) -> int:
    """The position that the tail has kept for partition 1."""
    with Consumer(topic.client(group_id=f"tracker.{name}")) as look:
        offset: int = look.committed([TopicPartition(topic.name, 1)], timeout=20)[0].offset
        return offset
