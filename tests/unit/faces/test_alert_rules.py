from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from collectors import metrics as collectors_metrics
from tests.unit.faces import grafana
from tracker.alerting.alert import OPERATIONS, Places, owner
from tracker.alerting.generate import FILE, alerts, main, rendered
from tracker.assets import folder
from tracker.model.verdict import WRONG
from tracker.slo.metrics import ALL

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text("utf-8"))["groups"] for rule in group["rules"]
]
EVERY = pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])


def test_the_kept_file_is_what_the_code_makes() -> None:
    """Whoever changes an alert's code also keeps the rule file: `python -m tracker.alerting.generate`."""
    assert FILE.read_text("utf-8") == rendered(Places(), {})
    assert [path.name for path in folder("alerts").glob("*.yaml")] == [FILE.name]


@EVERY
def test_every_metric_and_label_exists(rule: dict[str, Any]) -> None:
    """No alert waits for a metric or a label value's label that neither tracker nor collectors define."""
    labels = {metric.name: set(metric.labels) for metric in ALL}
    labels |= {metric.name: set(metric.labels) for metric in collectors_metrics.ALL}
    used = grafana.metrics(rule["expr"])
    assert used <= set(labels)
    if "up{" in rule["expr"]:
        return
    known = set().union(*(labels[name] for name in used)) | {"instance"}
    grouped = [n.strip() for by in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]) for n in by.split(",")]
    filtered = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", rule["expr"])
    shown = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"] + rule["annotations"]["dashboard_url"])
    assert {*grouped, *filtered, *shown} <= known


@EVERY
def test_every_alert_says_who_where_and_what_to_do(rule: dict[str, Any]) -> None:
    """Severity, owner, a runbook that exists and a dashboard that exists stand on each alert."""
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["labels"]["owner"]
    noted = rule["annotations"]
    assert noted["summary"]
    assert noted["description"].endswith(".")
    name = noted["runbook_url"].removeprefix("http://127.0.0.1:8000/runbooks/")
    assert (folder("runbooks") / f"{name}.md").is_file(), name
    uid = re.match(r"http://127\.0\.0\.1:3000/d/([\w-]+)", noted["dashboard_url"])
    assert uid
    assert uid[1] in {json.loads(path.read_text("utf-8"))["uid"] for path in folder("dashboards").glob("*.json")}


def test_names_are_distinct() -> None:
    """No two alerts share a name."""
    names = [alert.name for alert in alerts()]
    assert len(set(names)) == len(names)


def test_every_kind_of_finding_has_an_alert() -> None:
    """A verdict that somebody must act on tells somebody."""
    assert {alert.runbook for alert in alerts()} >= {verdict.value for verdict in WRONG}


def test_owners_come_from_flow_specs(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With specs given, a flow's owner gets its alerts, and the links lead to the addresses given."""
    for flow, name in (("orders", "team-payments"), ("parcels", "")):
        checkpoints = "checkpoints:\n  - {hop: a, stage: produce}\n"
        (tmp_path / f"{flow}.yaml").write_text(f"flow: {flow}\nowner: '{name}'\n{checkpoints}")
    specs = [str(path) for path in sorted(tmp_path.iterdir())]
    assert main(["--print", "--tracker", "https://t.example/", *specs]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    first = printed["groups"][0]["rules"][0]
    assert first["annotations"]["runbook_url"] == "https://t.example/runbooks/lost"
    assert first["labels"]["owner"] == owner({"orders": "team-payments"})
    assert 'eq $labels.flow "orders" }}team-payments' in first["labels"]["owner"]
    assert OPERATIONS in first["labels"]["owner"]


def test_no_owner_at_all() -> None:
    """Where no flow names an owner, operations gets everything, without a template that cannot be read."""
    assert owner({"orders": ""}) == OPERATIONS
    assert owner({}) == OPERATIONS
