from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.service import Service, now_us
from tests.servers.prometheus import Prometheus
from tests.unit.faces import grafana
from tracker.alerting.rules import alerts
from tracker.dashboards import overview

pytestmark = pytest.mark.brokers

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 1s}
  - {hop: billing,  stage: ack,     after: kafka-eu, within: 1s}
objectives:
  delivery: {target: 99%, window: 1d}
  recovery: {p90: 15m}
"""
QUERIES = grafana.queries(overview.dashboard(), "expr")
EMPTY_WHEN_WELL = {"Blind spots by cause", "Not stored", "Replays that have not ended"}
"""Panels in which nothing is drawn while nothing of the kind happened."""


@dataclass
class Chain:
    """A tracker in which something is wrong, and a Prometheus that scrapes it and has the rules made for its flows."""

    tracker: Service
    prometheus: Prometheus
    rules: Path

    def alert(self, name: str) -> dict[str, Any] | None:
        """The alert as Prometheus has it: pending or firing; None while it is quiet."""
        found = httpx.get(f"{self.prometheus.url}/api/v1/alerts").json()["data"]["alerts"]
        return next((one for one in found if one["labels"]["alertname"] == name), None)


@pytest.fixture
def chain(tmp_path_factory: pytest.TempPathFactory, prometheus_server: Callable[[str], Prometheus]) -> Iterator[Chain]:
    """Two messages: m-1 passes, m-2 stops before billing. Its collector reports, so absence is known."""
    tracker = Service(tmp_path_factory.mktemp("tracker"), "--insecure").start()
    tracker.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
    _report(tracker, 1)
    tracker.send(_way("m-1", "checkout", "kafka-eu", "billing") + _way("m-2", "checkout", "kafka-eu"))
    address = urlsplit(tracker.url).netloc
    rules = tmp_path_factory.mktemp("rules") / "tracker.yaml"
    _cli(tracker, "render", "--to", str(rules.parent))
    rules.write_text(rules.read_text("utf-8").replace("interval: 15s", "interval: 1s"), "utf-8")
    config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: tracker, static_configs: [{{targets: ["{address}"]}}]}}]
"""
    yield Chain(tracker, prometheus_server(config), rules)
    tracker.close()


def _cli(tracker: Service, *arguments: str) -> str:
    """`tracker alerts` about the flows of this tracker; it must end well."""
    done = tracker.cli("alerts", *arguments, "--flows-from", tracker.url)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _way(name: str, *hops: str) -> list[dict[str, Any]]:
    stages = {"checkout": "produce", "kafka-eu": "persist", "billing": "ack"}
    return [
        {"flow": "orders", "message_id": name, "hop": hop, "stage": stages[hop], "observed_at": now_us()}
        for hop in hops
    ]


def _report(tracker: Service, sequence: int) -> None:
    places = (("checkout", "produce"), ("kafka-eu", "persist"), ("billing", "ack"))
    sources = [{"flow": "orders", "hop": hop, "stage": stage, "source": "s"} for hop, stage in places]
    report = {"collector": "c", "epoch": 1, "sequence": sequence, "sources": sources}
    tracker.http.post("/v1/coverage", content=json.dumps(report)).raise_for_status()


def test_a_real_prometheus_sees_it_all(chain: Chain) -> None:
    """Prometheus scrapes the tracker, evaluates every rule without error, and the incident's alert is on its way with
    flow, hop, severity and a runbook that the tracker serves; once m-2 is processed the alert goes. Meanwhile every
    PromQL query of the dashboard runs there and gives data."""
    sequence = iter(range(2, 10_000))

    def seen() -> dict[str, Any] | None:
        _report(chain.tracker, next(sequence))
        return chain.alert("MessagesUnacknowledged")

    alert = chain.tracker.until(seen, bool)
    assert (alert["labels"]["flow"], alert["labels"]["hop"]) == ("orders", "billing")
    assert (alert["labels"]["severity"], alert["labels"]["owner"]) == ("page", "team-payments")
    assert alert["annotations"]["summary"] == "1 of orders not acknowledged by billing"
    page = chain.tracker.http.get(alert["annotations"]["runbook_url"])
    assert page.status_code == 200
    assert "past its deadline, and not processed" in page.text
    [incident] = chain.tracker.get("/v1/incidents")["items"]
    assert incident["id"] in page.text, "the link leads to the numbers of this flow and hop"
    chain.tracker.http.patch(f"/v1/incidents/{incident['id']}", json={"acknowledge": True}).raise_for_status()
    _rules_are_well(chain.prometheus)
    _panels_have_data(chain.prometheus)
    chain.tracker.send(_way("m-2", "billing"))
    chain.tracker.until(seen, lambda found: found is None)
    _another_owner(chain)


def _another_owner(chain: Chain) -> None:
    """The flow gets another owner: `apply` shows what changes, and with --yes Prometheus has it."""
    chain.tracker.http.put("/v1/flows/orders", content=SPEC.replace("payments", "billing")).raise_for_status()
    asked = "apply", "--prometheus-rules", str(chain.rules), "--reload", chain.prometheus.url
    before = chain.rules.read_text("utf-8")
    assert '"team-billing" }}' in _cli(chain.tracker, *asked)
    assert chain.rules.read_text("utf-8") == before
    assert "are in force" in _cli(chain.tracker, *asked, "--yes")
    groups = httpx.get(f"{chain.prometheus.url}/api/v1/rules").json()["data"]["groups"]
    lost = next(rule for group in groups for rule in group["rules"] if rule["name"] == "MessagesLost")
    assert "team-billing" in lost["labels"]["owner"]


def _rules_are_well(prometheus: Prometheus) -> None:
    groups = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {alert.name for alert in alerts()}
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")] == []
    quiet = {"MessagesUnacknowledged", "QuarantineGrowing", "DeliveryObjectiveMissed", "BlindSpot"}
    loud = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert loud <= quiet, "an alert about the tracker itself fires though it is well"


def _panels_have_data(prometheus: Prometheus) -> None:
    left = [(title, query) for title, query in QUERIES if title not in EMPTY_WHEN_WELL]
    deadline = time.monotonic() + 30  # some are worked out aside, and shown when that is done
    while left and time.monotonic() < deadline:
        left = [(title, query) for title, query in left if not prometheus.query(grafana.promql(query))]
        time.sleep(0.2)
    assert left == []
