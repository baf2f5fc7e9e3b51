"""A Kafka leader dies that alone held the newest records, for its followers had fallen out of sync. One of them is
elected all the same (`unclean.leader.election.enable`): the log ends where that one ended, and other records get the
offsets. All of it had been confirmed to the producer (acks=1).

    python -m tests.drills.unclean_election --json
    python -m tests.drills.unclean_election --kill --json
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.confluent_kafka_producer import ObservedProducer
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import Scene, scene, started_cluster
from tests.servers.kafka_cluster import Cluster
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: shop,    stage: produce, coverage: watermark}
  - {hop: kafka,   stage: persist, after: shop, within: 15s, coverage: watermark}
  - {hop: billing, stage: ack, after: kafka, within: 30s, coverage: watermark}
"""
PARTITIONS, SAFE, DOOMED, EARLY, AFTER = 3, 600, 900, 500, 1200
MESSAGES = SAFE + DOOMED + AFTER
CLIENT = {"socket.timeout.ms": 5000, "topic.metadata.refresh.interval.ms": 1000, "log_level": 0}
"""A broker that is stopped answers nothing, and keeps its connections: nobody should wait for it for a minute."""
CLUSTER = {
    "unclean_leader_election_enable": "true",
    "min_insync_replicas": "1",
    "replica_lag_time_max_ms": "3000",
    "broker_session_timeout_ms": "6000",
    "broker_heartbeat_interval_ms": "1000",
}


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what was confirmed and is in no log that is left. The consumer is away while the leader is alone,
    so that nobody has processed what is lost. With `kill` the collectors die when they have seen `EARLY` of that, and
    are back after the election."""
    with started_cluster(folder / "kafka", **CLUSTER) as cluster:
        _create(cluster)
        collector = {
            "name": "kafka", "kind": "kafka", "url": f"kafka://{cluster.bootstrap}",
            "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}], "client": CLIENT,
        }  # fmt: skip
        with scene(folder, SPEC, [collector]) as made, _clients(cluster, made, folder) as (producer, billing):
            made.watch(sources=PARTITIONS + 2)
            safe = _produce(producer, 0, SAFE)
            _consume(cluster, billing, safe)
            leader = _alone(cluster, made)
            early = _produce(producer, SAFE, SAFE + EARLY)
            _persisted(made, early)
            if kill:
                made.kill_collectors()
            late = _produce(producer, SAFE + EARLY, SAFE + DOOMED)
            if not kill:
                _persisted(made, late)
            _elect(cluster, made, leader)
            confirmed = safe | early | late | _produce(producer, SAFE + DOOMED, MESSAGES)
            if kill:
                time.sleep(3)
                made.watch(sources=PARTITIONS + 2)
            left = truth.in_topic(cluster.bootstrap, "orders")
            _consume(cluster, billing, left - safe)
            books = made.settled(MESSAGES)
            lost = confirmed - left
            if not kill:
                assert books["verdicts"].get("lost", 0) == len(lost), books
            return made.result("unclean_election", sorted(lost), killed=kill)


def _create(cluster: Cluster) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("orders", PARTITIONS, len(cluster.brokers))])["orders"].result(30)


@contextmanager
def _clients(cluster: Cluster, made: Scene, folder: Path) -> Iterator[tuple[ObservedProducer, Observer]]:
    """An application that produces, and one that consumes, both instrumented."""
    shop = Emitter(made.service.url, "", collector="shop-1", spool=folder / "shop")
    billing = Emitter(made.service.url, "", collector="billing-1", spool=folder / "billing")
    settings = CLIENT | {"bootstrap.servers": cluster.bootstrap, "acks": 1, "linger.ms": 5}
    try:
        yield (
            instrument.producer(Producer(settings), Observer(shop, "orders", "shop", stages=[Stage.produce])),
            Observer(billing, "orders", "billing", stages=[Stage.ack]),
        )
    finally:
        shop.close()
        billing.close()


def _produce(producer: ObservedProducer, start: int, stop: int) -> set[str]:
    """What was confirmed of these messages: all of them."""
    confirmed: set[str] = set()

    def settled(name: str, error: KafkaError | None, _: Message) -> None:
        if error is None:
            confirmed.add(name)

    for number in range(start, stop):
        name = f"m-{number}"
        headers = [("x-message-id", name.encode())]
        producer.produce("orders", f"order {name}", name, headers=headers, on_delivery=partial(settled, name))
        producer.poll(0)
    producer.flush(90)
    if len(confirmed) != stop - start:
        raise AssertionError(f"{len(confirmed)} of {stop - start} were confirmed")
    return confirmed


def _consume(cluster: Cluster, observer: Observer, wanted: set[str]) -> None:
    """Ack messages until these were among them. A client of its own each time: one that stays has fetched ahead."""
    missing = set(wanted)
    settings = CLIENT | {
        "bootstrap.servers": cluster.bootstrap, "group.id": "billing", "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }  # fmt: skip
    consumer = instrument.consumer(Consumer(settings), observer)
    consumer.subscribe(["orders"])
    deadline = time.monotonic() + 120
    while missing:
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(missing)} messages do not come: {sorted(missing)[:5]}")
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            consumer.ack(message)
            headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
            missing.discard(headers["x-message-id"].decode())
    consumer.commit(asynchronous=False)
    consumer.close()


def _persisted(made: Scene, names: set[str]) -> None:
    """Return when the tail has reported these."""
    missing = set(names)

    def all_seen() -> bool:
        for name in sorted(missing):
            answer = made.service.http.get(f"/v1/flows/orders/messages/{name}").json()
            if not any(one["stage"] == "persist" for one in answer.get("timeline", ())):
                return False
            missing.discard(name)
        return True

    made.until(all_seen, "the tail")


def _alone(cluster: Cluster, made: Scene) -> int:
    """Stop the followers until one broker alone leads all partitions and is in sync with nobody: its number."""
    leader = cluster.replicas("orders", 1)[0][0]
    for number, node in cluster.brokers.items():
        if number != leader:
            node.pause()
    made.until(lambda: set(_replicas(cluster, leader)) == {(leader, (leader,))}, "a leader without followers")
    return leader


def _elect(cluster: Cluster, made: Scene, leader: int) -> None:
    """Kill the leader for good and let the followers go on; returns when each partition has one of them for leader."""
    cluster.brokers[leader].kill()
    others = [number for number in cluster.brokers if number != leader]
    for number in others:
        cluster.brokers[number].resume()
    made.until(lambda: {at[0] for at in _replicas(cluster, others[0])} <= set(others), "an election")


def _replicas(cluster: Cluster, broker: int) -> list[tuple[int, tuple[int, ...]]]:
    """Leader and in-sync replicas of the partitions; nothing while the broker is busy."""
    with suppress(KafkaException):
        return [(leader, tuple(isr)) for leader, isr in cluster.replicas("orders", broker).values()]
    return [(-1, ())]


if __name__ == "__main__":
    end(main(drill, __doc__))
