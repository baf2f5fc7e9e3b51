"""A consumer is too slow for its NATS stream, which holds a bounded number of messages and discards the oldest. The
server confirms every publish, and forgets what nobody was given yet.

    python -m tests.drills.stream_overflown --json
    python -m tests.drills.stream_overflown --kill --json
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import nats
from nats.errors import TimeoutError as NothingCame
from nats.js.api import ConsumerConfig

from collectors.emitter import Emitter
from collectors.instrument import nats as instrument
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import Scene, scene, started_nats
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: shop, stage: produce, coverage: watermark}
  - {hop: nats, stage: persist, after: shop, within: 10s, coverage: watermark}
  - {hop: billing, stage: ack, after: nats, within: 90s, coverage: watermark}
"""
MESSAGES, HELD = 3000, 600
"""How many are published, how many the stream holds."""
PAUSES = 0.003, 0.01
"""Seconds between two publishes, and that the application takes for each message."""
SOURCES = 3
"""`produce` of the shop, `persist` of the stream, `ack` of the consumer."""


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what was confirmed, was not acked by the application's own list, and is not in the stream. Nothing
    of ours is in the application: its acks are caught on the way."""
    with started_nats(folder / "nats") as server:
        asyncio.run(_made(server.url))
        collector = {
            "name": "nats", "kind": "nats", "url": server.url, "look_every": 0.1,
            "streams": [{"stream": "ORDERS", "flow": "orders", "hop": "nats"}],
            "consumers": [{"stream": "ORDERS", "consumer": "billing", "hop": "billing"}],
        }  # fmt: skip
        with scene(folder, SPEC, [collector]) as made:
            emitter = Emitter(made.service.url, "", collector="shop-1", spool=folder / "shop")
            observer = Observer(emitter, "orders", "shop", stages=[Stage.produce])
            made.watch(sources=SOURCES)
            done, acked = threading.Event(), set[str]()
            consumer = threading.Thread(target=lambda: asyncio.run(_consume(server.url, done, acked)))
            consumer.start()
            confirmed = asyncio.run(_publish(server.url, observer, made, kill))
            if kill:
                made.watch(sources=SOURCES)
            last = confirmed[-1]
            made.until(lambda: last in acked, "the end")
            done.set()
            consumer.join()
            lost = set(confirmed) - acked - truth.in_nats_stream(server.url, "ORDERS")
            made.decided(MESSAGES)
            result = made.result("stream_overflown", sorted(lost), blind=made.unknown(lost), killed=kill)
            observer.close()
            emitter.close()
            return result


async def _made(url: str) -> None:
    """What the application has: a stream and a durable consumer."""
    client = await nats.connect(url)
    js = client.jetstream()
    await js.add_stream(name="ORDERS", subjects=["orders.>"], max_msgs=HELD, discard="old")
    await js.pull_subscribe("orders.>", durable="billing", stream="ORDERS", config=ConsumerConfig(ack_wait=5))
    await client.close()


async def _publish(url: str, observer: Observer, made: Scene, kill: bool) -> list[str]:
    """The ids that the server confirmed. The collectors are killed in the middle."""
    client = await nats.connect(url)
    js = instrument.jetstream(client.jetstream(), observer)
    confirmed = []
    for number in range(MESSAGES):
        if kill and number == MESSAGES // 2:
            made.kill_collectors()
        await js.publish("orders.new", b"{}", headers={MESSAGE_ID: f"m-{number}"})
        confirmed.append(f"m-{number}")
        await asyncio.sleep(PAUSES[0])
    await client.close()
    return confirmed


async def _consume(url: str, done: threading.Event, acked: set[str]) -> None:
    """An application that takes one message after the other, slowly, and notes what it acked."""
    client = await nats.connect(url)
    consumer = await client.jetstream().pull_subscribe("orders.>", durable="billing", stream="ORDERS")
    while not done.is_set():
        try:
            (message,) = await consumer.fetch(1, timeout=0.5)
        except NothingCame:
            continue
        await asyncio.sleep(PAUSES[1])
        await message.ack_sync(timeout=10)
        acked.add((message.headers or {})[MESSAGE_ID])
    await client.close()


if __name__ == "__main__":
    end(main(drill, __doc__))
