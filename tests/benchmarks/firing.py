"""How long a real Prometheus needs to evaluate the rules while an alert of every flow fires.

    python -m tests.benchmarks.firing --flows 10000 --json

Each flow has an open finding of kind `lost`; a hundred flows share an owner, and every tenth flow has severity
`ticket`. `evaluation_s` is the slowest of the evaluations, of the group with the findings' alerts, that began while
metrics were there; `interval_s` is what it may take. `firing` counts what fires at the end, `owners` how many owners
have them, `rss_mb` is Prometheus' memory.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import httpx

from tests.servers.prometheus import Prometheus
from tracker.alerting.alert import Places
from tracker.alerting.rules import INTERVAL, rendered
from tracker.model.spec import FlowSpec, load_spec
from tracker.slo import metrics
from tracker.slo.metrics import Metrics

GROUP, ALERT = "tracker-findings", "MessagesLost"
SHARING, QUIET = 100, 10
"""So many flows have one owner; of so many flows one wakes nobody."""
ROUNDS = 3
"""Evaluations with alerts that fire, after which it is enough."""


def specs(flows: int) -> list[FlowSpec]:
    """Flows with owners."""
    made = []
    for n in range(flows):
        severity = "ticket" if n % QUIET == 0 else "page"
        points = "checkpoints: [{hop: kafka-eu, stage: produce}]"
        made.append(load_spec(f"{{flow: orders-{n}, owner: team-{n // SHARING}, severity: {severity}, {points}}}"))
    return made


def shown(flows: list[FlowSpec]) -> bytes:
    """What `/metrics` of a tracker says then."""
    made = Metrics()
    made.set(metrics.STORE_UP, 1)
    made.replace(metrics.FLOW_INFO, {(one.flow, one.owner, one.severity): 1.0 for one in flows})
    made.replace(metrics.FINDINGS, {(one.flow, "kafka-eu", "lost", "open"): 3.0 for one in flows})
    return made.exposition()[0]


@contextmanager
def served(page: bytes) -> Iterator[int]:
    """The port at which that page is had."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def measure(folder: Path, flows: int, patience: float) -> dict[str, Any]:
    """The numbers of one run, which lasts no longer than `patience` seconds and one evaluation."""
    binary = which("prometheus")
    assert binary, "this needs Prometheus: make servers"
    known = specs(flows)
    rules = folder / "tracker.yaml"
    rules.write_text(rendered(Places()), "utf-8")
    with served(shown(known)) as port:
        prometheus = Prometheus(folder / "prometheus", binary, f"""
global: {{scrape_interval: 5s}}
rule_files: ['{rules}']
scrape_configs: [{{job_name: tracker, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
""").start()  # fmt: skip
        took, seen, deadline = [], set[str](), time.monotonic() + patience
        full = 0
        while time.monotonic() < deadline and full < ROUNDS:
            time.sleep(1)
            group = _group(prometheus.url)
            if group["lastEvaluation"] in seen or not group["evaluationTime"]:
                continue
            seen.add(group["lastEvaluation"])
            took.append(group["evaluationTime"])
            full += sum(rule["name"] == ALERT and rule["state"] == "firing" for rule in group["rules"])
        firing = prometheus.query(f'count(ALERTS{{alertname="{ALERT}", alertstate="firing"}})')
        owners = prometheus.query(f'count(count by (owner) (ALERTS{{alertname="{ALERT}"}}))')
        pages = prometheus.query(f'count(ALERTS{{alertname="{ALERT}", alertstate="firing", severity="page"}})')
        text = httpx.get(f"{prometheus.url}/metrics", timeout=60).text
        missed = re.findall(r"^prometheus_rule_group_iterations_missed_total\S* (\S+)", text, re.M)
        prometheus.stop()
    return {
        "flows": flows,
        "firing": _number(firing),
        "pages": _number(pages),
        "owners": _number(owners),
        "evaluation_s": round(max(took, default=float("nan")), 2),
        "interval_s": int(INTERVAL.removesuffix("s")),
        "missed": int(sum(map(float, missed))),
        "rules_mb": round(rules.stat().st_size / 1e6, 2),
        "rss_mb": round(float(re.findall(r"^process_resident_memory_bytes (\S+)", text, re.M)[0]) / 2**20),
    }  # fmt: skip


def _group(url: str) -> dict[str, Any]:
    groups = httpx.get(f"{url}/api/v1/rules", timeout=120).json()["data"]["groups"]
    found: dict[str, Any] = next(group for group in groups if group["name"] == GROUP)
    return found


def _number(vector: list[dict[str, Any]]) -> int:
    return int(vector[0]["value"][1]) if vector else 0


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--patience", type=float, default=240, help="seconds after which it ends in any case")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.flows, given.patience)
    print(json.dumps(found) if given.json else "\n".join(f"{name:>12}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
