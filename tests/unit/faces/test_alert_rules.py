from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors import metrics as collectors_metrics
from tests.brokers.alert_scenes import SCENES
from tests.unit.faces import grafana
from tracker.alerting.alert import GRAFANA, MILDEST, OPERATIONS, OWNER, TRACKER, Alert, Places, rule
from tracker.alerting.generate import FILE, FOLDER, kept
from tracker.alerting.rules import GROUPS, alerts, rendered
from tracker.alerting.watchdog import NAME as WATCHDOG
from tracker.assets import folder
from tracker.model.verdict import WRONG
from tracker.slo.metrics import ALL

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text("utf-8"))["groups"] for rule in group["rules"]
]
EVERY = pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])


def test_the_kept_file_is_what_the_code_makes() -> None:
    """Whoever changes an alert's code also keeps the files made of it: `python -m tracker.alerting.generate`."""
    assert {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()} == kept()


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
    assert {*filter(None, grouped), *filtered, *shown} <= known


@EVERY
def test_a_second_tracker_doubles_nothing(rule: dict[str, Any]) -> None:
    """Two trackers on one store show the same gauges of the ledger: a rule takes the greatest, and sums up after."""
    assert not grafana.doubled(rule["expr"]) or rule["alert"] in ("CoverageStalled", "BlindSpot")


@EVERY
def test_every_alert_says_who_where_and_what_to_do(rule: dict[str, Any]) -> None:
    """Severity, owner, the kind of incident, a runbook that exists and a dashboard that exists stand on each alert."""
    assert rule["labels"]["severity"] in ("page", "ticket", MILDEST, *(["none"] if rule["alert"] == WATCHDOG else []))
    assert rule["labels"]["owner"]
    noted = rule["annotations"]
    assert noted["summary"]
    assert noted["description"].endswith(".")
    name, _, asked = noted["runbook_url"].removeprefix(f"{TRACKER}/runbooks/").partition("?")
    assert (folder("runbooks") / f"{name}.md").is_file(), name
    assert f"`{rule['alert']}`" in (folder("runbooks") / f"{name}.md").read_text("utf-8")
    assert rule["labels"]["incident_kind"] == name
    assert all(re.fullmatch(r"(flow|hop)=\{\{ \$labels\.\1 \| urlquery \}\}", one) for one in asked.split("&") if one)
    uid, _, chosen = noted["dashboard_url"].removeprefix(f"{GRAFANA}/d/").partition("?")
    boards = {board["uid"]: board for board in map(_json, folder("dashboards").glob("*.json"))}
    assert uid in boards
    variables = {one["name"] for one in boards[uid]["templating"]["list"]}
    assert {one.partition("=")[0] for one in chosen.split("&") if one} <= {f"var-{name}" for name in variables}


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("alert", [pytest.param(alert, id=alert.name) for alert in alerts()])
def test_links_lead_to_the_place_that_the_alert_names(alert: Alert) -> None:
    """An alert whose firing has a flow or a hop asks its runbook for them, and no other does; the scenes know which
    labels it has, and promtool holds them to it."""
    labels = next(scene.labels for scene in SCENES if scene.alert == alert.name)
    assert (alert.of_flow, alert.of_hop) == ("flow" in labels, "hop" in labels)
    noted = rule(alert, Places())["annotations"]
    for name in ("flow", "hop"):
        assert (f"{name}={{{{ $labels.{name} | urlquery }}}}" in noted["runbook_url"]) == (name in labels)


def test_every_kind_of_finding_has_an_alert() -> None:
    """A verdict that somebody must act on tells somebody."""
    assert {alert.runbook for alert in alerts()} >= {verdict.value for verdict in WRONG}


def test_addresses_are_filled_in() -> None:
    """The links lead to the addresses given."""
    made = yaml.safe_load(rendered(Places("https://t.example", "https://g.example")))
    lost = next(one for group in made["groups"] for one in group["rules"] if one["alert"] == "MessagesLost")
    assert lost["annotations"]["runbook_url"].startswith("https://t.example/runbooks/lost?flow=")
    assert lost["annotations"]["dashboard_url"].endswith("&var-tracker=https%3A%2F%2Ft.example")


def test_what_is_of_a_flow_goes_to_its_owner() -> None:
    """But for what is about the tracker, whichever flow shows it."""
    owners = {alert.name: rule(alert, Places())["labels"]["owner"] for alert in alerts()}
    assert set(owners.values()) == {OPERATIONS, OWNER}
    assert {name for name, owner in owners.items() if owner == OWNER} == {one.name for one in alerts() if one.owned}
    assert owners["ConservationBroken"] == OPERATIONS


def test_groups_share_no_alert() -> None:
    """Which group an alert is in is one answer: silences go by it."""
    assert len(alerts()) == sum(map(len, GROUPS.values())) == len({alert.name for alert in alerts()})
