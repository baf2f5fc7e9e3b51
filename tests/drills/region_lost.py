"""A region is lost: MirrorMaker 2 has stopped and nobody notices, messages go on being confirmed by the source cluster,
and then that is killed for good. What never crossed is gone, and has to be told by name.

    python -m tests.drills.region_lost --json
    python -m tests.drills.region_lost --kill --json
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_kafka, started_mirror
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, coverage: watermark}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 5s, coverage: watermark}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 5s, coverage: watermark, same_payload: true}
"""
PARTITIONS, PART = 3, 1000


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the source confirmed and the target does not hold; the source's own log, read when all is told,
    has to agree."""
    with started_kafka(folder / "eu") as source, started_kafka(folder / "us") as target:
        admin = AdminClient({"bootstrap.servers": source.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic("orders", PARTITIONS, 1)])["orders"].result(60)
        collectors = [
            {"name": "eu", "kind": "kafka", "url": f"kafka://{source.bootstrap}",
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}]},
            {"name": "us", "kind": "kafka", "url": f"kafka://{target.bootstrap}",
             "topics": [{"topic": "eu.orders", "flow": "orders", "hop": "kafka-us", "stage": "replicate"}]},
        ]  # fmt: skip
        with (
            started_mirror(folder / "mirror", source, target, ["orders"]) as mirror,
            scene(folder, SPEC, collectors) as made,
        ):
            emitter = Emitter(made.service.url, "", collector="checkout-1", spool=folder / "checkout")
            shop = Shop(source.bootstrap, Observer(emitter, "orders", "checkout", stages=[Stage.produce]))
            made.watch(sources=2 * PARTITIONS + 1)
            shop.sell(PART)
            if kill:
                made.kill_collectors()
            shop.sell(PART)
            made.until(lambda: len(truth.in_topic(target.bootstrap, "eu.orders")) > PART + PART // 2, "copies")
            mirror.stop()
            shop.sell(PART)
            early: set[str] = set()
            if kill:
                time.sleep(12)  # longer than both deadlines: what nobody saw cross must not be called missing
                early = {one["message_id"] for one in made.findings()}
                made.watch(sources=2 * PARTITIONS + 1)
            shop.sell(PART)
            source.kill()
            made.settled(len(shop.confirmed))
            written_off = made.service.cli(
                "hops", "abandon", "kafka-eu", "--flow", "orders", "--since", "-1h", "--reason", "region lost", "--yes"
            )
            assert written_off.returncode == 0, written_off.stderr
            crossed = truth.in_topic(target.bootstrap, "eu.orders")
            lost = shop.confirmed - crossed
            made.until(lambda: made.books()["verdicts"].get("lost"), "the verdict on what was abandoned")
            result = made.result("region_lost", sorted(lost), killed=kill)
            emitter.close()
        source.start()
        assert truth.in_topic(source.bootstrap, "orders") - crossed == lost
        assert not early - lost, f"named too early: {sorted(early - lost)[:5]}"
        return result


class Shop:
    """An application that produces, instrumented; `confirmed` holds the ids that its broker confirmed."""

    def __init__(self, bootstrap: str, observer: Observer) -> None:
        plain = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 1, "log_level": 0})
        self.confirmed: set[str] = set()
        self._producer = instrument.producer(plain, observer)
        self._sold = 0

    def sell(self, count: int) -> None:
        """Produce so many, and wait for their confirmations."""
        for _ in range(count):
            self._sold += 1
            name = f"m-{self._sold}"
            self._producer.produce(
                "orders", f"order {name}", name, headers=[("x-message-id", name.encode())],
                on_delivery=partial(self._settled, name),
            )  # fmt: skip
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def _settled(self, name: str, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.confirmed.add(name)


if __name__ == "__main__":
    end(main(drill, __doc__))
