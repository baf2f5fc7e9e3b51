"""A real Prometheus scrapes a real `collectors run`, and has our rules."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from collectors.metrics import ALL
from tests.brokers.kafka_topic import wait_for
from tests.contract.http_tracker import HttpTracker
from tests.servers.ports import free_port
from tests.servers.prometheus import Prometheus
from tracker.alerting.generate import FILE

pytestmark = pytest.mark.brokers

CONFIG = """\
tracker: {{url: '{tracker}'}}
spool: {folder}/spool
listen: 127.0.0.1:{port}
collectors:
  - {{name: orders, kind: memory, topics: [{{topic: orders, flow: orders, hop: log}}]}}
  - name: kafka-eu
    kind: kafka
    url: kafka://127.0.0.1:{nobody}
    topics: [{{topic: orders, flow: orders, hop: kafka-eu}}]
"""


def test_prometheus_sees_collectors(prometheus_server: Callable[[str], Prometheus], tmp_path: Path) -> None:
    """One collector runs, one cannot reach its broker: Prometheus takes every metric without complaint, knows the
    states, and the alert on the one that is away is on its way, with its name. So is the one on a configuration that
    was refused, and is over once it was put right."""
    port, rules = free_port(), tmp_path / "rules.yaml"
    rules.write_text(FILE.read_text("utf-8").replace("interval: 15s", "interval: 1s"))
    scraping = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: collectors, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
    with HttpTracker() as tracker:
        text = CONFIG.format(tracker=tracker.url, folder=tmp_path, port=port, nobody=free_port())
        (tmp_path / "config.yaml").write_text(text)
        command = [sys.executable, "-m", "collectors.main", "run", str(tmp_path / "config.yaml")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                prometheus = prometheus_server(scraping)
                running = 'collector_state{collector="orders",state="running"} == 1'
                wait_for(lambda: prometheus.query(running), "the state", 60)
                wait_for(lambda: "kafka-eu" in _pending(prometheus, "CollectorUnavailable"), "the alert", 60)
                assert _pending(prometheus, "CollectorUnavailable") == ["kafka-eu"]
                assert _pending(prometheus, "CollectorConfigRefused") == []
                assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
                names = httpx.get(f"{prometheus.url}/api/v1/label/__name__/values").json()["data"]
                told = {metric.name for metric in ALL if "archive" not in metric.name}  # nobody here has one
                assert {name for name in names if re.match("collectors?_", name)} == told
                for said, refused in ((text.replace("kind: kafka", "kind: kafak"), [""]), (text, [])):
                    (tmp_path / "config.yaml").write_text(said)
                    process.send_signal(signal.SIGHUP)
                    wait_for(lambda: _pending(prometheus, "CollectorConfigRefused") == refused, "the other alert", 60)  # noqa: B023 - called at once
            finally:
                process.terminate()
                process.wait(60)
    assert process.returncode == 0


def _pending(prometheus: Prometheus, alert: str) -> list[str]:
    """The collectors that it names; empty text where it names none."""
    found = httpx.get(f"{prometheus.url}/api/v1/alerts").json()["data"]["alerts"]
    return [one["labels"].get("collector", "") for one in found if one["labels"]["alertname"] == alert]
