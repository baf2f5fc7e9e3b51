"""A replica is corrupted: what copies one Kafka cluster to another damages every seventh payload on the way, and
nobody notices, for offsets and counts are right. What differs is named, and replaced by what the healthy cluster holds.

    python -m tests.drills.replica_corrupted --json
    python -m tests.drills.replica_corrupted --kill --json
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer

from collectors.emitter import Emitter
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.region_lost import Shop
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_kafka
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, coverage: watermark}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 30s, coverage: watermark, same_payload: true}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 30s, coverage: watermark, same_payload: true}
replay: {sources: [peer: kafka-eu], rate: 1000/s}
"""
PARTITIONS, MESSAGES, EACH = 3, 4000, 7
DAMAGE: tuple[Callable[[bytes], bytes], ...] = (
    lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    lambda value: value[: len(value) // 2],
    lambda value: b"",
)
"""A bit, an end, all of it."""


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the two clusters hold, payload by payload. With `kill` the collectors are killed while copies
    are made, and started again."""
    with started_kafka(folder / "eu") as source, started_kafka(folder / "us") as target:
        for cluster, topic in ((source, "orders"), (target, "eu.orders")):
            cluster.create_topic(topic, PARTITIONS)
        collectors = [
            {"name": "eu", "kind": "kafka", "url": f"kafka://{source.bootstrap}",
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}]},
            {"name": "us", "kind": "kafka", "url": f"kafka://{target.bootstrap}",
             "topics": [{"topic": "eu.orders", "flow": "orders", "hop": "kafka-us", "stage": "replicate"}]},
        ]  # fmt: skip
        hops = {
            "kafka-eu": {"kind": "kafka", "url": source.bootstrap, "topic": "orders"},
            "kafka-us": {"kind": "kafka", "url": target.bootstrap, "topic": "eu.orders", "partition": "same"},
        }
        with scene(folder, SPEC, collectors, hops) as made, _copying(source.bootstrap, target.bootstrap) as copied:
            emitter = Emitter(made.service.url, "", collector="checkout-1", spool=folder / "checkout")
            shop = Shop(source.bootstrap, Observer(emitter, "orders", "checkout", stages=[Stage.produce]))
            made.watch(sources=2 * PARTITIONS + 1)
            shop.sell(MESSAGES // 2)
            if kill:
                made.kill_collectors()
            shop.sell(MESSAGES - MESSAGES // 2)
            made.until(lambda: len(copied) == MESSAGES, "copies")
            if kill:
                time.sleep(3)
                made.watch(sources=2 * PARTITIONS + 1)
            right = truth.records(source.bootstrap, "orders")
            wrong = _differing(right, truth.records(target.bootstrap, "eu.orders"))
            made.settled(MESSAGES)
            made.until(lambda: len(made.findings()) >= len(wrong), "the findings")
            result = made.result("replica_corrupted", sorted(wrong), killed=kill)
            kinds = {(one["hop"], one["kind"]) for one in made.findings()}
            # The corrupted copies themselves are no source: a look at some of them says so, and nothing is sent.
            refused = made.cli("replay", "orders", "--source", "log:kafka-us")["plan"]["integrity"]
            replay = made.replayed("the replica is corrupted")
            left = _differing(right, truth.records(target.bootstrap, "eu.orders"))
            made.until(lambda: not made.findings(), "the end of what was found")
            books = made.books()["verdicts"]
            emitter.close()
            return Result(result.drill, result.truth, result.found, result.detect_s, more={
                **result.more,
                "kinds": sorted("/".join(one) for one in kinds),
                "wrong_source": {"checked": refused["checked"], "right": refused["right"]},
                "replay": replay,
                "still_different": len(left),
                "verdicts_at_the_end": books,
            })  # fmt: skip


def _differing(right: dict[str, list[bytes]], copies: dict[str, list[bytes]]) -> set[str]:
    """Ids whose newest copy is not what the source holds."""
    return {one for one, values in right.items() if copies.get(one, [b"none"])[-1] != values[-1]}


@contextmanager
def _copying(source: str, target: str) -> Iterator[list[str]]:
    """A copier that damages; the ids that it has copied, and the target confirmed. It keeps partitions."""
    done, copied = threading.Event(), list[str]()
    consumer = Consumer({"bootstrap.servers": source, "group.id": "copier", "auto.offset.reset": "earliest"})
    producer = Producer({"bootstrap.servers": target, "acks": "all", "linger.ms": 5})
    consumer.subscribe(["orders"])

    def copy() -> None:
        number = 0
        while not done.is_set():
            messages = [one for one in consumer.consume(500, 0.2) if one.error() is None]
            for message in messages:
                number += 1
                value, key = message.value() or b"", message.key() or b""
                if number % EACH == 0:
                    value = DAMAGE[number // EACH % len(DAMAGE)](value)
                producer.produce("eu.orders", value, key, message.partition() or 0, headers=message.headers())
            assert producer.flush(30) == 0
            copied.extend((one.key() or b"").decode() for one in messages)

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield copied
    finally:
        done.set()
        thread.join()
        consumer.close()


if __name__ == "__main__":
    end(main(drill, __doc__))
