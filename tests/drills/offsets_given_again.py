"""A Kafka log loses its end to an unclean election. A consumer group had read that end, its offsets lie safely on
another broker, and its consumer knows nothing of leader epochs: it goes on at its old offset, past all that got lower
ones since.

    python -m tests.drills.offsets_given_again --json
    python -m tests.drills.offsets_given_again --kill --json
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.drills import truth
from tests.drills.reading import produce, reading
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_cluster
from tests.drills.unclean_election import CLIENT, CLUSTER, PARTITIONS
from tests.servers.kafka_cluster import Cluster

SPEC = """flow: orders
checkpoints:
  - {hop: kafka, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: kafka, within: 20s, coverage: watermark}
"""
SAFE, DOOMED, AFTER = range(600), range(600, 1500), range(1500, 3000)


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the log holds and the application was never given. It is away for longer than the deadline.
    With `kill` the collectors are dead from before the election until after it."""
    delay = {"group_initial_rebalance_delay_ms": "3000"}  # as it is by default: who joins is seen before it commits
    with started_cluster(folder / "kafka", **CLUSTER | delay) as cluster:
        leader, follower = _create(cluster)
        url = f"kafka://{cluster.bootstrap}"
        collectors = [
            {"name": "kafka", "kind": "kafka", "url": url, "client": CLIENT,
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}]},
            {"name": "groups", "kind": "kafka-groups", "url": url, "client": CLIENT,
             "groups": [{"group": "billing", "topic": "orders", "flow": "orders", "hop": "billing", "log": "kafka"}]},
        ]  # fmt: skip
        with scene(folder, SPEC, collectors) as made:
            made.watch(sources=2 * PARTITIONS)
            with reading(cluster.bootstrap, "billing", "orders") as before:
                produce(cluster.bootstrap, "orders", _names(SAFE))
                made.until(lambda: len(before) == len(SAFE), "the application")
                cluster.brokers[follower].pause()
                made.until(lambda: _led(cluster, leader) == {(leader, (leader,))}, "a leader without its follower")
                produce(cluster.bootstrap, "orders", _names(DOOMED), acks="1")
                made.until(lambda: len(before) == DOOMED.stop, "the application")
            made.decided(DOOMED.stop)
            if kill:
                made.kill_collectors()
            cluster.brokers[leader].kill()
            cluster.brokers[follower].resume()
            made.until(lambda: {at[0] for at in _led(cluster, follower)} == {follower}, "an election")
            produce(cluster.bootstrap, "orders", _names(AFTER), acks="1")
            if kill:
                made.watch(sources=2 * PARTITIONS)
            made.decided(AFTER.stop)
            with _going_on(cluster.bootstrap, "billing", "orders") as after:
                left = truth.in_topic(cluster.bootstrap, "orders")
                last = _names(range(AFTER.stop, AFTER.stop + 30))
                produce(cluster.bootstrap, "orders", last, acks="1")
                made.until(lambda: after.issuperset(last), "the application")
            made.decided(AFTER.stop + len(last))
            lost = left - before - after
            return made.result("offsets_given_again", sorted(lost), blind=made.unknown(lost), killed=kill)


def _create(cluster: Cluster) -> tuple[int, int]:
    """The topic, on two brokers of which none has the offsets of the group: its leader and its follower."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("other", 1, len(cluster.brokers))])["other"].result(30)
    with reading(cluster.bootstrap, "billing", "other"):
        produce(cluster.bootstrap, "other", ["o-1"])
        time.sleep(5)
    group = admin.describe_consumer_groups(["billing"])["billing"].result(30)
    leader, follower = sorted(cluster.brokers.keys() - {group.coordinator.id})
    laid = NewTopic("orders", PARTITIONS, replica_assignment=[[leader, follower]] * PARTITIONS)
    admin.create_topics([laid])["orders"].result(30)
    return leader, follower


def _led(cluster: Cluster, broker: int) -> set[tuple[int, tuple[int, ...]]]:
    """Leaders and in-sync replicas of the partitions; none while the broker is busy."""
    with suppress(KafkaException):
        return {(leader, tuple(isr)) for leader, isr in cluster.replicas("orders", broker).values()}
    return set()


def _names(numbers: range) -> list[str]:
    return [f"m-{number}" for number in numbers]


@contextmanager
def _going_on(bootstrap: str, group: str, topic: str) -> Iterator[set[str]]:
    """The ids that the group is given while this lasts, by a client that commits offsets without leader epochs."""
    read, done = set[str](), threading.Event()

    async def read_on() -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="latest", auto_commit_interval_ms=500
        )
        try:
            await consumer.start()
            while not done.is_set():
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    read.update((record.key or b"").decode() for record in records)
        finally:
            await consumer.stop()

    thread = threading.Thread(target=lambda: asyncio.run(read_on()))
    thread.start()
    try:
        yield read
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    end(main(drill, __doc__))
