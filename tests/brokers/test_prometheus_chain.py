from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from confluent_kafka import Producer

from tests.e2e.service import Service, environment, now_us
from tests.e2e.story.brokers import own_topic
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.servers.prometheus import Prometheus
from tests.unit.faces import grafana
from tests.unit.faces.grafana import Query
from tracker.alerting.rules import alerts
from tracker.dashboards.generate import DASHBOARDS
from tracker.model.carry import MESSAGE_ID

pytestmark = pytest.mark.brokers

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 1s}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 1s}
  - {hop: billing,  stage: ack,     after: kafka-eu, within: 1s}
objectives:
  delivery: {target: 99%, window: 1d}
  latency:  {p99: 2s, window: 30d}
  recovery: {p90: 15m}
replay: {sources: [log: kafka-eu], mode: auto, after: 1h, budget: 1/h}
"""
COLLECTORS = """tracker: {{url: '{tracker}'}}
spool: {folder}/spool
listen: 127.0.0.1:{port}
collectors: [{{name: tail, kind: memory, topics: [{{topic: orders, flow: orders, hop: kafka-us}}]}}]
"""
QUERIES = [query for board in DASHBOARDS.values() for query in grafana.queries(board.json(), "expr")]
COMMAND = str(Path(sys.executable).with_name("collectors"))


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
def chain(tmp_path: Path, kafka_server: str, prometheus_server: Callable[[str], Prometheus]) -> Iterator[Chain]:
    """m-1 passes, m-2 and m-5 stop before billing, m-3 before the log, m-4 comes late. Their collector misses a report,
    a line is in quarantine, a request was refused; another collector is a process of its own."""
    with own_topic(kafka_server) as topic:
        record = Producer({"bootstrap.servers": kafka_server})
        for name in ("m-2", "m-5"):
            record.produce(topic.name, name.encode(), partition=0, headers={MESSAGE_ID: name.encode()})
        assert record.flush(30) == 0
        (tmp_path / "hops.yaml").write_text(f'kafka-eu: {{kind: kafka, url: "{kafka_server}", topic: {topic.name}}}\n')
        tracker = Service(tmp_path, "--insecure", TRACKER_HOPS=str(tmp_path / "hops.yaml")).start()
        tracker.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
        _report(tracker, 1)
        tracker.send(_way("m-1", "checkout", "kafka-eu", "kafka-us", "billing") + _way("m-2", "checkout"))
        for offset, name in enumerate(("m-2", "m-5")):
            tracker.send([one | {"partition": "0", "offset": offset} for one in _way(name, "kafka-eu")])
        tracker.send(_way("m-5", "checkout", "kafka-us"))
        tracker.send(
            _way("m-2", "kafka-us") + _way("m-3", "checkout") + _way("m-4", "checkout", "kafka-eu", "kafka-us")
        )
        assert tracker.http.post("/v1/events", content='{"flow": "orders", "stage": "produce"}').status_code == 207
        assert tracker.http.post("/v1/events", content="<no>", headers={"Content-Type": "text/xml"}).is_client_error
        assert tracker.http.post("/clickhouse", content="SELECT 4").text == "4\n"
        listen = free_port()
        (tmp_path / "collectors.yaml").write_text(COLLECTORS.format(tracker=tracker.url, folder=tmp_path, port=listen))
        collectors = Process("collectors", [COMMAND, "run", "collectors.yaml"], tmp_path, environment())
        collectors.start(lambda: _answers(f"http://127.0.0.1:{listen}/metrics"))
        targets = [urlsplit(tracker.url).netloc, f"127.0.0.1:{listen}"]
        rules = tmp_path / "tracker.yaml"
        _cli(tracker, "render", "--to", str(tmp_path), "--flows-from", tracker.url)
        rules.write_text(rules.read_text("utf-8").replace("interval: 15s", "interval: 1s"), "utf-8")
        config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: tracker, static_configs: [{{targets: ["{targets[0]}"]}}]}}
  - {{job_name: collectors, static_configs: [{{targets: ["{targets[1]}"]}}]}}
"""
        yield Chain(tracker, prometheus_server(config), rules)
        collectors.stop()
        tracker.close()


