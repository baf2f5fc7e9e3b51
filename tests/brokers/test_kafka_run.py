"""The example of the docs page, through the one runner and emitter, against a real Kafka."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from tests.brokers.kafka_topic import own_topic, wait_for
from tests.brokers.running import covered, lines, run
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
        for each in (tail, groups):
            each["name"] = f"{each['name']}.{topic.name}"
        stops = [run(each, tracker.url, tmp_path) for each in (tail, groups)]
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


def kept(topic: Any, name: str) -> int:
    """The position that the tail has kept for partition 1."""
    with Consumer(topic.client(group_id=f"tracker.{name}")) as look:
        offset: int = look.committed([TopicPartition(topic.name, 1)], timeout=20)[0].offset
        return offset
