"""The whole service with its ledger on a server, and what happens while that server is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Service, now_us
from tests.store.conftest import Server, started

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: billing, stage: ack, after: checkout, within: 2s}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of one's own."""
    running = started(tmp_path / "server")
    yield running
    running.stop()


@pytest.fixture
def service(tmp_path: Path, server: Server) -> Iterator[Service]:
    """`tracker serve` with TRACKER_STORE=clickhouse://..."""
    control = f"sqlite:///{tmp_path}/control.db"
    running = Service(
        tmp_path / "service", "--insecure", TRACKER_STORE=server.url("ledger"), TRACKER_CONTROL=control
    ).start()
    yield running
    running.close()


def events(ident: str, *hops: tuple[str, str]) -> list[dict[str, Any]]:
    """One message at these (hop, stage), now."""
    at = now_us()
    return [
        {"flow": "orders", "message_id": ident, "hop": hop, "stage": stage, "observed_at": at + n, "delivery": "d"}
        for n, (hop, stage) in enumerate(hops)
    ]


def verdict(service: Service, ident: str) -> str:
    """What the service says of a message."""
    return str(service.get(f"/v1/flows/orders/messages/{ident}")["verdict"])


@pytest.mark.slow
def test_a_service_on_a_server_survives_the_servers_death(service: Service, server: Server) -> None:
    """Delivered and missing are told apart; while the server is down a batch is taken into the spool; after it came
    back, on the same address, all is there and judged."""
    service.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
    service.send(events("whole", ("checkout", "produce"), ("billing", "ack")) + events("half", ("checkout", "produce")))
    service.until(lambda: verdict(service, "whole"), lambda found: found == "delivered")
    service.until(lambda: verdict(service, "half"), lambda found: found != "in_flight")
    server.kill()
    late = events("late", ("checkout", "produce"), ("billing", "ack"))
    service.send(late)
    health = service.http.get("/healthz")
    assert (health.status_code, health.json()["spool"]["bytes"] > 0) == (200, True)
    assert service.http.get("/readyz").status_code == 503
    assert service.http.get("/readyz", params={"to": "ingest"}).status_code == 200
    server.start()
    service.until(lambda: service.get("/healthz")["spool"], lambda spool: spool["bytes"] == 0)
    service.until(lambda: verdict(service, "late"), lambda found: found == "delivered")
    assert verdict(service, "whole") == "delivered"
