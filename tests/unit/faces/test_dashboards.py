from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from collectors import metrics as collectors_metrics
from tests.unit.faces import grafana
from tracker.assets import folder
from tracker.dashboards.board import TAG
from tracker.dashboards.generate import DASHBOARDS, rendered, stale, write
from tracker.dashboards.panel import COLOURS, COLUMNS
from tracker.model.verdict import Verdict
from tracker.slo.metrics import ALL

EVERY = pytest.mark.parametrize("dashboard", [pytest.param(one.json(), id=name) for name, one in DASHBOARDS.items()])
LABELS = {metric.name: set(metric.labels) for metric in ALL}
LABELS |= {metric.name: set(metric.labels) for metric in collectors_metrics.ALL}
OF_GRAFANA = {"__data", "__value", "__all", "__url_time_range"}
"""Macros of links, and the value that means all of a variable's."""


def test_the_kept_json_is_what_the_code_makes() -> None:
    """Whoever changes a dashboard's code also keeps its JSON: `tracker dashboards render`."""
    assert stale(folder("dashboards")) == []


def test_what_is_stale_is_told_and_mended(tmp_path: Path) -> None:
    """A file that is missing, one that was edited and one of no dashboard are found; writing mends the first two."""
    assert write(tmp_path) == [tmp_path / f"{name}.json" for name in DASHBOARDS]
    assert (stale(tmp_path), write(tmp_path)) == ([], [])
    (tmp_path / "flow.json").unlink()
    (tmp_path / "itself.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    names = {"flow.json", "itself.json", "other.json"}
    assert {path.name for path in stale(tmp_path)} == names
    assert {path.name for path in write(tmp_path)} == names - {"other.json"}
    assert (tmp_path / "itself.json").read_text("utf-8") == rendered("itself")


def test_every_file_is_one_dashboard() -> None:
    """File, uid and title tell the same of each, and no two share one."""
    assert {board.uid for board in DASHBOARDS.values()} == {f"tracker-{name}" for name in DASHBOARDS}
    assert len({board.title for board in DASHBOARDS.values()}) == len(DASHBOARDS)
    assert all(board.question.endswith("?") for board in DASHBOARDS.values())


@EVERY
def test_every_metric_exists(dashboard: dict[str, Any]) -> None:
    """No panel asks for a metric that neither tracker nor collectors define."""
    for query in grafana.queries(dashboard, "expr"):
        assert grafana.metrics(query.text), query.where
        assert grafana.metrics(query.text) <= set(LABELS), query.where


@EVERY
def test_a_second_tracker_doubles_nothing(dashboard: dict[str, Any]) -> None:
    """Two trackers on one store show the same gauges of the ledger: a panel takes the greatest, and sums up after."""
    for query in grafana.queries(dashboard, "expr"):
        assert query.kind == "variable" or not grafana.doubled(query.text), query.where


@EVERY
def test_every_label_exists(dashboard: dict[str, Any]) -> None:
    """Labels by which a query filters, groups or names its series are labels of its metrics."""
    for query in grafana.queries(dashboard, "expr"):
        known = set().union(*(LABELS[name] for name in grafana.metrics(query.text))) | {"le"}
        grouped = [name.strip() for by in re.findall(r"by \(([^)]*)\)", query.text) for name in by.split(",")]
        filtered = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", query.text)
        shown = re.findall(r"{{(\w+)}}", query.target.get("legendFormat", ""))
        assert {*grouped, *filtered, *shown} <= known, query.where


@EVERY
def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """A panel has a title of its own, a description in whole sentences, and something to ask."""
    titles = [panel["title"] for panel in grafana.panels(dashboard)]
    assert len(set(titles)) == len(titles)
    assert all(panel["description"].endswith(".") for panel in grafana.panels(dashboard))
    assert all(panel["targets"] for panel in grafana.panels(dashboard))


@EVERY
def test_panels_fill_the_grid_without_overlap(dashboard: dict[str, Any]) -> None:
    """No panel lies on another or beyond the 24 columns; ids are distinct."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= COLUMNS for p in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


@EVERY
def test_every_variable_is_defined(dashboard: dict[str, Any]) -> None:
    """Queries and links use only variables of the dashboard and macros that the tests can expand."""
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    assert used <= defined | grafana.MACROS | OF_GRAFANA


@EVERY
def test_dashboards_lead_to_each_other(dashboard: dict[str, Any]) -> None:
    """All are found by their tag, with variables and times kept; a link to one names a dashboard that exists and
    variables that it has; pages of the tracker are linked at the address in `tracker`."""
    assert dashboard["tags"] == [TAG]
    [all_] = [link for link in dashboard["links"] if link["type"] == "dashboards"]
    assert (all_["tags"], all_["includeVars"], all_["keepTime"]) == ([TAG], True, True)
    boards = {board.uid: board.json() for board in DASHBOARDS.values()}
    urls = re.findall(r'"url": "([^"]*)"', json.dumps([p["fieldConfig"] for p in grafana.panels(dashboard)]))
    for url in urls:
        if not url.startswith("/d/"):
            assert re.match(r"\$\{tracker\}/(find\?|incidents/|runbooks/)", url)
            continue
        uid, _, asked = url.removeprefix("/d/").partition("?")
        has = {variable["name"] for variable in boards[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", asked)) | set(re.findall(r"\$\{(\w+):queryparam\}", asked)) <= has
        assert "${__url_time_range}" in asked


@EVERY
def test_incidents_are_drawn_into_every_dashboard(dashboard: dict[str, Any]) -> None:
    """As annotations, with links to the incident's page and its runbook."""
    [annotation] = dashboard["annotations"]["list"]
    assert "${tracker}/incidents/" in annotation["target"]["rawSql"]
    assert "${tracker}/runbooks/" in annotation["target"]["rawSql"]


def test_a_verdict_has_one_colour_everywhere() -> None:
    """Each verdict has a colour, and no two share one."""
    assert set(COLOURS) == set(Verdict)
    assert len(set(COLOURS.values())) == len(COLOURS)
