"""A Redis without persistence is killed while entries of a stream wait for their group. It comes back empty, and nobody
is told: producers had their ids, and consumers read on.

    python -m tests.drills.redis_restarted --json
    python -m tests.drills.redis_restarted --kill --json
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import Missing, scene
from tests.servers.redis import BINARY, FORGETFUL, Redis

SPEC = """flow: orders
checkpoints:
  - {hop: redis, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: redis, within: 20s, coverage: watermark}
"""
ACKED, UNREAD, AFTER = range(1000), range(1000, 1700), range(1700, 2500)
SOURCES = 3
"""`persist` of the stream, `deliver` and `ack` of the group."""


class Billing:
    """An application that reads as a member of the group, notes what it was told to be acked, and makes the group anew
    when it is gone. Nothing of ours is in it."""

    def __init__(self, url: str) -> None:
        self.acked: set[str] = set()
        self._url = url
        self._stop, self._thread = threading.Event(), threading.Thread()

    def come(self) -> None:
        """Read on."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def go(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        with redis.Redis.from_url(self._url, decode_responses=True, protocol=2) as client:
            while not self._stop.is_set():
                for _, entries in client.xreadgroup("billing", "one", {"orders": ">"}, count=50, block=100) or ():
                    for entry, fields in entries:
                        if client.xack("orders", "billing", entry):
                            self.acked.add(fields["x-message-id"])


@contextmanager
def started_redis(folder: Path) -> Iterator[Redis]:
    """A server that keeps nothing, gone afterwards."""
    binary = shutil.which(BINARY)
    if binary is None:
        raise Missing("this drill needs Redis: make servers")
    folder.mkdir()
    server = Redis(folder, binary, {**FORGETFUL, "repl-diskless-sync-delay": "0"})
    try:
        yield server.start()
    finally:
        server.kill()


def drill(folder: Path, kill: bool) -> Result:
    """The truth is what the server gave an id to, does not hold after its restart, and never said to be acked. With
    `kill` the collectors are dead while the server is restarted: what was not acked is unknown then."""
    with started_redis(folder / "redis") as server:
        group = {"group": "billing", "hop": "billing"}
        collector = {
            "name": "redis", "kind": "redis-streams", "url": server.url, "cursor": str(folder / "redis.cursor"),
            "streams": [{"stream": "orders", "flow": "orders", "hop": "redis", "groups": [group]}],
        }  # fmt: skip
        _group(server.url)
        with scene(folder, SPEC, [collector]) as made:
            made.watch(sources=SOURCES)
            billing = Billing(server.url)
            billing.come()
            confirmed = _add(server.url, ACKED)
            made.until(lambda: len(billing.acked) == len(ACKED), "all acks")
            billing.go()
            confirmed |= _add(server.url, UNREAD)
            made.until(lambda: sum(made.books()["verdicts"].values()) >= UNREAD.stop, "all entries")
            if kill:
                made.kill_collectors()
            server.kill()
            server.start()
            lost = confirmed - billing.acked - truth.in_stream(server.url, "orders")
            if kill:
                made.watch(sources=SOURCES)
            else:
                made.until(lambda: len(made.findings()) >= len(lost), "findings")
                time.sleep(2)  # and no more
            _group(server.url)
            billing.come()
            confirmed |= _add(server.url, AFTER)
            made.until(lambda: len(billing.acked) == len(ACKED) + len(AFTER), "all acks")
            billing.go()
            made.decided(len(confirmed)) if kill else made.settled(len(confirmed))
            return made.result("redis_restarted", sorted(lost), blind=made.unknown(lost), killed=kill)


def _group(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.xgroup_create("orders", "billing", id="0", mkstream=True)


def _add(url: str, numbers: range) -> set[str]:
    """What the server gave an id to."""
    with redis.Redis.from_url(url) as client:
        return {name for name in (f"m-{number}" for number in numbers) if client.xadd("orders", {"x-message-id": name})}


if __name__ == "__main__":
    end(main(drill, __doc__))
