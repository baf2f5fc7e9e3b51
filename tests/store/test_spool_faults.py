"""Real faults under a real service while clients send: the store goes away, the service is killed, the disk is full.

TRACKER_TEST_KILLS=20 for all the kills, TRACKER_TEST_OUTAGE=60 for a whole minute without the store.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.service import Service, now_us
from tests.store.conftest import Server, started
from tracker.store import Store

KILLS = int(os.environ.get("TRACKER_TEST_KILLS", "3"))
OUTAGE_S = float(os.environ.get("TRACKER_TEST_OUTAGE", "6"))
SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: billing, stage: ack, after: checkout, within: 2s}
"""
SENDERS = 3
MESSAGES = 40
"""Of one batch."""


class Sender:
    """A client as a collector is one: it sends a batch, with the same report, until the tracker says yes. A batch acks
    the messages that the one before it produced."""

    def __init__(self, url: str, name: str) -> None:
        self.name, self.url = name, url
        self.acknowledged: set[tuple[str, str]] = set()
        self.batches = self.refused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The messages that were produced are acked, then it ends."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        produced: list[str] = []
        number = 0
        with httpx.Client(base_url=self.url, timeout=30) as http:
            while produced or not self._stop.is_set():
                number += 1
                new = [] if self._stop.is_set() else [f"{self.name}-{number}-{n}" for n in range(MESSAGES)]
                self._send(
                    http, number, [(name, "billing") for name in produced] + [(name, "checkout") for name in new]
                )
                produced = new

    def _send(self, http: httpx.Client, number: int, events: list[tuple[str, str]]) -> None:
        stages = {"billing": "ack", "checkout": "produce"}
        at = now_us()
        lines = [
            {"flow": "orders", "message_id": name, "hop": hop, "stage": stages[hop], "observed_at": at}
            for name, hop in events
        ]
        sources = [{"flow": "orders", "hop": hop, "stage": stage, "source": self.name} for hop, stage in stages.items()]
        report = {"collector": self.name, "epoch": 1, "sequence": number, "events": len(lines), "sources": sources}
        body = "\n".join(map(json.dumps, lines))
        headers = {"Tracker-Coverage": json.dumps(report), "Content-Type": "application/x-ndjson"}
        while True:
            try:
                answer = http.post("/v1/events", content=body, headers=headers)
                if answer.status_code == 200:
                    break
                assert answer.status_code in (429, 503), answer.text
                assert int(answer.headers["Retry-After"]) > 0
                self.refused += 1
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        self.batches += 1
        self.acknowledged.update(events)


def senders(service: Service) -> list[Sender]:
    """Several, sending from now on."""
    return [Sender(service.url, f"c{n}") for n in range(SENDERS)]


def stopped(sending: list[Sender]) -> set[tuple[str, str]]:
    """What all of them were told is kept."""
    for one in sending:
        one.stop()
    return set.union(*(one.acknowledged for one in sending))


def all_is_there(service: Service, told: set[tuple[str, str]]) -> None:
    """Everything is stored and judged, each message once; nobody was ever called missing; no report is missing."""
    service.until(lambda: service.get("/healthz")["spool"]["bytes"], lambda size: size == 0)
    messages = len({name for name, _ in told})
    assert len(told) == 2 * messages
    books = service.until(
        lambda: service.get("/v1/flows/orders/reconciliation", **{"from": "-1h", "step": "1m"}),
        lambda found: sum(found["verdicts"].get(verdict, 0) for verdict in ("delivered", "late")) == messages,
    )
    assert set(books["verdicts"]) <= {"delivered", "late"}  # senders that wait for a tracker are late, and say so
    assert (books["produced"], books["orphans"], books["conserved"]) == (messages, 0, True)
    assert service.get("/v1/findings", flow="orders")["items"] == []
    runs = service.get("/v1/coverage", flow="orders", hop="billing")["items"]
    assert sorted(run["collector"] for run in runs) == [f"c{n}" for n in range(SENDERS)]


