from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from tests.unit.faces import grafana
from tracker.assets import folder
from tracker.dashboards.generate import DASHBOARDS, stale
from tracker.dashboards.panel import COLOURS, COLUMNS
from tracker.model.verdict import Verdict
from tracker.slo.metrics import ALL

EVERY = pytest.mark.parametrize("dashboard", [pytest.param(make(), id=name) for name, make in DASHBOARDS.items()])


def test_the_kept_json_is_what_the_code_makes() -> None:
    """Whoever changes a dashboard's code also keeps its JSON: `python -m tracker.dashboards.generate`."""
    assert stale() == []
    assert {path.stem for path in folder("dashboards").glob("*.json")} == set(DASHBOARDS)


@EVERY
def test_every_metric_exists(dashboard: dict[str, Any]) -> None:
    """No panel asks for a metric that the tracker does not define."""
    known = {metric.name for metric in ALL}
    for title, query in grafana.queries(dashboard, "expr"):
        assert grafana.metrics(query), title
        assert grafana.metrics(query) <= known, title


@EVERY
def test_every_label_exists(dashboard: dict[str, Any]) -> None:
    """Labels by which a panel filters, groups or names its series are labels of its metrics."""
    labels = {metric.name: set(metric.labels) for metric in ALL}
    for panel in grafana.panels(dashboard):
        for target in panel["targets"]:
            if "expr" not in target:
                continue
            known = set().union(*(labels[name] for name in grafana.metrics(target["expr"])))
            grouped = [name.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for name in by.split(",")]
            filtered = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", target["expr"])
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert {*grouped, *filtered, *shown} <= known, panel["title"]


@EVERY
def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """A panel has a title of its own and a description in whole sentences."""
    titles = [panel["title"] for panel in grafana.panels(dashboard)]
    assert len(set(titles)) == len(titles)
    assert all(panel["description"].endswith(".") for panel in grafana.panels(dashboard))


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
    macros = {"__timeFilter", "__timeInterval", "__rate_interval", "__data", "__value", "__all"}
    assert used <= defined | macros


def test_a_verdict_has_one_colour_everywhere() -> None:
    """Each verdict has a colour, and no two share one."""
    assert set(COLOURS) == set(Verdict)
    assert len(set(COLOURS.values())) == len(COLOURS)
