"""What a firehose collector does, in its runner, when the broker fails: nothing is vouched for that nobody saw."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from collectors.emitter import Emitter
from collectors.errors import Unavailable
from collectors.rabbitmq.firehose import firehose
from collectors.runner import Bounds, Runner
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost, own_vhost, read_until, vouches
from tests.servers.proxy import CHUNK, Proxy
from tracker.model.coverage import Report, SourceRef
from tracker.model.event import Event

pytestmark = pytest.mark.brokers

BILLING = SourceRef("orders", "rabbit-billing", "persist", "billing")


class Ledger:
    """An endpoint that takes what a tracker takes and keeps it: events by id, reports in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.reports: list[Report] = []
        ledger = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                ledger.take(self.path, body, self.headers.get("Tracker-Coverage"))
                answer = b'{"accepted": 0, "quarantined": 0, "errors": []}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes, coverage: str | None) -> None:
        """Keep one request."""
        if path == "/v1/events":
            self.ids += [msgspec.json.decode(line, type=Event).message_id for line in body.splitlines()]
        report = body if path == "/v1/coverage" else (coverage or "").encode()
        if report:
            self.reports.append(msgspec.json.decode(report, type=Report))

    def vouched(self) -> bool:
        """Whether the last report vouches for the queue, freshly."""
        last = self.reports[-1] if self.reports else None
        return last is not None and BILLING in last.sources and last.lag_ms < 3000


@contextmanager
def running(settings: dict[str, Any], folder: Path) -> Iterator[tuple[Runner, Ledger]]:
    """A collector in its runner with its emitter, reporting to a `Ledger`."""
    ledger = Ledger()
    serving = threading.Thread(target=ledger.server.serve_forever, daemon=True)
    serving.start()
    emitter = Emitter(ledger.url, collector="rabbit", spool=folder / "spool", reader=True)
    bounds = Bounds(backoff=(0.1, 0.5))
    runner = Runner("rabbit", firehose(settings), emitter, folder / "rejects.ndjson", bounds=bounds)
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    try:
        yield runner, ledger
    finally:
        runner.stop()
        thread.join(PATIENCE)
        ledger.server.shutdown()
        ledger.server.server_close()
        serving.join(PATIENCE)


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Until it holds; fails with `what`."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"waited {patience} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        yield vhost


class Cutting(Proxy):
    """Ends each connection when the client has sent so many times; 0: never."""

    def __init__(self, server: tuple[str, int], times: int) -> None:
        self.times = times
        super().__init__(server)

    def _pump(self, source: socket.socket, target: socket.socket, downwards: bool) -> None:
        if downwards or not self.times:
            super()._pump(source, target, downwards)
            return
        for _ in range(self.times - 1):
            target.sendall(source.recv(CHUNK))
        source.recv(CHUNK)
        target.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_connection_that_is_cut_while_it_begins_is_tried_again(vhost: Vhost, times: int) -> None:
    """After the protocol's header, the login, the choice of the vhost, the first channel: a node that goes down, or
    comes up, does that, and no password is wrong."""
    server = urlsplit(vhost.url)
    with Cutting((server.hostname or "", server.port or 5672), times) as proxy:
        collector = firehose(vhost.settings(url=vhost.url.replace(server.netloc.rpartition("@")[2], proxy.at)))
        with pytest.raises(Unavailable):
            collector.read(10, 0.1)
        proxy.times = 0
        read_until(collector, lambda _: vouches(collector))
        collector.close()


def test_a_cut_connection_loses_nothing(vhost: Vhost, tmp_path: Path) -> None:
    """Cut in mid-stream: the runner connects again, and every message is reported."""
    with running(vhost.settings(), tmp_path) as (_, ledger):
        wait_for(ledger.vouched, "coverage")
        for number in range(200):
            vhost.publish(f"m-{number}")
            if number == 100:
                vhost.cut("tracker.trace.test")
        wait_for(lambda: len(set(ledger.ids)) == 200, "all messages")
        wait_for(ledger.vouched, "coverage again")


def test_switching_the_firehose_off_is_a_hole_in_coverage(vhost: Vhost, tmp_path: Path) -> None:
    """However short it was off: the health says why, and between the coverage before and after it lies a report that
    does not vouch, for what was published meanwhile was never seen."""
    with running(vhost.settings(hole_for=3.0), tmp_path) as (runner, ledger):
        wait_for(ledger.vouched, "coverage")
        vhost.trace(False)
        wait_for(lambda: "trace_on" in runner.health.last_error, "the command in the health")
        vhost.publish("m-unseen")
        vhost.trace(True)
        seen = len(ledger.reports)
        wait_for(lambda: any(BILLING not in report.sources for report in ledger.reports[seen:]), "a report without it")
        wait_for(ledger.vouched, "coverage again")
        vhost.publish("m-seen")
        wait_for(lambda: ledger.ids, "the message published after it")
    assert ledger.ids == ["m-seen"]


@pytest.mark.slow
def test_a_broker_killed_and_started_again_has_its_firehose_off(
    rabbitmq_factory: Callable[..., Any], tmp_path: Path
) -> None:
    """SIGKILL of the node: what was traced before it and not read survives in the quorum queue; after it nothing is
    vouched for until somebody switches the firehose on."""
    server = rabbitmq_factory()
    with own_vhost(server) as vhost:
        vhost.orders("billing")
        with running(vhost.settings(), tmp_path / "first") as (_, ledger):
            wait_for(ledger.vouched, "coverage")
        for number in range(50):
            vhost.publish(f"m-{number}", delivery_mode=2)
        vhost.connection.close()
        server.kill()
        with running(vhost.settings(), tmp_path / "second") as (runner, ledger):
            wait_for(lambda: "cannot be reached" in runner.health.last_error, "the outage in the health")
            server.start()
            wait_for(lambda: len(set(ledger.ids)) == 50, "what was traced before the kill", 60.0)
            wait_for(lambda: "trace_on" in runner.health.last_error, "the command in the health")
            assert not any(BILLING in report.sources for report in ledger.reports)
            server.trace(True, vhost.name)
            wait_for(ledger.vouched, "coverage")
