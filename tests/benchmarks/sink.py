"""A tracker that says yes at once and keeps nothing: `python -m tests.benchmarks.sink PORT`, for what a collector alone
comes to. It counts by what reports declare, and answers `/readyz`, `/metrics` and `/v1/coverage` as far as needed."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from datetime import UTC, datetime

YES = b'{"accepted": 0, "quarantined": 0, "errors": []}'


class Sink(asyncio.Protocol):
    """One connection. What is counted is shared by all."""

    events = 0
    end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody came."""
        self._transport, self._taken = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        self._taken += data
        while (head := self._taken.find(b"\r\n\r\n")) >= 0:
            lines = self._taken[:head].decode("latin-1").split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            end = head + 4 + int(fields.get("content-length", 0))
            if len(self._taken) < end:
                return
            alone = lines[0].startswith("POST /v1/coverage")
            body = gzip.decompress if fields.get("content-encoding") == "gzip" else bytes
            report = body(self._taken[head + 4 : end]).decode() if alone else fields.get("tracker-coverage", "")
            self._answer(lines[0].split(" ")[1], report)
            del self._taken[:end]

    def _answer(self, path: str, report: str) -> None:
        at = time.time_ns() // 1000
        if report:
            told = json.loads(report)
            Sink.events += told.get("events", 0)
            Sink.end = time.time() - told["lag_ms"] / 1000
        body = YES
        if path.startswith("/metrics"):
            body = f'tracker_ingest_events_total{{flow="orders"}} {Sink.events}\n'.encode()
        elif path.startswith("/v1/coverage"):
            body = json.dumps({"items": [{"end": datetime.fromtimestamp(Sink.end, UTC).isoformat()}]}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nTracker-Clock: {at} {at}\r\n\r\n"
        self._transport.write(head.encode() + body)  # type: ignore[attr-defined]


async def main(port: int) -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
