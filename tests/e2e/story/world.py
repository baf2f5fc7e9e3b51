"""Everything that runs in the story, started and ended: the tracker, the collectors, five applications."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.service import Service
from tests.e2e.story.brokers import EXCHANGE, QUEUE, Topic, Vhost
from tests.e2e.story.orders import COUNT
from tests.e2e.story.process import App, Running, collectors
from tests.e2e.story.settings import Settings

RATE = 400.0
"""Messages per second that each producer sends."""
DIES_AFTER = 2_500 + 90
"""So many orders inventory has processed when it is killed; no multiple of a batch."""
WITHIN = {"kafka": 15, "billing": 20, "inventory": 60, "rabbit": 15, "packing": 20}
"""Seconds, per hop. A machine with other work to do is not late, and yet the story does not wait for ever for those
that billing skips; inventory, which is killed, has time to come back."""

ORDERS = f"""flow: orders
owner: team-payments
checkpoints:
  - {{hop: checkout,  stage: produce}}
  - {{hop: kafka,     stage: persist, after: checkout, within: {WITHIN["kafka"]}s}}
  - {{hop: billing,   stage: ack,     after: kafka,    within: {WITHIN["billing"]}s, at_most: 1}}
  - {{hop: inventory, stage: ack,     after: kafka,    within: {WITHIN["inventory"]}s, at_most: 1}}
replay: {{sources: [log: kafka], mode: approve, rate: 100/s}}
"""
PARCELS = f"""flow: parcels
owner: team-logistics
checkpoints:
  - {{hop: shop,    stage: produce}}
  - {{hop: rabbit,  stage: persist, after: shop,   within: {WITHIN["rabbit"]}s}}
  - {{hop: packing, stage: ack,     after: rabbit, within: {WITHIN["packing"]}s, at_most: 1}}
"""
COLLECTORS = """tracker: {url: %(url)s, token: "${TOKEN}"}
spool: %(folder)s/collectors
collectors:
  - name: kafka-%(topic)s
    kind: kafka
    url: kafka://%(servers)s
    topics: [{topic: %(topic)s, flow: orders, hop: kafka}]
  - name: groups-%(topic)s
    kind: kafka-groups
    url: kafka://%(servers)s
    groups:
      - {group: billing-%(topic)s, topic: %(topic)s, flow: orders, hop: billing, log: kafka}
      - {group: inventory-%(topic)s, topic: %(topic)s, flow: orders, hop: inventory, log: kafka}
  - name: rabbit-%(topic)s
    kind: rabbitmq
    url: %(rabbit)s
    exchanges: [{exchange: %(exchange)s, flow: parcels, unroutable_hop: rabbit}]
    queues: [{queue: %(queue)s, flow: parcels, hop: rabbit}]
