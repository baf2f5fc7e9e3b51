"""An application that consumes through an instrumented channel, as a process that a test can kill.

`python -m tests.brokers.rabbitmq_consumer URL QUEUE SPOOL`: acks in threes (`multiple`), says `acked N` on stdout when
the observations of N acks are in the spool and the broker is about to be told, and waits for a line on stdin first.
"""

from __future__ import annotations

import sys
from typing import Any

import pika

from collectors.emitter import Emitter
from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from tracker.model.event import Stage


def main(url: str, queue: str, spool: str) -> None:
    """Consume until killed."""
    emitter = Emitter("http://127.0.0.1:9", collector="billing-1", spool=spool)
    observer = Observer(emitter, "orders", "billing", stages=[Stage.deliver, Stage.ack])
    raw = pika.BlockingConnection(pika.URLParameters(url)).channel()
    tell_broker = raw.basic_ack
    seen: list[int] = []

    def hesitating(delivery_tag: int = 0, multiple: bool = False) -> None:
        print(f"acked {len(seen)}", flush=True)
        sys.stdin.readline()
        tell_broker(delivery_tag, multiple)

    raw.basic_ack = hesitating  # type: ignore[method-assign]
    channel = instrument.channel(raw, observer)
    channel.basic_qos(prefetch_count=10)

    def work(_: Any, method: Any, _properties: Any, _body: bytes) -> None:
        seen.append(method.delivery_tag)
        if len(seen) % 3 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)

    channel.basic_consume(queue, work)
    channel.start_consuming()


if __name__ == "__main__":
    main(*sys.argv[1:4])
