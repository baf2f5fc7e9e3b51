"""An ActiveMQ queue is purged by mistake, by the package's own tool, while its consumer is away. The broker tells of
each message that it was consumed, as it does of one that was acked.

    python -m tests.drills.activemq_purged --json
    python -m tests.drills.activemq_purged --kill --json
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.brokers.activemq_app import App
from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_activemq

SPEC = """flow: orders
checkpoints:
  - {hop: activemq, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: activemq, within: 20s, coverage: watermark}
"""
ACKED, PURGED, AFTER = range(1000), range(1000, 1700), range(1700, 2500)
GIVEN = 100
"""So many of those that are purged had been given to a consumer, which went away without an ack."""
SOURCES = 2
"""`persist` of the queue, `ack` of its consumer."""


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the broker confirmed, the application did not ack by its own list, and the queue does not hold.
    Nothing of ours is in the application. With `kill` the collectors are dead while the queue is purged."""
    with started_activemq(folder / "activemq") as broker:
        app = App(broker.url)
        connector = broker.first.replace("127.0.0.1", "localhost")  # as the broker's log calls it
        route = {"queue": app.queue, "flow": "orders", "hop": "activemq", "consumer": "billing"}
        collector: dict[str, Any] = {
            "name": "one", "kind": "activemq", "url": broker.first, "first_connector": connector, "routes": [route],
        }  # fmt: skip
        with scene(folder, SPEC, [collector]) as made:
            made.watch(sources=SOURCES)
            confirmed, acked = _put(app, ACKED), _acked(app, len(ACKED))
            confirmed |= _put(app, PURGED)
            app.consume(prefetch=GIVEN)
            app.take(GIVEN)
            app.close()
            made.until(lambda: sum(made.books()["verdicts"].values()) >= PURGED.stop, "all messages")
            if kill:
                made.kill_collectors()
            subprocess.run(broker.purge(app.queue), check=True, capture_output=True, timeout=60)
            lost = confirmed - acked - truth.in_activemq_queue(urlsplit(broker.url).port or 0, app.queue)
            if kill:
                made.watch(sources=SOURCES)
            app.connect()
            confirmed |= _put(app, AFTER)
            acked |= _acked(app, len(AFTER))
            app.close()
            made.settled(len(confirmed))
            return made.result("activemq_purged", sorted(lost), killed=kill)


def _put(app: App, numbers: range) -> set[str]:
    """What the broker said it has."""
    ids = [f"m-{number}" for number in numbers]
    app.put(ids)
    return set(ids)


def _acked(app: App, count: int) -> set[str]:
    """So many messages, each acked, and the broker said so."""
    app.consume()
    acked: set[str] = set()
    while len(acked) < count:
        (frame,) = app.take(1)
        app.ack(frame)
        acked.add(frame.headers["x-message-id"])
    app.client.unsubscribe("1")
    return acked


if __name__ == "__main__":
    end(main(drill, __doc__))