def rows_of(url: str) -> tuple[int, int]:
    """(rows, distinct events) in a ledger."""
    store = Store.open(url)
    try:
        [row] = store.engine.rows(
            f"SELECT count() AS n, uniqExact(message_id, hop) AS told FROM {store.engine.database}.events"
        )
        return int(row["n"]), int(row["told"])
    finally:
        store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A ClickHouse server of one's own, which can be killed."""
    running = started(tmp_path / "server")
    yield running
    running.stop()


def served(tmp_path: Path, server: Server, **settings: str) -> Service:
    """A service on that server, with the flow."""
    own = {"TRACKER_STORE": server.url("ledger"), "TRACKER_CONTROL": f"sqlite:///{tmp_path}/control.db"}
    running = Service(tmp_path / "service", "--insecure", **own, **settings).start()
    running.http.put("/v1/flows", content=SPEC).raise_for_status()
    return running


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_store_that_is_away_for_a_while(tmp_path: Path, server: Server) -> None:
    """Senders go on as if nothing were; when it is back, all of it is stored, once, and nobody was called missing."""
    service = served(tmp_path, server)
    try:
        sending = senders(service)
        service.until(lambda: min(one.batches for one in sending), lambda least: least > 5)
        server.kill()
        before = [one.batches for one in sending]
        time.sleep(OUTAGE_S)
        assert all(one.batches > then for one, then in zip(sending, before, strict=True))
        spool = service.get("/healthz")["spool"]
        assert spool["bytes"] > 0
        assert spool["oldest_s"] > 1
        server.start()
        service.until(lambda: service.get("/healthz")["spool"]["bytes"], lambda size: size == 0)
        told = stopped(sending)
        assert sum(one.refused for one in sending) == 0
        all_is_there(service, told)
        assert service.get("/healthz")["spool"]["drained_rows"] > 0
        assert "tracker_spool_drained_rows_total" in service.http.get("/metrics").text
    finally:
        service.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_while_the_store_is_up(tmp_path: Path) -> None:
    """SIGKILL at random moments of ingest: what was answered is there, and what was sent again counts once."""
    service = Service(tmp_path, "--insecure").start()
    try:
        service.http.put("/v1/flows", content=SPEC).raise_for_status()
        sending = senders(service)
        chance = random.Random(4)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.3, 1.5))
            service.process.kill()
            service.start()
        told = stopped(sending)
        all_is_there(service, told)
    finally:
        service.close()
    _, distinct = rows_of(service.settings["TRACKER_STORE"])
    assert distinct == len(told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_while_the_store_is_down(tmp_path: Path, server: Server) -> None:
    """SIGKILL while batches are taken into the spool, and again while they are taken out of it."""
    service = served(tmp_path, server)
    try:
        sending = senders(service)
        chance = random.Random(5)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 0.5))
            server.kill()
            time.sleep(chance.uniform(0.2, 1.5))
            service.process.kill()
            server.start()
            service.start()
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, 0.2))
                service.process.kill()
                service.start()
        told = stopped(sending)
        all_is_there(service, told)
        _, distinct = rows_of(server.url("ledger"))
        assert distinct == len(told)
    finally:
        service.close()


def mounted(folder: Path) -> bool:
    """A disk of 256 KiB of its own; only where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("full", ["disk", "bound"])
def test_a_spool_without_room_says_so_and_keeps_what_it_has(tmp_path: Path, server: Server, full: str) -> None:
    """503 with Retry-After once its disk, or its bound, is full; after a SIGKILL all that was answered is stored."""
    folder = tmp_path / "spool"
    if full == "disk" and not mounted(folder):
        pytest.skip("mounting a tmpfs is not allowed here; tests/unit/ingest/test_spool.py fails the calls instead")
    settings = {"TRACKER_SPOOL": str(folder), "TRACKER_SPOOL_MB": "1000" if full == "disk" else "1"}
    try:
        service = served(tmp_path, server, **settings)
        try:
            sending = senders(service)
            service.until(lambda: min(one.batches for one in sending), lambda least: least > 2)
            server.kill()
            service.until(lambda: min(one.refused for one in sending), lambda least: least > 2)
            assert service.http.get("/healthz").status_code == 200
            before = set.union(*(set(one.acknowledged) for one in sending))
            service.process.kill()
            server.start()
            service.start()
            told = stopped(sending)
            assert before < told
            all_is_there(service, told)
        finally:
            service.close()
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)
