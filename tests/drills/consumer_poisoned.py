"""A consumer cannot handle some messages since its last release, and dead-letters them: they are named. The mend is
deployed, and the dead letters are sent again: each is acked once. What stays poison is parked after two attempts.

    python -m tests.drills.consumer_poisoned --json
    python -m tests.drills.consumer_poisoned --kill --json
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from confluent_kafka import Producer

from tests.drills import truth
from tests.drills.consuming import Application
from tests.drills.result import Result, end, main
from tests.drills.scene import Scene, scene, started_kafka

SPEC = """flow: orders
checkpoints:
  - {hop: kafka,   stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: kafka, within: 15s, coverage: watermark}
replay: {sources: [dead_letter: billing], rate: 1000/s, max_attempts: 2}
"""
PARTITIONS, MESSAGES = 3, 3000
DEAD = "orders.billing.dlt"
NEW, POISON = "two ", "poison "
"""How payloads begin that the release cannot handle, and those that nothing can."""


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the topic of dead letters holds; at the end, what the application noted that it acked. With
    `kill` the collectors are killed while messages die, and so is the consumer; both are started again."""
    with started_kafka(folder / "kafka") as broker:
        for topic in ("orders", DEAD):
            broker.create_topic(topic, PARTITIONS)
        collector = {
            "name": "kafka", "kind": "kafka", "url": f"kafka://{broker.bootstrap}",
            "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}],
        }  # fmt: skip
        hops = {
            "kafka": {"kind": "kafka", "url": broker.bootstrap, "topic": "orders"},
            "billing": {"dead_letter": {"kind": "kafka", "url": broker.bootstrap, "topic": DEAD}},
        }
        with scene(folder, SPEC, [collector], hops) as made:
            billing = Application(
                folder / "billing", broker.bootstrap, "orders", "billing", "billing", made.service.url
            )
            try:
                return _told(made, billing, broker.bootstrap, kill)
            finally:
                billing.process.kill()


def _told(made: Scene, billing: Application, bootstrap: str, kill: bool) -> Result:
    release = ["--dead-letters", DEAD, "--refuses", NEW, POISON]
    billing.start(*release)
    made.watch(sources=PARTITIONS + 1)
    _produce(bootstrap, 1, MESSAGES // 2)
    early: set[str] = set()
    if kill:
        made.kill_collectors()
        billing.process.kill()
    _produce(bootstrap, MESSAGES // 2 + 1, MESSAGES)
    if kill:
        time.sleep(20)  # longer than the deadline
        early = {one["message_id"] for one in made.findings()}
        billing.start(*release)
        made.watch(sources=PARTITIONS + 1)
    everything = truth.in_topic(bootstrap, "orders")
    made.until(lambda: set(billing.acked()) | truth.in_topic(bootstrap, DEAD) == everything, "the application")
    dead = truth.in_topic(bootstrap, DEAD)
    made.settled(MESSAGES)
    result = made.result("consumer_poisoned", sorted(dead), killed=kill)
    kinds = Counter(one["kind"] for one in made.findings())
    assert not early - dead, f"named while nobody looked: {sorted(early - dead)[:5]}"

    billing.process.stop()
    before = Counter(billing.acked())
    billing.start("--dead-letters", DEAD, "--refuses", POISON)  # the mend
    replay = made.replayed("billing can handle the new form now")
    after = Counter(billing.acked())
    after.subtract(before)
    poison = {one["message_id"] for one in made.findings() + made.findings("parked")}
    return Result(result.drill, result.truth, result.found, result.detect_s, more={
        **result.more,
        "kinds": dict(kinds),
        "replay": replay,
        "acked_again": sum(after[one] == 1 for one in dead),
        "acked_otherwise": sum(count for one, count in after.items() if one not in dead or count > 1),
        "never_acked": len(everything - set(billing.acked())),
        "poison_named": len(poison),
        "poison_false": len(poison ^ (everything - set(billing.acked()))),
    })  # fmt: skip


def _produce(bootstrap: str, first: int, last: int) -> None:
    """Every seventh is of the new form, every sixtieth nothing can handle."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 1, "log_level": 0})
    for number in range(first, last + 1):
        start = POISON if number % 60 == 0 else NEW if number % 7 == 0 else ""
        name = f"m-{number}"
        producer.produce("orders", f"{start}order {name}", name, headers=[("x-message-id", name.encode())])
    assert producer.flush(60) == 0


if __name__ == "__main__":
    end(main(drill, __doc__))
