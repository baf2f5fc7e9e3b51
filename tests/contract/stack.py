"""A Kafka topic, a RabbitMQ queue and an outbox, each with a flow, watched by one process of collectors that tells one
tracker: all of it real."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pika
import psycopg
import yaml

from collectors.rabbitmq.connect import closed
from tests.brokers.kafka_topic import Topic, own_topic
from tests.brokers.rabbitmq_vhost import Vhost, own_vhost
from tests.e2e.service import Service, environment
from tests.servers.postgres import Databases, let_go
from tests.servers.process import Process

PATIENCE = 300.0
"""Seconds within which a busy machine gets there."""
TABLE = "CREATE TABLE outbox (id text PRIMARY KEY, payload text, created_at timestamptz DEFAULT clock_timestamp())"
SPECS = {
    "kafka": ("shop", "produce", "kafka-eu", "persist"),
    "rabbit": ("shop", "produce", "rabbit-billing", "persist"),
    "outbox": ("shop", "produce", "shop", "ack"),
}
"""By system: the checkpoint before, and the one behind it within a second; collectors see the second, of the outbox
both. What is put into a broker is told by its producer."""


def spec(flow: str, system: str) -> str:
    """A flow of two checkpoints."""
    hop, stage, next_hop, next_stage = SPECS[system]
    first: dict[str, Any] = {"hop": hop, "stage": stage}
    if system == "outbox":
        first |= {"outbox": True, "coverage": "watermark"}
    second = {"hop": next_hop, "stage": next_stage, "after": f"{hop}:{stage}", "within": "1s", "coverage": "watermark"}
    return yaml.safe_dump({"flow": flow, "checkpoints": [first, second]})


@dataclass
class Stack:
    """`put` messages into all three; what their producers saw is told to the tracker by `tell`, when it is there."""

    name: str
    service: Service
    topic: Topic
    vhost: Vhost
    url: str
    outbox: psycopg.Connection[Any]
    folder: Path
    sent: list[str] = field(default_factory=list)
    produced: list[dict[str, Any]] = field(default_factory=list)

    def flow(self, system: str) -> str:
        """Its flow, of this test's own."""
        return f"{self.name}-{system}"

    def put(self, count: int) -> None:
        """So many messages into each system; they leave the outbox at once."""
        ids = [f"m-{len(self.sent) + n}" for n in range(count)]
        self.sent += ids
        at = time.time_ns() // 1000
        for system in ("kafka", "rabbit"):
            self.produced += [
                {"flow": self.flow(system), "message_id": one, "hop": "shop", "stage": "produce", "observed_at": at}
                for one in ids
            ]
        self.topic.put(ids)
        channel = self.vhost.connection.channel()  # without confirms, which take a round trip for each
        for one in ids:
            channel.basic_publish("orders", "new.eu", one.encode(), pika.BasicProperties(message_id=one))
        channel.close()  # answered behind all of them
        self.outbox.execute("INSERT INTO outbox (id, payload) SELECT unnest(%s::text[]), '{}'", (ids,))
        self.outbox.execute("DELETE FROM outbox")

    def connect(self) -> None:
        """Anew, after the servers were away."""
        self.outbox.close()
        self.outbox = psycopg.connect(self.url, autocommit=True)
        closed(self.vhost.connection)
        self.vhost.connection = pika.BlockingConnection(pika.URLParameters(self.vhost.url))

    def tell(self) -> None:
        """What producers saw."""
        told, self.produced = self.produced, []
        self.service.send(told)

    def collectors(self, spool_mb: int, *python: str) -> Process:
        """One process for all three. `python`: what runs the command in place of `collectors`."""
        config = self.folder / "collectors.yaml"
        tracked = {"topic": self.topic.name, "flow": self.flow("kafka"), "hop": "kafka-eu"}
        table = {"table": "outbox", "flow": self.flow("outbox"), "hop": "shop", "payload": "payload",
                 "relayed": "delete"}  # fmt: skip
        queue = {"queue": "billing", "flow": self.flow("rabbit"), "hop": "rabbit-billing"}
        made = [
            {"name": f"{self.name}-kafka", "kind": "kafka", "url": self.topic.url, "topics": [tracked]},
            {"kind": "rabbitmq", **self.vhost.settings(
                name=f"{self.name}-rabbit", queues=[queue], hole_for=3.0,
                exchanges=[{"exchange": "orders", "flow": self.flow("rabbit")}])},
            {"name": f"{self.name}_outbox", "kind": "postgres-outbox", "url": self.url, "tables": [table]},
        ]  # fmt: skip
        settings = {"tracker": {"url": self.service.url}, "spool": str(self.folder / "spool"), "spool_mb": spool_mb}
        config.write_text(yaml.safe_dump({**settings, "collectors": made}))
        command = [sys.executable, "-m", *(python or ("collectors.main",)), "run", str(config)]
        return Process("collectors", command, self.folder, environment())

    def vouched(self) -> bool:
        """Whether everything is vouched for up to a moment ago."""
        fresh = set()
        for system in SPECS:
            for row in self.service.get("/v1/coverage", flow=self.flow(system), limit=1000)["items"]:
                if not row["closed"] and row["source"] and _age(row["end"]) < 5:
                    fresh.add((row["flow"], row["hop"], row["stage"]))
        return all((self.flow(system), *SPECS[system][2:]) in fresh for system in SPECS)

    def books(self, system: str) -> dict[str, Any]:
        """What became of its messages."""
        path = f"/v1/flows/{self.flow(system)}/reconciliation"
        return dict(self.service.get(path, **{"from": "-2h", "to": "now"}))

    def settled(self) -> None:
        """Wait until every message is delivered: `late`, where this machine was slow for a moment, is delivered too."""

        def done() -> bool:
            found = [self.books(system)["verdicts"] for system in SPECS]
            return all(books.get("delivered", 0) + books.get("late", 0) == len(self.sent) for books in found)

        self.until(done, lambda: f"{[self.books(system) for system in SPECS]}")

    def findings(self) -> list[Any]:
        """All that were ever opened."""
        return [one for s in SPECS for one in self.service.get("/v1/findings", flow=self.flow(s), limit=10)["items"]]

    def until(self, met: Callable[[], Any], said: Callable[[], str]) -> Any:
        """What `met` gives, as soon as it is true."""
        until = time.monotonic() + PATIENCE
        while not (found := met()):
            assert time.monotonic() < until, said()
            time.sleep(0.2)
        return found

    def spooled(self) -> Mapping[str, int]:
        """Bytes of lines that wait in each collector's spool."""
        found = {}
        for folder in (self.folder / "spool").iterdir():
            found[folder.name] = sum(file.stat().st_size for file in folder.glob("*.seg"))
        return found

    def standing(self, system: str) -> dict[str, Any]:
        """Where a collector stands with the tracker."""
        joined = "_" if system == "outbox" else "-"
        path = self.folder / "spool" / f"{self.name}{joined}{system}" / "standing.json"
        return dict(json.loads(path.read_text()))


def _age(moment: str) -> float:
    return time.time() - datetime.fromisoformat(moment).timestamp()


@contextmanager
def stacked(name: str, service: Service, kafka: str, rabbit: Any, postgres: Databases, folder: Path) -> Iterator[Stack]:
    """A stack on running servers; all of its own is gone afterwards."""
    database = postgres.create_database()
    url = postgres.url(database)
    with own_topic(kafka, partitions=2) as topic, own_vhost(rabbit) as vhost:
        vhost.orders("billing")
        made = Stack(name, service, topic, vhost, url, psycopg.connect(url, autocommit=True), folder)
        made.outbox.execute(TABLE)
        for system in SPECS:
            service.http.put("/v1/flows", content=spec(made.flow(system), system)).raise_for_status()
        yield made
        with made.outbox as connection:
            let_go(connection)
    postgres.drop_database(database)
