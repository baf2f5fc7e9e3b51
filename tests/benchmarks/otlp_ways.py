"""OTLP over HTTP and over gRPC, the same spans in turn: `python -m tests.benchmarks.otlp_ways` prints one JSON line.

Processor time of the service per span, µs, and per request, ms, for bodies as SDKs send them (512 spans) and as
collectors do (8,192): the least and the middle of the rounds. One sender, one request at a time; passes rest meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks import proc, spans
from tests.benchmarks.load import Connection, Request
from tests.benchmarks.watch import load
from tests.benchmarks.wire import Format, bodies, by_hop
from tests.e2e.service import Service
from tests.servers.ports import free_port
from tracker.api.rpc import EXPORT

SIZES = {512: 60, 8192: 12}
"""Spans in a body: how many bodies a round has."""
PROTOBUF = "application/x-protobuf"
Send = Callable[[bytes], Any]


def over_http(port: int) -> Send:
    """Everything by one connection."""
    connection = Connection(port, Format("/v1/traces", PROTOBUF, by_hop(spans.spans)))

    def send(body: bytes) -> None:
        status, content = connection.post(Request(0, 0, "", body))
        assert (status, content) == (200, b"")

    return send


def over_grpc(port: int) -> Send:
    """The same."""
    sending = [("grpc.max_send_message_length", -1)]
    method: Any = grpc.insecure_channel(f"127.0.0.1:{port}", options=sending).unary_unary(EXPORT)

    def send(body: bytes) -> None:
        assert method(body, timeout=60) == b""

    return send


def measured(
    service: Service, ways: dict[str, Callable[[], Send]], size: int, count: int, rounds: int
) -> dict[str, Any]:
    """One size; every body has new ids."""
    made, source = by_hop(spans.spans), bodies(size, time.time_ns() // 1000, 1_000_000, seed=size)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, connected in ways.items():
            sent = [(len(block), bytes(made(block, hop))) for block, hop in (next(source) for _ in range(count))]
            before = proc.process_cpu_s(service.process.pid)
            send = connected()  # anew: the service closes a connection over HTTP that rests for some seconds
            for _, body in sent:
                send(body)
            spent = proc.process_cpu_s(service.process.pid) - before
            taken[way].append(spent / sum(events for events, _ in sent) * 1e6)
    return {
        way: {"us_per_span": [round(min(us), 2), round(statistics.median(us), 2)],
              "ms_per_request": round(statistics.median(us) * size / 1e3, 2)}
        for way, us in taken.items()
    }  # fmt: skip


def main() -> None:
    """One JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    told, port, before = options.parse_args(), free_port(), load()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"TRACKER_OTLP_GRPC_PORT": str(port), "TRACKER_PASS_INTERVAL_S": "3600"}
        with closing(Service(Path(folder), "--insecure", **settings)) as service:
            service.start()
            service.http.put("/v1/flows", content=spans.SPEC).raise_for_status()
            post = lambda: service.http.post("/v1/traces", headers={"Content-Type": PROTOBUF}).status_code  # noqa: E731
            service.until(post, lambda status: status == 200)
            ways = {"http": lambda: over_http(service.port), "grpc": lambda: over_grpc(port)}
            found = {size: measured(service, ways, size, count, told.rounds) for size, count in SIZES.items()}
    print(json.dumps({**found, "load_average": [before, load()]}))


if __name__ == "__main__":
    main()