def _cli(tracker: Service, *arguments: str) -> str:
    """`tracker alerts`; it must end well."""
    done = tracker.cli("alerts", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _answers(url: str) -> None:
    httpx.get(url).raise_for_status()


def _way(name: str, *hops: str) -> list[dict[str, Any]]:
    stages = {"checkout": "produce", "kafka-eu": "persist", "kafka-us": "replicate", "billing": "ack"}
    return [
        {"flow": "orders", "message_id": name, "hop": hop, "stage": stages[hop], "observed_at": now_us()}
        for hop in hops
    ]


def _report(tracker: Service, sequence: int) -> None:
    places = (("checkout", "produce"), ("kafka-eu", "persist"), ("kafka-us", "replicate"), ("billing", "ack"))
    sources = [{"flow": "orders", "hop": hop, "stage": stage, "source": "s"} for hop, stage in places]
    report = {"collector": "c", "epoch": 1, "sequence": sequence, "sources": sources}
    report |= {"offset_us": 1500, "error_us": 300}
    tracker.http.post("/v1/coverage", content=json.dumps(report)).raise_for_status()


def test_a_real_prometheus_sees_it_all(chain: Chain) -> None:
    """Prometheus scrapes the tracker, evaluates every rule without error, and the incident's alert is on its way with
    flow, hop, severity and a runbook that the tracker serves; once all is processed the alert goes. Meanwhile every
    PromQL query of every dashboard runs there and gives what its panel draws."""
    sequence = iter(range(2, 10_000))

    def seen() -> dict[str, Any] | None:
        _report(chain.tracker, next(sequence))
        return chain.alert("MessagesUnacknowledged")

    alert = chain.tracker.until(seen, bool)
    assert (alert["labels"]["flow"], alert["labels"]["hop"]) == ("orders", "billing")
    assert (alert["labels"]["severity"], alert["labels"]["owner"]) == ("page", "team-payments")
    assert re.fullmatch("[123] of orders not acknowledged by billing", alert["annotations"]["summary"])
    page = chain.tracker.http.get(alert["annotations"]["runbook_url"])
    assert page.status_code == 200
    assert "past its deadline, and not processed" in page.text
    chain.tracker.send(_way("m-4", "billing"))
    next(sequence)  # a report that is missed
    incidents = chain.tracker.get("/v1/incidents")["items"]
    mine = next(one for one in incidents if (one["kind"], one["hop"]) == ("unacknowledged", "billing"))
    assert mine["id"] in page.text, "the link leads to the numbers of this flow and hop"
    for incident in incidents:
        chain.tracker.http.patch(f"/v1/incidents/{incident['id']}", json={"acknowledge": True}).raise_for_status()
    for name in ("m-2", "m-5"):  # the second is beyond the budget, and waits for a second person
        replay = {"flow": "orders", "message_ids": [name], "kind": "unacknowledged"}
        chain.tracker.http.post("/v1/replays", json=replay).raise_for_status()
    _rules_are_well(chain.prometheus)
    _panels_have_data(chain, seen)
    chain.tracker.send(_way("m-2", "billing") + _way("m-5", "billing"))
    chain.tracker.until(seen, lambda found: found is None)
    _another_owner(chain)


def _another_owner(chain: Chain) -> None:
    """The flow gets another owner, and rules stay as they are. The console gets another address: `apply` shows what
    changes, and with --yes Prometheus has it."""
    chain.tracker.http.put("/v1/flows/orders", content=SPEC.replace("payments", "billing")).raise_for_status()
    chain.tracker.until(lambda: chain.prometheus.query('tracker_flow_info{owner="team-billing"} == 2'), bool)
    console = "--console-url", "https://tracker.example"
    asked = "apply", "--prometheus-rules", str(chain.rules), "--reload", chain.prometheus.url, *console
    before = chain.rules.read_text("utf-8")
    assert "https://tracker.example/runbooks/lost?" in _cli(chain.tracker, *asked)
    assert chain.rules.read_text("utf-8") == before
    assert "are in force" in _cli(chain.tracker, *asked, "--yes")
    groups = httpx.get(f"{chain.prometheus.url}/api/v1/rules").json()["data"]["groups"]
    lost = next(rule for group in groups for rule in group["rules"] if rule["name"] == "MessagesLost")
    assert lost["annotations"]["runbook_url"].startswith("https://tracker.example/")


def _rules_are_well(prometheus: Prometheus) -> None:
    groups = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {alert.name for alert in alerts()}
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")] == []
    quiet = {"MessagesUnacknowledged", "QuarantineGrowing", "DeliveryObjectiveMissed", "BlindSpot", "Watchdog"}
    loud = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert loud <= quiet, "an alert about the tracker itself fires though it is well"


def _panels_have_data(chain: Chain, report: Callable[[], object]) -> None:
    left = list(QUERIES)
    deadline = time.monotonic() + 60  # some are worked out aside, and shown when that is done
    while left and time.monotonic() < deadline:
        report()
        left = [query for query in left if not _drawn(chain.prometheus, query)]
        time.sleep(0.2)
    assert [query.where for query in left] == []


def _drawn(prometheus: Prometheus, query: Query) -> bool:
    """Whether it gives data, as Grafana asks for it: over a span, unless the panel shows one moment. What comes has to
    be of the kind that the panel draws, with every label that the legend names."""
    if query.kind == "variable":
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query.text).groups()
        asked = {"match[]": metric}
        return "orders" in httpx.get(f"{prometheus.url}/api/v1/label/{label}/values", params=asked).json()["data"]
    now, text = query.target["instant"], grafana.promql(query.text)
    asked = {"query": text} | ({} if now else {"start": time.time() - 60, "end": time.time(), "step": 1})
    answer = httpx.get(f"{prometheus.url}/api/v1/query{'' if now else '_range'}", params=asked).json()
    assert answer["status"] == "success", answer
    assert answer["data"]["resultType"] == ("vector" if now else "matrix")
    assert now or query.kind in ("timeseries", "stat")
    found = answer["data"]["result"]
    named = re.findall(r"{{(\w+)}}", query.target["legendFormat"])
    assert all(set(named) <= set(one["metric"]) for one in found), query.where
    values = [one["value"] if now else one["values"][-1] for one in found]
    return any(math.isfinite(float(value)) for _, value in values)
