"""A RabbitMQ queue is purged by mistake while its consumer is away. Nobody holds the messages any more, but an archive
of what the collector read; the tracker names them, sends them again from there, and sees them acked.

    python -m tests.drills.queue_purged --json
    python -m tests.drills.queue_purged --kill --json
"""

from __future__ import annotations

import base64
import threading
import time
from pathlib import Path
from typing import Any

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import channel_to, scene, started_rabbitmq
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit,  stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: rabbit, within: 15s, coverage: watermark}
replay: {sources: [snapshot: rabbit], rate: 1000/s}
"""
TAKEN, PURGED = 1000, 700
"""How many messages the consumer takes before it goes away, and how many come then."""
SOURCES = 2
"""`persist` of the queue, `ack` of the consumer."""


class Billing:
    """An application that can go away for a while, and notes what it acked."""

    def __init__(self, url: str, observer: Observer) -> None:
        self.acked: list[str] = []
        self._url, self._observer = url, observer
        self._stop, self._thread = threading.Event(), threading.Thread()

    def come(self) -> None:
        """Consume."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._consume)
        self._thread.start()

    def go(self) -> None:
        """Stop consuming; the process goes on."""
        self._stop.set()
        self._thread.join()

    def _consume(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
            channel: Any = instrument.channel(connection.channel(), self._observer)
            for method, properties, _ in channel.consume("billing", inactivity_timeout=0.2):
                if method is not None:
                    self.acked.append(properties.message_id)
                    channel.basic_ack(method.delivery_tag)
                if self._stop.is_set():
                    break


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what was confirmed, was not acked by the application's own list, and is not in the queue; and at the
    end, by the same list, what came back. With `kill` the collector is killed while the consumer is away, and started
    again when the queue is empty."""
    with started_rabbitmq(folder / "rabbitmq") as broker:
        (folder / "key").write_text(base64.b64encode(bytes(range(32))).decode())
        place = {"url": f"file://{folder}/archive", "key": f"file:{folder / 'key'}"}
        collector = {
            "name": "rabbit", "kind": "rabbitmq", "url": broker.url,
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit"}],
            "archive": {**place, "flows": ["orders"], "every": "500ms"},
        }  # fmt: skip
        hops = {"rabbit": {"kind": "rabbitmq", "url": broker.url, "queue": "billing",
                           "snapshot": {"kind": "archive", **place}}}  # fmt: skip
        with channel_to(broker.url) as channel:
            channel.queue_declare("billing", durable=True)
            channel.confirm_delivery()
            with scene(folder, SPEC, [collector], hops) as made:
                emitter = Emitter(made.service.url, "", collector="billing-1", spool=folder / "billing")
                billing = Billing(broker.url, Observer(emitter, "orders", "billing", stages=[Stage.ack]))
                made.watch(sources=SOURCES)
                billing.come()
                confirmed = [f"m-{number}" for number in range(TAKEN + PURGED)]
                for number, name in enumerate(confirmed):
                    if number == TAKEN:
                        made.until(lambda: len(billing.acked) == TAKEN, "all acks")
                        billing.go()
                    if kill and number == TAKEN + PURGED // 2:
                        made.kill_collectors()
                    properties = pika.BasicProperties(message_id=name, delivery_mode=2)
                    channel.basic_publish("", "billing", name.encode(), properties)
                channel.queue_purge("billing")
                if kill:
                    time.sleep(3)
                    made.watch(sources=SOURCES)
                lost = set(confirmed) - set(billing.acked) - truth.in_queue(broker.url, "billing")
                made.settled(len(confirmed))
                result = made.result("queue_purged", sorted(lost), killed=kill)
                billing.come()
                replay = made.replayed("the queue was purged by mistake")
                billing.go()
                emitter.close()
                twice = len(billing.acked) - len(set(billing.acked))
                back = {"acked_again": len(lost & set(billing.acked)), "acked_twice": twice}
                return Result(result.drill, result.truth, result.found, result.detect_s, result.blind,
                              more={**result.more, "replay": replay, **back})  # fmt: skip


if __name__ == "__main__":
    end(main(drill, __doc__))
