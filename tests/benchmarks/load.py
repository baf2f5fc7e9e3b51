"""The load generator: a process of its own, so that nothing of it counts as the service's.

    python -m tests.benchmarks.load --port 8000 --format ndjson --seconds 20

Makes bodies, says `{"ready": ...}`, waits for a line on standard input, sends, and tells as lines of JSON how far it
came, at last what was acknowledged and how soon. Bodies that do not fit the pool are made on the way (`made_late`).
"""

from __future__ import annotations

import argparse
import collections
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.benchmarks.watch import cpu_s
from tests.benchmarks.wire import Body, Format, bodies, formats

FASTEST = {"ndjson": 600_000, "arrow": 1_300_000, "otlp": 500_000}
"""Bodies for so many events per second are made beforehand."""
PATIENCE = 60.0
"""Seconds that an answer may take."""


class Connection:
    """One keep-alive connection, as little HTTP as it takes."""

    def __init__(self, port: int, form: Format) -> None:
        self._port = port
        self._head = f"POST {form.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {form.content_type}\r\n"
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def post(self, body: Body) -> tuple[int, bytes]:
        """Status and content of the answer."""
        self._socket.sendall(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode())
        self._socket.sendall(body)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        head, _, content = read.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(content) < int(fields[b"content-length"]):
            content += self._more()
        return int(head.split(b" ", 2)[1]), content

    def _more(self) -> bytes:
        more = self._socket.recv(65536)
        if not more:
            raise ConnectionError("the service closed the connection in mid-answer")
        return more


class Load:
    """Bodies sent by several threads. `rate`: events per second, 0 is as many as the service takes."""

    def __init__(self, form: Format, per_body: int, seconds: float, rate: float, seed: int) -> None:
        self._form, self._per_body, self._seconds, self._rate = form, per_body, seconds, rate
        start = time.time_ns() // 1000
        step = round(4 * per_body / (rate or 400_000) * 1e6)
        self._source: Iterator[Any] = bodies(per_body, start, step, seed)
        self._pool: collections.deque[Body] = collections.deque()
        self._lock = threading.Lock()
        self._sent = 0
        self.made_late = self.acknowledged = self.refused = 0
        self.waits: list[float] = []
        self.failures: list[str] = []
        self.ended = 0.0

    def prepare(self, count: int, most: int) -> int:
        """Make up to `count` bodies, at most `most` bytes of them; how many bytes they are."""
        size = 0
        while len(self._pool) < count and size < most:
            self._pool.append(self._made())
            size += len(self._pool[-1])
        return size

    def _made(self) -> Body:
        block, hop = next(self._source)
        return self._form.body(block, hop)

    def _next(self) -> tuple[int, Body]:
        with self._lock:
            self._sent += 1
            if self._pool:
                return self._sent - 1, self._pool.popleft()
            self.made_late += 1
            return self._sent - 1, self._made()

    def run(self, port: int) -> None:
        """A thread's work: body after body until the time is over. With a rate each has its moment, and how long it
        took counts from that moment, also when every connection was busy."""
        try:
            self._run(Connection(port, self._form))
        except Exception as error:  # noqa: BLE001 - told in the result; the other threads go on
            self.failures.append(repr(error))

    def _run(self, connection: Connection) -> None:
        while True:
            number, body = self._next()
            due = self.began + number * self._per_body / self._rate if self._rate else time.perf_counter()
            if due >= self.began + self._seconds:
                return
            time.sleep(max(due - time.perf_counter(), 0))
            self._deliver(connection, body)
            took = time.perf_counter()
            with self._lock:
                self.waits.append(took - due)
                self.acknowledged += self._per_body
                self.ended = max(self.ended, took)

    def _deliver(self, connection: Connection, body: Body) -> None:
        """Send until the service says yes."""
        while True:
            status, content = connection.post(body)
            if status == 200 and json.loads(content).get("quarantined", 0) == 0:
                return
            if status != 503:
                raise RuntimeError(f"answered {status}: {content[:500]!r}")
            with self._lock:
                self.refused += 1
            time.sleep(0.1)

    began = 0.0


def main() -> None:
    """Print the result as the last line."""
    options = _options()
    form = formats()[options.format]
    load = Load(form, options.per_body, options.seconds, options.rate, options.seed)
    wanted = int(options.seconds * (options.rate or FASTEST[options.format]) / options.per_body) + options.connections
    began = time.perf_counter()
    size = load.prepare(wanted, options.pool_mb << 20)
    _tell(ready=True, pool_mb=size >> 20, made_s=round(time.perf_counter() - began, 2))
    sys.stdin.readline()
    spent = cpu_s()
    load.began = time.perf_counter()
    threads = [threading.Thread(target=load.run, args=(options.port,)) for _ in range(options.connections)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(options.every)
        _tell(at=round(time.perf_counter() - load.began, 1), events=load.acknowledged)
    waits = np.array(load.waits or [0.0])
    _tell(
        events=load.acknowledged, seconds=load.ended - load.began, made_late=load.made_late, refused=load.refused,
        ack_p50_ms=round(float(np.quantile(waits, 0.5)) * 1e3, 1), ack_max_ms=round(float(waits.max()) * 1e3, 1),
        ack_p99_ms=round(float(np.quantile(waits, 0.99)) * 1e3, 1), cpu_s=cpu_s() - spent, failures=load.failures,
        requests=len(load.waits), done=True,
    )  # fmt: skip


def _tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Send bodies to a tracker.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--format", choices=sorted(FASTEST), default="ndjson")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=0, help="events per second; 0 is as many as it takes")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--per-body", type=int, default=10_000, help="events in one body")
    parser.add_argument("--pool-mb", type=int, default=4_000, help="bodies made beforehand, at most")
    parser.add_argument("--every", type=float, default=10, help="seconds between lines about the progress")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