"""
WATCHED = {
    "orders": {("checkout", "produce"), ("kafka", "persist"), ("billing", "ack"), ("inventory", "ack")},
    "parcels": {("shop", "produce"), ("rabbit", "persist"), ("packing", "ack")},
}
"""Where somebody vouches for what happens, per flow."""


class World:
    """`tracker` and the HTTP clients of those who talk to it by hand: `clerk` asks, `chief` approves."""

    def __init__(self, folder: Path, topic: Topic, vhost: Vhost) -> None:
        self.folder, self.topic, self.vhost = folder, topic, vhost
        self._began = time.monotonic()
        hops = folder / "hops.yaml"
        hops.write_text(f'kafka: {{kind: kafka, url: "{topic.servers}", topic: {topic.name}}}\n')
        self.tracker = Service(folder, TRACKER_HOPS=str(hops)).start()
        self.note("the tracker answers")
        self._clients: list[httpx.Client] = []
        self.token = self._token("everybody-else", "ingest")
        self.clerk, self.chief = self._client("clerk", "read", "replay"), self._client("chief", "admin")
        self.note("tokens are made")
        self.billing = self._app("kafka_consumer", "billing", "orders", self._kafka("billing"), skips=True)
        inventory = self._kafka("inventory")
        self.inventory = self._app("kafka_consumer", "inventory", "orders", inventory, dies_after=DIES_AFTER)
        self.packing = self._app("packing", "packing", "parcels", {"broker": vhost.url, "queue": QUEUE})
        sending = {"count": COUNT, "rate": RATE}
        self.checkout = self._app("checkout", "checkout", "orders", self._kafka(""), **sending)
        self.shop = self._app("shop", "shop", "parcels", {"broker": vhost.url, "exchange": EXCHANGE}, **sending)
        self.collectors = self._collectors()

    def begin(self) -> None:
        """Both flows, collectors, consumers and producers; nothing is sent before somebody vouches for every hop."""
        for spec in (ORDERS, PARCELS):
            self.chief.put("/v1/flows", content=spec).raise_for_status()
        for process in (self.collectors, self.billing, self.inventory, self.packing):
            process.begin()
        watched = {flow: {hop for hop in hops if hop[1] != "produce"} for flow, hops in WATCHED.items()}
        self.until("coverage of every hop", lambda: all(self.vouched(flow) >= hops for flow, hops in watched.items()))
        self.note("every hop is vouched for")
        for process in (self.checkout, self.shop):
            process.begin()

    def note(self, what: str) -> None:
        """For whoever reads the output of a run: how far the story is, and when."""
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def close(self) -> None:
        """End all that still runs."""
        for process in (self.checkout, self.shop, self.billing, self.inventory, self.packing, self.collectors):
            process.stop()
        for client in self._clients:
            client.close()
        self.tracker.close()

    # --- asking the tracker ---------------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`, as the clerk sees it."""
        answer = self.clerk.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    def listed(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Every item of a list, page after page."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(path, limit=1000, cursor=cursor, **query)
            items += page["items"]
            if not page["next"]:
                return items
            cursor = page["next"]

    def books(self, flow: str) -> Any:
        """The reconciliation."""
        return self.get(f"/v1/flows/{flow}/reconciliation")

    def ids(self, flow: str, **query: str) -> set[str]:
        """The messages with a verdict or a flag."""
        return {item["message_id"] for item in self.listed(f"/v1/flows/{flow}/messages", **query)}

    def vouched(self, flow: str) -> set[tuple[str, str]]:
        """The (hop, stage) for which somebody who sees single messages has announced himself."""
        rows = self.listed("/v1/coverage", flow=flow)
        return {(row["hop"], row["stage"]) for row in rows if row["evidence"] == "message"}

    def until(self, what: str, holds: Callable[[], Any], patience: float = 120.0) -> Any:
        """What `holds` gives once it is true; else AssertionError with `what` and the tracker's last words."""
        return self.tracker.until(lambda: (what, holds()), lambda found: found[1], patience)[1]

    # --- the cast -------------------------------------------------------------------------------------------------

    def _token(self, name: str, *scopes: str) -> str:
        options = [word for scope in scopes for word in ("--scope", scope)]
        made = self.tracker.cli("token", "create", name, *options, "--json")
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["token"])

    def _client(self, name: str, *scopes: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._token(name, *scopes)}"}
        self._clients.append(httpx.Client(base_url=self.tracker.url, headers=headers, timeout=60))
        return self._clients[-1]

    def _kafka(self, group: str) -> dict[str, Any]:
        return {"broker": self.topic.servers, "topic": self.topic.name, "group": f"{group}-{self.topic.name}"}

    def _app(self, module: str, name: str, flow: str, place: dict[str, Any], **more: Any) -> App:
        settings = Settings(
            tracker=self.tracker.url, token=self.token, folder=str(self.folder / name), name=f"{name}-1", flow=flow,
            hop=name, **place, **more,
        )  # fmt: skip
        return App(module, settings)

    def _collectors(self) -> Running:
        config = self.folder / "collectors.yaml"
        config.write_text(COLLECTORS % {
            "url": self.tracker.url, "folder": self.folder, "topic": self.topic.name, "servers": self.topic.servers,
            "rabbit": self.vhost.url, "exchange": EXCHANGE, "queue": QUEUE,
        })  # fmt: skip
        return collectors(config, self.token)


@contextmanager
def running_world(folder: Path, topic: Topic, vhost: Vhost) -> Iterator[World]:
    """A world whose processes end with the block."""
    made = World(folder, topic, vhost)
    try:
        yield made
    finally:
        made.close()
