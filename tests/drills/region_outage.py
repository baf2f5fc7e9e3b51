"""A region is lost for good in mid-stream, and what can come back comes back. An outbox is relayed to Kafka in one
region, MirrorMaker 2 copies it to another; the link between them is cut, then all of the first region is gone: its
brokers, its consumers, its collectors. The consumers move to the second region. Messages that never crossed are named,
and brought there from the outbox, and from the archive where the outbox was cleaned; what neither has is lost for good.

    python -m tests.drills.region_outage --json
    python -m tests.drills.region_outage --messages 10000 --json
    python -m tests.drills.region_outage --kill --json
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.drills import truth
from tests.drills.consuming import Application
from tests.drills.outbox import COLLECTED, KEPT, Shop
from tests.drills.result import Result, end, main
from tests.drills.scene import Scene, scene, started_kafka, started_mirror, started_postgres
from tests.servers.kafka import Kafka
from tests.servers.mirror_maker import MirrorMaker
from tests.servers.process import Process

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, outbox: true, coverage: watermark}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 30s, coverage: watermark, same_payload: true}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 30s, coverage: watermark, same_payload: true}
  - {hop: [billing-eu, billing-us], stage: ack, after: kafka-eu, within: 2m, coverage: watermark}
replay: {sources: [log: kafka-eu, log: checkout, snapshot: kafka-eu], rate: 5000/s}
"""
MESSAGES, PARTITIONS = 100_000, 3
TOPIC = "eu.orders"
"""As MirrorMaker calls the copy."""
SOURCES = 2 * PARTITIONS + 2
"""Partitions of both clusters, the outbox, the consumer."""
OFFSETS = {
    "eu->us.sync.group.offsets.enabled": "true",
    "eu->us.sync.group.offsets.interval.seconds": "1",
}
"""The consumers' places cross, too."""


@dataclass(frozen=True)
class World:
    """What runs. `eu`: the collectors of the first region; `billing`: its consumer, and that of the second."""

    folder: Path
    source: Kafka
    target: Kafka
    mirror: MirrorMaker
    shop: Shop
    made: Scene
    eu: Process
    billing: tuple[Application, Application]

    @property
    def mortal(self) -> tuple[Kafka | MirrorMaker | Process, ...]:
        """The first region."""
        return self.source, self.eu, self.billing[0].process, self.mirror


def drill(folder: Path, kill: bool, messages: int = MESSAGES) -> Result:
    """The truth is what the shop committed and the second region does not hold when the first is gone; what can come
    back is what is in the table or in the archive then. With `kill` all collectors are killed in mid-stream, and
    started again, before anything goes wrong."""
    part = messages // 100
    with _world(folder) as world:
        shop, made, target = world.shop, world.made, world.target.bootstrap
        began = time.monotonic()
        early = _stream(world, part, kill)
        cleaned = _gone(world, part)
        outage, stream_s = time.time(), time.monotonic() - began
        shop.sell(messages - shop.sold)  # people go on buying
        shop.close()
        crossed = truth.in_topic(target, TOPIC)
        lost = {f"m-{number}" for number in range(1, messages + 1)} - crossed
        kept = truth.in_table(shop.url, "SELECT id FROM outbox") | truth.in_archive(folder / "archive")
        never_left = truth.in_table(shop.url, "SELECT id FROM outbox WHERE sent_at IS NULL")
        world.billing[1].start()  # the consumers move
        made.settled(messages, 600)
        result = made.result("region_outage", sorted(lost), killed=kill)
        assert not early, f"named while nobody looked: {sorted(early)[:5]}"
        what = ("kafka-eu", "--flow", "orders", "--since", made.oldest, "--unseen", "--reason", "region eu is lost")
        written_off = made.cli("hops", "abandon", *what, "--yes")
        made.until(lambda: _lost(made) >= len(lost - never_left), "the verdict on what was abandoned", 600, every=2)
        called_lost = _lost(made)
        replay = made.replayed("region eu is lost", "--to", "kafka-us", patience=900)
        made.until(lambda: lost & kept <= set(world.billing[1].acked()), "the acks in the second region")
        return Result(result.drill, result.truth, result.found, result.detect_s, more={
            **result.more,
            "stream_s": round(stream_s, 1),
            "cleaned_rows": cleaned,
            "written_off": written_off["messages"],
            "called_lost": called_lost,
            "only_relayed": len(lost - never_left),
            "replay": replay,
            **_back(world, lost, lost - kept),
            "recovery_s": round(replay["last"] - outage, 1),
        })  # fmt: skip


