"""What watching Redis streams costs the server, and how fast one collector reads: a JSON line.

    python -m tests.benchmarks.redis_streams [--entries N] [--keys N]

`plain` and `watched` are XADDs per second as `redis-benchmark` (50 clients, 16 in a pipeline) counts them, without and
with a collector that reads as a replica all the while; `server_us` and `server_watched_us` the server's processor time
for one of them, which counts where all share the cores; medians of three runs each, taken in turns. `read_per_s`:
entries by the processor time that reading, decoding and committing them takes. `fork_ms`: how long the server stands
still for the empty snapshot of a full resync, with so many keys of 100 bytes in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import redis

from collectors.redis.streams import RedisStreams, streams
from tests.servers.redis import BINARY, FORGETFUL, Redis


def added(server: Redis, entries: int) -> tuple[float, float]:
    """XADDs per second, and the server's processor time for one, µs."""
    words = ["XADD", "orders", "*", "x-message-id", "m-__rand_int__", "payload", "x" * 200]
    command = ["redis-benchmark", "-p", str(server.port), "-n", str(entries), "-r", "1000000000", "-P", "16", "--csv"]
    before = _processor(server)
    said = subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout
    return float(said.splitlines()[-1].rsplit('","', 7)[1]), (_processor(server) - before) * 1_000_000 / entries


def _processor(server: Redis) -> float:
    with redis.Redis.from_url(server.url) as client:
        info: Any = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


class Reading:
    """A collector that reads, decodes and commits."""

    def __init__(self, collector: RedisStreams) -> None:
        self.read, self.busy = 0, 0.0
        self._collector, self._stop = collector, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def until(self, count: int) -> None:
        """Wait until so many were read."""
        while self.read < count:
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.thread_time()
            raws = self._collector.read(1000, 0.2)
            for raw in raws:
                self._collector.decode(raw)
            self._collector.commit(raws)
            self.read += len(raws)
            self.busy += time.thread_time() - began if raws else 0.0

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        self._collector.close()


def measured(folder: Path, entries: int, keys: int) -> dict[str, Any]:
    """The line."""
    binary = shutil.which(BINARY)
    assert binary is not None
    server = Redis(folder, binary, {**FORGETFUL, "repl-diskless-sync-delay": "0"}).start()
    try:
        with redis.Redis.from_url(server.url) as client:
            plain, watched, rates = [], [], []
            part = {"stream": "orders", "flow": "orders", "hop": "redis"}
            config = {"url": server.url, "cursor": "", "watch": "replica", "streams": [part]}
            for run in range(3):
                client.flushall()
                plain.append(added(server, entries))
                client.flushall()
                collector = streams("one", {**config, "cursor": str(folder / f"{run}")})
                while not collector.sources():
                    collector.read(1, 0.1)
                reading = Reading(collector)
                watched.append(added(server, entries))
                reading.until(entries)
                rates.append(entries / reading.busy)
                reading.close()
            client.flushall()
            with client.pipeline(transaction=False) as batch:
                for number in range(keys):
                    batch.set(f"key-{number}", "x" * 100)
                    if number % 10_000 == 9_999:
                        batch.execute()
                batch.execute()
            collector = streams("one", {**config, "cursor": str(folder / "last")})
            while not collector.sources():
                collector.read(1, 0.1)
            collector.close()
            info: Any = client.info()
    finally:
        server.kill()
    middle = {
        "plain": [rate for rate, _ in plain], "watched": [rate for rate, _ in watched], "read_per_s": rates,
    }  # fmt: skip
    processor = {
        name: round(statistics.median(us for _, us in found), 2)
        for name, found in (("server_us", plain), ("server_watched_us", watched))
    }
    return {
        "entries": entries, **{name: round(statistics.median(found)) for name, found in middle.items()},
        **processor,
        "keys": keys, "memory_mb": info["used_memory"] >> 20, "fork_ms": info["latest_fork_usec"] / 1000,
    }  # fmt: skip


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redis-streams-") as folder:
        print(json.dumps(measured(Path(folder), options.entries, options.keys)))


if __name__ == "__main__":
    main()
