"""Archives of real brokers: nothing that was committed is missing, and what a broker lost is there."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from confluent_kafka import Consumer, TopicPartition

from collectors.rabbitmq import dead_queue
from collectors.rabbitmq.publisher import publisher
from collectors.rabbitmq.table import told
from tests.brokers.archived import COLLECTORS, Archived, archived
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tests.brokers.rabbitmq_headers import Headers, header
from tests.brokers.rabbitmq_vhost import own_vhost
from tests.brokers.running import covered
from tests.contract.http_tracker import HttpTracker
from tests.e2e.service import environment
from tests.servers.process import Process
from tests.unit.collectors.archiving import key_file
from tracker.model.carry import MESSAGE_ID, Copy

pytestmark = pytest.mark.brokers
PARTITIONS = 3
MADE = datetime(2026, 11, 22, tzinfo=UTC)
PROPERTIES: dict[str, Any] = {
    "content_type": "application/json", "content_encoding": "identity", "delivery_mode": 2, "priority": 3,
    "correlation_id": "c-1", "reply_to": "answers", "expiration": "3600000", "timestamp": int(time.time()),
    "type": "order", "app_id": "shop", "cluster_id": "c",
}  # fmt: skip


def committed(topic: Topic, name: str) -> dict[int, int]:
    """What the collector need not read again, by partition."""
    with Consumer(topic.client(group_id=f"tracker.{name}")) as look:
        kept = look.committed([TopicPartition(topic.name, n) for n in range(PARTITIONS)], timeout=20)
        return {each.partition: max(each.offset, 0) for each in kept}


def offsets(one: Archived) -> dict[str, set[int]]:
    """What its archive holds, by partition."""
    shelves, held = one.archives()._shelves, dict[str, set[int]]()
    for segment in shelves.segments("orders"):
        table = shelves.table(segment)
        for partition, offset in zip(*(table.column(n).to_pylist() for n in ("partition", "offset")), strict=True):
            held.setdefault(partition, set()).add(offset)
    return held


def test_a_sigkill_loses_nothing_that_was_committed(kafka_server: str, tmp_path: Path) -> None:
    """Killed again and again in the midst of it: whatever Kafka was told to be done is in the archive, at each death;
    in the end each record is, with its own bytes, and the chain of segments has no gap."""
    with own_topic(kafka_server, partitions=PARTITIONS) as topic:
        route = {"topic": topic.name, "flow": "orders", "hop": "kafka-eu"}
        name = f"tail.{topic.name}"
        collector = {"name": name, "kind": "kafka", "url": topic.url, "topics": [route]}
        names: list[str] = []
        with archived(tmp_path, collector) as one:
            for death in range(4):
                batch = [f"m-{death}-{n}" for n in range(2000)]
                topic.put(batch, headers={"kind": b"order", "\u00e4": b"\xff"})
                names += batch
                reached = sum(committed(topic, name).values())

                def moved(least: int = reached) -> bool:
                    return sum(committed(topic, name).values()) > least

                wait_for(moved, "a commit")
                one.process.kill()
                done, held = committed(topic, name), offsets(one)
                for partition, end in done.items():
                    assert held.get(f"{topic.name}/{partition}", set()) >= set(range(end))
                one.start()
            wait_for(lambda: sum(committed(topic, name).values()) == len(names), "all commits", 60)
            found = one.source("kafka-eu").find("orders", names)
            assert len(found) == len(names)
            copies = [each for each in one.source("kafka-eu").fetch(found) if isinstance(each, Copy)]
            assert {each.locator.message_id: each.value for each in copies} == {name: name.encode() for name in names}
            assert copies[0].headers.keys() == {MESSAGE_ID, "kind", "\u00e4"}
            assert copies[0].headers["\u00e4"] == b"\xff"
        (held_of,) = one.archives().held()
        assert held_of.gaps == []
        assert len(held_of.watched) == PARTITIONS
        assert one.archives().verify().wrong == []


def test_what_kafka_deleted_can_be_restored(kafka_server: str, tmp_path: Path) -> None:
    """The topic is gone. Of a moment in the midst of it the archive has each partition's records up to then, and says
    that nothing is missing there."""
    with own_topic(kafka_server, partitions=PARTITIONS) as topic:
        route = {"topic": topic.name, "flow": "orders", "hop": "kafka-eu"}
        name = f"tail.{topic.name}"
        collector = {"name": name, "kind": "kafka", "url": topic.url, "topics": [route]}
        with archived(tmp_path, collector) as one:
            wait_for(lambda: covered(one.tracker, "persist") == PARTITIONS, "coverage")
            before, after = [f"b-{n}" for n in range(300)], [f"a-{n}" for n in range(300)]
            topic.put(before)
            time.sleep(0.02)  # Kafka's clock has milliseconds
            until = time.time_ns() // 1000
            time.sleep(0.02)
            topic.put(after)
            wait_for(lambda: sum(committed(topic, name).values()) == 600, "all commits")
            wait_for(lambda: one.archives().held()[0].watched[0].until > until, "the span is vouched for")
            topic.delete()
        restored = one.archives().restore("orders", until, tmp_path / "restored")
        (hop,) = restored.hops
        assert hop.records == 300
        assert sum(partition.records for partition in hop.partitions) == 300
        assert all(partition.in_order for partition in hop.partitions)
        late = [gap for gap in hop.incomplete if gap.cause != "read from before it was watched"]
        assert late == []


def test_a_purged_queue_comes_back_from_the_archive(rabbitmq_server: Any, tmp_path: Path) -> None:
    """All messages of a queue that somebody purged are found by id, and go into it again as they were: payload,
    properties, and headers in their types, those too that no client library can read."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        collector = {**vhost.settings(), "name": f"firehose.{vhost.name}", "kind": "rabbitmq"}
        names, user = [f"m-{n}" for n in range(600)], urlsplit(vhost.url).username or "guest"
        with archived(tmp_path, collector) as one:
            wait_for(lambda: covered(one.tracker, "persist"), "coverage")
            for name in names:
                headers = {"kind": "order", "n": 7, "raw": b"\xff\x00", "deep": {"a": [1]}, "made": MADE, "yes": True}
                vhost.publish(name, headers=headers, user_id=user, **PROPERTIES)
            broken = Headers(header("when", b"T", struct.pack(">Q", 2**60)), message_id="m-broken")
            vhost.channel.basic_publish("orders", "new.eu", b"m-broken", broken)
            names.append("m-broken")
            source = one.source("rabbit-billing")
            wait_for(lambda: len(source.find("orders", names)) == len(names), "all of them archived", 30)
            vhost.channel.queue_purge("billing")
            assert vhost.message_count("billing") == 0
            answers = source.fetch(source.find("orders", names))
            copies = [each for each in answers if isinstance(each, Copy)]
            assert {each.locator.message_id: each.value for each in copies} == {name: name.encode() for name in names}
            there = copies[0].headers
            assert (there["kind"], there["n"], there["raw"]) == (b"order", b"7", b"\xff\x00")
            assert json.loads(there["deep"]) == {"a": [1]}
        back = publisher({"url": vhost.url, "queue": "billing"})
        assert [sent.error for sent in back.publish(copies)] == [""] * len(names)
        back.close()
        wait_for(lambda: vhost.message_count("billing") == len(names), "all of them back")
        _, properties, body = vhost.channel.basic_get("billing", auto_ack=True)
        assert isinstance(properties, pika.BasicProperties)
        assert body.decode() == properties.message_id
        assert (properties.headers, properties.user_id) == (headers, user)
        assert {name: getattr(properties, name) for name in PROPERTIES} == PROPERTIES
        vhost.channel.queue_purge("billing")
        back = publisher({"url": vhost.url, "queue": "billing"})
        [broken_copy] = [copy for copy in copies if copy.locator.message_id == "m-broken"]
        assert [sent.error for sent in back.publish([broken_copy])] == [""]
        back.close()
        with closing(dead_queue.source({"url": vhost.url, "queue": "billing"})) as queue:
            [again] = queue.fetch(queue.find("orders", ["m-broken"]))
        assert isinstance(again, Copy)
        assert told(again.native) == told(broken_copy.native)