@contextmanager
def _world(folder: Path) -> Iterator[World]:
    """All of it running and watched, nothing sold."""
    with (
        started_kafka(folder / "eu") as source,
        started_kafka(folder / "us") as target,
        started_postgres() as database,
        ExitStack() as stack,
    ):
        source.create_topic("orders", PARTITIONS)
        shop = Shop(database.url(), source.bootstrap, "orders")
        stack.callback(shop.close)
        archive = {"url": f"file://{folder}/archive", "unencrypted": True}
        outbox = {"name": "outbox", "kind": "postgres-outbox", "url": shop.url,
                  "tables": [{**COLLECTED, "hop": "checkout"}]}  # fmt: skip
        us = {"name": "us", "kind": "kafka", "url": f"kafka://{target.bootstrap}",
              "topics": [{"topic": TOPIC, "flow": "orders", "hop": "kafka-us", "stage": "replicate"}]}  # fmt: skip
        eu = {"name": "eu", "kind": "kafka", "url": f"kafka://{source.bootstrap}",
              "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}],
              "archive": {**archive, "flows": ["orders"], "every": "1s"}}  # fmt: skip
        hops = {
            "checkout": {"kind": "postgres", "url": shop.url, **KEPT},
            "kafka-eu": {"kind": "kafka", "url": source.bootstrap, "snapshot": {"kind": "archive", **archive}},
            "kafka-us": {"kind": "kafka", "url": target.bootstrap, "topic": TOPIC},
        }
        mirror = stack.enter_context(started_mirror(folder / "mirror", source, target, ["orders"], OFFSETS))
        made = stack.enter_context(scene(folder, SPEC, [outbox, us], hops))
        tracker = made.service.url
        billing = (
            Application(folder / "billing-eu", source.bootstrap, "orders", "billing", "billing-eu", tracker),
            Application(folder / "billing-us", target.bootstrap, TOPIC, "billing", "billing-us", tracker),
        )
        there = made.beside("region-eu", [eu])
        for process in (there, *(one.process for one in billing)):
            stack.callback(process.kill)
        there.start(lambda: None)
        billing[0].start()
        made.watch(SOURCES)
        shop.open()
        yield World(folder, source, target, mirror, shop, made, there, billing)


def _stream(world: World, part: int, kill: bool) -> set[str]:
    """Seventy parts of a hundred, of which more than 65 have crossed when the link hangs. What was named while the
    collectors were dead."""
    early: set[str] = set()
    made = world.made
    if kill:
        world.shop.sell(20 * part)
        made.kill_collectors()
        world.eu.kill()
        world.shop.sell(10 * part)
        time.sleep(5)
        early = {one["message_id"] for one in made.findings()}
        world.eu.start(lambda: None)
        made.watch(SOURCES)
    world.shop.sell(70 * part - world.shop.sold)
    made.until(lambda: sum(truth.ends(world.target.bootstrap, TOPIC).values()) > 65 * part, "copies", 300)
    world.mirror.process.pause()
    return early


def _gone(world: World, part: int) -> int:
    """The region dies in steps: its link to the other one hangs already, then its collectors do, so that the next two
    parts are seen by nobody and not archived, then all of it is gone while the relay sends. Meanwhile a cleaner
    forgets what it should not. How many rows."""
    shop, made = world.shop, world.made
    shop.sell(18 * part)
    made.until(lambda: not shop.waiting(), "the relay")
    made.until(lambda: len(truth.in_archive(world.folder / "archive")) == shop.sold, "the archive", 300, every=2)
    world.eu.pause()
    shop.sell(2 * part)
    made.until(lambda: not shop.waiting(), "the relay")
    cleaned = shop.clean(1, 75 * part) + shop.clean(88 * part + 1, 89 * part)
    shop.sell(3 * part)
    for one in world.mortal:
        one.kill()
    return cleaned


def _lost(made: Scene) -> int:
    """Of how many messages the tracker says that they are lost."""
    return int(made.books()["verdicts"].get("lost", 0))


def _back(world: World, lost: set[str], gone: set[str]) -> dict[str, Any]:
    """What came of it, by the brokers, by the applications, and by what the tracker still has open."""
    copies = truth.records(world.target.bootstrap, TOPIC)
    acked = {name for one in world.billing for name in one.acked()}
    told = {one["message_id"]: one["kind"] for one in world.made.findings()}
    return {
        "recovered": len(lost & copies.keys()),
        "sent_twice": sum(len(copies[one]) > 1 for one in lost & copies.keys()),
        "unacked": len(copies.keys() - acked),
        "rpo": len(gone),
        "rpo_named": len(gone & told.keys()),
        "rpo_false": len(told.keys() - gone),
        "rpo_verdicts": world.made.books()["verdicts"],
    }


if __name__ == "__main__":
    end(main(drill, __doc__, messages=MESSAGES))
