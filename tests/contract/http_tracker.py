"""A small HTTP server for the emitter's client path: answers as a tracker does, or as told."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

OK = 200


@dataclass
class Request:
    """One request as it came: `report` is the coverage report, `at` the receipt in epoch microseconds."""

    path: str
    headers: dict[str, str]
    lines: list[dict[str, Any]]
    report: dict[str, Any]
    status: int
    at: int

    @property
    def reached(self) -> int:
        """Up to when the report vouches, as a tracker dates it."""
        return self.at - self.report["lag_ms"] * 1000


@dataclass
class HttpTracker:
    """`script` holds the next answers: (status, headers, body), `hang` seconds before answering; then always 200."""

    script: deque[tuple[int, dict[str, str], Any]] = field(default_factory=deque)
    hang: float = 0.0
    limit: int = 0
    requests: list[Request] = field(default_factory=list)
    token: str = ""
    ahead: int = 0
    """Microseconds by which this server's clock is ahead."""
    tells: bool = True
    """Whether it tells its clock."""
    probes: int = 0
    quarantines: int = 0
    """So many lines of every batch are put in quarantine."""

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.answer(self)

            def do_GET(self) -> None:
                outer.tell(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is part of these tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def now(self) -> int:
        """This server's clock, epoch microseconds."""
        return time.time_ns() // 1000 + self.ahead

    def tell(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer `GET /healthz`: the time, for whoever measures his clock by it."""
        self.probes += 1
        at = self.now
        handler.send_response(OK)
        handler.send_header("Content-Length", "0")
        self._date(handler, at)
        handler.end_headers()

    def _date(self, handler: BaseHTTPRequestHandler, at: int) -> None:
        if self.tells:
            handler.send_header("Tracker-Clock", f"{at} {self.now}")

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Note the request, then answer it by the script."""
        at = self.now
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = gzip.decompress(raw) if handler.headers.get("Content-Encoding") == "gzip" else raw
        alone = handler.path == "/v1/coverage"
        lines = [] if alone else [json.loads(line) for line in body.splitlines()]
        report = json.loads(body if alone else handler.headers.get("Tracker-Coverage", "{}"))
        status, headers, answer = self._answer(handler, body, lines)
        with self.changed:  # noted first: who has the answer may look at once
            self.requests.append(Request(handler.path, dict(handler.headers), lines, report, status, at))
            self.changed.notify_all()
        if self.hang:
            time.sleep(self.hang)
        sent = json.dumps(answer).encode()
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(sent))}.items():
            handler.send_header(name, value)
        self._date(handler, at)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(sent)

    def _answer(
        self, handler: BaseHTTPRequestHandler, body: bytes, lines: list[Any]
    ) -> tuple[int, dict[str, str], Any]:
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, {"title": "token unknown"}
        if self.limit and len(body) > self.limit:
            return 413, {}, {"title": "too large"}
        if self.script:
            return self.script.popleft()
        put = min(self.quarantines, len(lines))
        return 207 if put else OK, {}, {"accepted": len(lines) - put, "quarantined": put, "errors": []}

    @property
    def stored(self) -> list[Request]:
        """The requests that were answered with a 2xx."""
        return [request for request in list(self.requests) if 200 <= request.status < 300]

    @property
    def ids(self) -> list[str]:
        """Message ids of all stored lines, in the order of receipt, repeats included."""
        return [line["message_id"] for request in self.stored for line in request.lines]

    def until(self, condition: Any, timeout: float = 10.0) -> bool:
        """Wait until `condition()` holds after some request, bounded."""
        with self.changed:
            return bool(self.changed.wait_for(condition, timeout))

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