def test_more_than_the_prefetch_flows_without_waiting_for_age(rabbitmq_server: Any, tmp_path: Path) -> None:
    """RabbitMQ gives out only so many records before it wants acks: segments are closed before that, not by the
    clock."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        collector = {**vhost.settings(prefetch=40), "name": f"firehose.{vhost.name}", "kind": "rabbitmq"}
        with archived(tmp_path, collector) as one:
            one.process.stop()
            one.config.write_text(one.config.read_text().replace("200ms", "1h"))
            one.start()
            wait_for(lambda: covered(one.tracker, "persist"), "coverage")
            names = [f"m-{n}" for n in range(400)]
            for name in names:
                vhost.publish(name)
            wait_for(lambda: len(one.source("rabbit-billing").find("orders", names)) > 350, "most of them archived")


def test_the_page_does_what_it_says(kafka_server: str, tmp_path: Path) -> None:
    """Its configuration archives, and its commands answer, as they stand there."""
    text = (Path(__file__).parents[2] / "docs" / "collectors" / "archive.md").read_text()
    said, commands = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("yaml", "sh"))
    with own_topic(kafka_server) as topic, HttpTracker() as tracker:
        places = {
            "http://127.0.0.1:8000": tracker.url,
            "127.0.0.1:9092": kafka_server,
            "topic: orders": f"topic: {topic.name}",
            "name: kafka-eu": f"name: {topic.name}",
            "/var/lib": str(tmp_path),
            "/run/secrets/orders": str(tmp_path / "key"),
        }
        for old, new in places.items():
            assert old in said
            said = said.replace(old, new)
        (tmp_path / "collectors.yaml").write_text(said)
        key_file(tmp_path)
        topic.put([f"m-{n}" for n in range(50)])
        env = {**environment(), "TRACKER_TOKEN": "x"}
        process = Process("collectors", [COLLECTORS, "run", str(tmp_path / "collectors.yaml")], tmp_path, env)
        process.start(lambda: None)
        try:
            wait_for(lambda: covered(tracker, "persist"), "coverage")
            wait_for(lambda: len(set(tracker.ids)) == 50, "all of them")
        finally:
            process.stop()
        told = {}
        for line in commands.splitlines():
            words = [COLLECTORS, *line.split()[1:]]
            told[words[2]] = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert told["list"].returncode == 0, told["list"].stdout
        assert "1 segments with 50 records are whole, 0 files are not" in told["verify"].stdout
        assert "0 segments would be deleted" in told["prune"].stdout
        assert "kafka-eu: 50 records" in told["restore"].stdout, told["restore"].stderr
        assert (tmp_path / "restored" / "restored.json").exists()
