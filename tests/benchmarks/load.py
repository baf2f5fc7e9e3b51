"""The load generator: a process of its own, so that nothing of it counts as the service's.

    python -m tests.benchmarks.load --port 8000 --format ndjson --seconds 20

Makes bodies, says `{"ready": ...}`, waits for a line on standard input, sends, and tells as lines of JSON how far it
came, at last what was acknowledged and how soon. Bodies that do not fit the pool are made on the way (`made_late`).
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from tests.benchmarks import spans
from tests.benchmarks.watch import cpu_s
from tests.benchmarks.wire import Body, Compression, Format, bodies, by_hop, formats
from tests.benchmarks.workload import FLOW, HOPS

FASTEST = {"ndjson": 600_000, "arrow": 1_300_000, "otlp": 500_000}
"""By format; bodies for so many events per second are made beforehand."""
PATIENCE = 60.0
"""Seconds that an answer may take."""
AGAIN = 0.1
"""Seconds until a body that was refused for now is sent again."""


@dataclass(frozen=True, slots=True)
class Request:
    """A body with what goes before it, how many events it has, and which one it is."""

    number: int
    events: int
    coverage: str
    body: Body


class Connection:
    """One keep-alive connection, as little HTTP as it takes."""

    def __init__(self, port: int, form: Format) -> None:
        self._head = f"POST {form.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {form.content_type}\r\n"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, request: Request) -> tuple[int, bytes]:
        """Status and content of the answer."""
        head = f"{self._head}{request.coverage}Content-Length: {len(request.body)}\r\n\r\n"
        self._socket.sendall(head.encode())
        self._socket.sendall(request.body)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        answer, _, content = read.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:])
        while len(content) < int(fields[b"content-length"]):
            content += self._more()
        return int(answer.split(b" ", 2)[1]), content

    def _more(self) -> bytes:
        more = self._socket.recv(65536)
        if not more:
            raise ConnectionError("the service closed the connection in mid-answer")
        return more


class Load:
    """Bodies sent by several threads. `rate`: events per second, 0 is as many as the service takes."""

    def __init__(self, form: Format, per_body: int, seconds: float, rate: float, coverage: bool, seed: int) -> None:
        self._form, self._seconds, self._coverage = form, seconds, coverage
        self._spacing = per_body / rate if rate else 0.0
        step = round(4 * per_body / (rate or 400_000) * 1e6)
        self._source = zip(itertools.count(), bodies(per_body, time.time_ns() // 1000, step, seed), strict=False)
        self._pool: collections.deque[Request] = collections.deque()
        self._lock = threading.Lock()
        self.began = self.ended = 0.0
        self.made_late = self.acknowledged = self.refused = 0
        self.waits: list[float] = []
        self.failures: list[str] = []

    def prepare(self, count: int, most: int) -> int:
        """Make up to `count` bodies, at most `most` bytes of them; how many bytes they are."""
        size = 0
        while len(self._pool) < count and size < most:
            self._pool.append(self._made())
            size += len(self._pool[-1].body)
        return size

    def _made(self) -> Request:
        number, (block, hop) = next(self._source)
        coverage = _report(number, len(block), hop) if self._coverage and "events" in self._form.path else ""
        return Request(number, len(block), coverage, self._form.body(block, hop))

    def _next(self) -> Request:
        with self._lock:
            if self._pool:
                return self._pool.popleft()
            self.made_late += 1
            return self._made()

    def run(self, port: int) -> None:
        """A thread's work: body after body until the time is over. With a rate each has its moment, and how long it
        took counts from that moment, also when every connection was busy."""
        try:
            self._run(Connection(port, self._form))
        except Exception as error:  # noqa: BLE001 - told in the result; the other threads go on
            self.failures.append(repr(error))

    def _run(self, connection: Connection) -> None:
        while True:
            request = self._next()
            due = self.began + request.number * self._spacing if self._spacing else time.perf_counter()
            if due >= self.began + self._seconds:
                return
            time.sleep(max(due - time.perf_counter(), 0))
            self._deliver(connection, request)
            took = time.perf_counter()
            with self._lock:
                self.waits.append(took - due)
                self.acknowledged += request.events
                self.ended = max(self.ended, took)

    def _deliver(self, connection: Connection, request: Request) -> None:
        """Send until the service says yes."""
        since = time.perf_counter()
        while True:
            status, content = connection.post(request)
            if status == 200:
                return
            if status != 503 or time.perf_counter() > since + PATIENCE:
                raise RuntimeError(f"answered {status}: {content[:500]!r}")
            with self._lock:
                self.refused += 1
            time.sleep(AGAIN)


def _report(number: int, events: int, hop: int) -> str:
    """The header by which a hop's collector vouches for all that it has seen."""
    name, stage = HOPS[hop]
    source = {"flow": FLOW, "hop": name, "stage": stage, "source": "all"}
    report = {"collector": name, "epoch": 1, "sequence": number // 4 + 1, "events": events, "sources": [source]}
    return f"Tracker-Coverage: {json.dumps(report)}\r\n"


def main() -> None:
    """Print the result as the last line."""
    options = _options()
    form = _form(options)
    load = Load(form, options.per_body, options.seconds, options.rate, options.coverage, options.seed)
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
        _rest(threads, options.every)
        _tell(at=round(time.perf_counter() - load.began, 1), events=load.acknowledged)
    waits = np.array(load.waits or [0.0]) * 1e3
    p50, p99, worst = (round(float(value), 1) for value in np.quantile(waits, (0.5, 0.99, 1)))
    _tell(
        done=True, events=load.acknowledged, seconds=load.ended - load.began, requests=len(load.waits),
        ack_p50_ms=p50, ack_p99_ms=p99, ack_max_ms=worst, made_late=load.made_late, refused=load.refused,
        cpu_s=cpu_s() - spent, failures=load.failures,
    )  # fmt: skip


def _form(options: argparse.Namespace) -> Format:
    if options.format == "otlp":
        return Format("/v1/traces", "application/x-protobuf", by_hop(spans.spans))
    return formats(options.compression)[options.format]


def _rest(threads: list[threading.Thread], seconds: float) -> None:
    """For so long, or until all have ended."""
    until = time.perf_counter() + seconds
    for thread in threads:
        thread.join(max(until - time.perf_counter(), 0))


def _tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


def options_of(parser: argparse.ArgumentParser) -> None:
    """What the generator needs to know, also for those who start it."""
    parser.add_argument("--format", choices=sorted(FASTEST), default="ndjson")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=0, help="events per second; 0 is as many as it takes")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--per-body", type=int, default=10_000, help="events in one body")
    parser.add_argument("--pool-mb", type=int, default=4_000, help="bodies made beforehand, at most")
    parser.add_argument("--every", type=float, default=10, help="seconds between points of the curve")
    parser.add_argument("--compression", choices=get_args(Compression), default="lz4", help="of Arrow's buffers")
    parser.add_argument("--coverage", action=argparse.BooleanOptionalAction, default=True, help="report it with each")
    parser.add_argument("--seed", type=int, default=1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Send bodies to a tracker.")
    parser.add_argument("--port", type=int, required=True)
    options_of(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
