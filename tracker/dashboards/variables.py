"""What a viewer chooses at the top of a dashboard."""

from __future__ import annotations

from typing import Any

from tracker.dashboards.panel import CLICKHOUSE, PROMETHEUS

TRACKER_URL = "http://127.0.0.1:8000"
"""Where the links to messages and runbooks lead until somebody types another address into `tracker`."""


def data_source(name: str, label: str, plugin: str) -> dict[str, Any]:
    """Which data source of this plugin the panels ask."""
    return {"name": name, "label": label, "type": "datasource", "query": plugin, "refresh": 1, "hide": 0, "current": {}}


def typed_in(name: str, label: str, value: str) -> dict[str, Any]:
    """A text that the viewer may change."""
    current = {"selected": True, "text": value, "value": value}
    return {"name": name, "label": label, "type": "textbox", "query": value, "current": current, "hide": 0}


def flows() -> dict[str, Any]:
    """Any number of flows, all of them at first."""
    query = "label_values(tracker_messages, flow)"
    return {
        "name": "flow",
        "label": "Flow",
        "type": "query",
        "datasource": PROMETHEUS,
        "definition": query,
        "query": {"query": query, "refId": "flows"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def all_of_them() -> list[dict[str, Any]]:
    """The variables that every dashboard has."""
    return [
        data_source("prometheus", "Prometheus", PROMETHEUS["type"]),
        data_source("clickhouse", "ClickHouse", CLICKHOUSE["type"]),
        flows(),
        typed_in("database", "Database", "tracker"),
        typed_in("tracker", "Tracker", TRACKER_URL),
    ]
