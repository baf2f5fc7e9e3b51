"""A RabbitMQ node is killed while messages wait in a classic queue. Those that were not published as persistent had
been confirmed all the same, and are gone.

    python -m tests.drills.node_killed --json
    python -m tests.drills.node_killed --kill --json
"""

from __future__ import annotations

from pathlib import Path

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import Scene, scene, started_rabbitmq
from tracker.model.event import Stage

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit,  stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: rabbit, within: 45s, coverage: watermark}
"""
MESSAGES = 1000


def drill(folder: Path, kill: bool) -> Result:
    """Every second message is persistent; the truth is what was confirmed and is not in the queue after the restart.
    The consumer runs all the time, and reads once the node is back."""
    with started_rabbitmq(folder / "rabbitmq") as broker:
        collector = {
            "name": "rabbit", "kind": "rabbitmq", "url": broker.url,
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit"}],
        }  # fmt: skip
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            connection.channel().queue_declare("billing", durable=True)
        with scene(folder, SPEC, [collector]) as made:
            emitter = Emitter(made.service.url, "", collector="billing-1", spool=folder / "billing")
            observer = Observer(emitter, "orders", "billing", stages=[Stage.ack])
            made.watch(sources=2)
            confirmed = _publish(broker.url)
            made.until(lambda: made.books()["verdicts"].get("in_flight", 0) >= MESSAGES, "the firehose")
            broker.kill()
            if kill:
                made.kill_collectors()
            broker.start()
            broker.trace()
            if kill:
                made.watch(sources=2)
            lost = confirmed - truth.in_queue(broker.url, "billing")
            _consume(broker.url, observer, len(confirmed - lost))
            # On a slow machine the node is back after the deadline: the acks are late then, and mend what was found.
            made.until(lambda: _through(made) >= len(confirmed - lost), "the acks")
            made.settled(MESSAGES)
            emitter.close()
            return made.result("node_killed", sorted(lost), killed=kill)


def _through(made: Scene) -> int:
    """How many messages went all the way."""
    verdicts = made.books()["verdicts"]
    return int(verdicts.get("delivered", 0) + verdicts.get("late", 0))


def _publish(url: str) -> set[str]:
    """What the broker confirmed."""
    confirmed = set()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(MESSAGES):
            properties = pika.BasicProperties(message_id=f"m-{number}", delivery_mode=2 if number % 2 else 1)
            channel.basic_publish("", "billing", b"{}", properties)
            confirmed.add(f"m-{number}")
    return confirmed


def _consume(url: str, observer: Observer, count: int) -> None:
    """An application that acks so many messages, instrumented."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = instrument.channel(connection.channel(), observer)
        for method, _, _ in channel.consume("billing", inactivity_timeout=10):
            if method is None:
                raise AssertionError(f"{count} messages had been in the queue, and do not come")
            channel.basic_ack(method.delivery_tag)
            count -= 1
            if not count:
                return


if __name__ == "__main__":
    end(main(drill, __doc__))
