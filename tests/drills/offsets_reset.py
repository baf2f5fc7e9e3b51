"""Somebody sets a consumer group's offsets to the end of its topic, past messages that nobody has read. Kafka keeps
them, and the group will never be given them.

    python -m tests.drills.offsets_reset --json
    python -m tests.drills.offsets_reset --kill --json
"""

from __future__ import annotations

import time
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.drills import truth
from tests.drills.reading import produce, reading
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_kafka

SPEC = """flow: orders
checkpoints:
  - {hop: kafka, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: kafka, within: 25s, coverage: watermark}
"""
READ, UNREAD, AFTER = range(1000), range(1000, 1700), range(1700, 3000)


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the topic holds and the application was never given."""
    with started_kafka(folder / "kafka", num_partitions="2", group_initial_rebalance_delay_ms="3000") as broker:
        url = f"kafka://{broker.bootstrap}"
        collectors = [
            {"name": "kafka", "kind": "kafka", "url": url,
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}]},
            {"name": "groups", "kind": "kafka-groups", "url": url,
             "groups": [{"group": "billing", "topic": "orders", "flow": "orders", "hop": "billing", "log": "kafka"}]},
        ]  # fmt: skip
        broker.create_topic("orders", 2)
        with scene(folder, SPEC, collectors) as made:
            made.watch(sources=4)
            with reading(broker.bootstrap, "billing", "orders") as before:
                produce(broker.bootstrap, "orders", [f"m-{n}" for n in READ])
                made.until(lambda: len(before) == len(READ), "the application")
            produce(broker.bootstrap, "orders", [f"m-{n}" for n in UNREAD])
            time.sleep(3)  # the group is seen without members
            if kill:
                made.kill_collectors()
            _reset(broker.bootstrap)
            time.sleep(3)  # and still has none
            if kill:
                made.watch(sources=2)
            with reading(broker.bootstrap, "billing", "orders") as after:
                produce(broker.bootstrap, "orders", [f"m-{n}" for n in AFTER])
                made.until(lambda: len(after) == len(AFTER), "the application")
            lost = truth.in_topic(broker.bootstrap, "orders") - before - after
            made.decided(AFTER.stop)
            found = made.findings()
            assert all("(skipped)" in one["why"] and one["held_by"] == ["kafka"] for one in found), found[:3]
            return made.result("offsets_reset", sorted(lost), blind=made.unknown(lost), killed=kill)


def _reset(bootstrap: str) -> None:
    """What `kafka-consumer-groups.sh --reset-offsets --to-latest --execute` asks of the brokers."""
    latest = [TopicPartition("orders", number, at) for number, at in truth.ends(bootstrap, "orders").items()]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("billing", latest)])
    for place in asked["billing"].result(30).topic_partitions:
        if place.error:
            raise AssertionError(f"the offsets were not set: {place.error}")


if __name__ == "__main__":
    end(main(drill, __doc__))
