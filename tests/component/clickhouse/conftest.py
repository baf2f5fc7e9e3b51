"""An app with a small ledger on the embedded engine, on a port of 127.0.0.1, and a token that may read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
import httpx
import pytest
import uvicorn
from clickhouse_connect.driver.httpclient import HttpClient

from tests.component.clickhouse import story
from tests.servers.ports import free_port
from tracker.api.app import create_app
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.ingest.commit import Bounds as Sharing
from tracker.ingest.commit import Committer
from tracker.ingest.intake import Intake
from tracker.slo.metrics import Metrics
from tracker.store.readonly import Bounds, Reader

PATIENCE = 30.0
World = story.World
world = story.world
"""The fixture: a ledger in which something is missing."""


@dataclass
class Face:
    """A running app: its port, its service, and tokens by scope."""

    port: int
    service: Service
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        """Where statements go."""
        return f"http://127.0.0.1:{self.port}/clickhouse"

    def post(self, statement: str | bytes, headers: dict[str, str] | None = None, **parameters: Any) -> httpx.Response:
        """A statement in the body, with a token that may read."""
        given = {"Authorization": f"Bearer {self.tokens['read']}"} if headers is None else headers
        return httpx.post(self.url, params=parameters, content=statement, headers=given, timeout=PATIENCE)

    def connect(self, **options: Any) -> HttpClient:
        """clickhouse-connect's own HTTP client."""
        options = {"username": "ann", "password": self.tokens["read"], **options}
        client = clickhouse_connect.get_client(host="127.0.0.1", port=self.port, proxy_path="clickhouse", **options)
        assert isinstance(client, HttpClient)
        return client


@contextmanager
def served(told: World, bounds: Bounds) -> Iterator[Face]:
    """The app over this ledger."""
    made = told.installation
    committer = Committer(made.store, Sharing(wait=0))
    specs = Specs(made.control)
    intake = Intake(committer, specs.at_ingest, salt=7, inflated=1 << 20)
    clock = lambda: made.now  # noqa: E731  # the installation's, which moves
    service = Service(
        made.store, made.control, intake, specs, Metrics(), clock, reader=Reader(made.store.engine, bounds)
    )
    create = made.control.tokens.create
    tokens = {scope: create(scope, [scope], clock(), "test")[1] for scope in ("read", "ingest")}
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield Face(port, service, tokens)
    server.should_exit = True
    thread.join(PATIENCE)
    committer.close()


@pytest.fixture(scope="module")
def face(world: World) -> Iterator[Face]:
    """The app with the limits that hold unless set otherwise."""
    with served(world, Bounds()) as running:
        yield running
