"""What a viewer chooses at the top of a dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracker.dashboards.panel import CLICKHOUSE, PROMETHEUS, Sql

TRACKER_URL = "http://127.0.0.1:8000"
"""Where the links to messages, incidents and runbooks lead until somebody types another address into `tracker`."""
DATABASE = "tracker_views"


def data_source(name: str, label: str, plugin: str) -> dict[str, Any]:
    """Which data source of this plugin the panels ask."""
    return {"name": name, "label": label, "type": "datasource", "query": plugin, "refresh": 1, "hide": 0}


def typed_in(name: str, label: str, value: str) -> dict[str, Any]:
    """A text that the viewer may change."""
    current = {"selected": True, "text": value, "value": value}
    return {"name": name, "label": label, "type": "textbox", "query": value, "current": current, "hide": 0}


def flows() -> dict[str, Any]:
    """Any number of flows, all of them at first."""
    query = "label_values(tracker_messages, flow)"
    return _chosen("flow", "Flow") | {
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": "flows"},
    }


def hops() -> dict[str, Any]:
    """Any number of the hops at which something was seen in the span, all of them at first."""
    query = Sql(
        """
SELECT DISTINCT hop
FROM ${database}.events
WHERE flow IN (${flow:sqlstring}) AND $__timeFilter(received_at)
ORDER BY hop
LIMIT 1000"""
    ).text.strip()
    return _chosen("hop", "Hop") | {"datasource": CLICKHOUSE, "query": query}


def hops_off() -> dict[str, Any]:
    """Any number of the hops at which something was not as usual, all of them at first. One that is silent has no
    events by which it could be found."""
    query = (
        "SELECT DISTINCT hop FROM ${database}.anomalies WHERE flow IN (${flow:sqlstring}) AND hop != '' ORDER BY hop"
    )
    return _chosen("hop", "Hop") | {"datasource": CLICKHOUSE, "query": query}


def with_those_of_all(own: Sequence[dict[str, Any]], tracker: str) -> list[dict[str, Any]]:
    """The variables that every dashboard has, with its own behind the flow, which they may use. `tracker`: where
    links lead."""
    return [
        data_source("prometheus", "Prometheus", PROMETHEUS["type"]),
        data_source("clickhouse", "ClickHouse", CLICKHOUSE["type"]),
        flows(),
        *own,
        typed_in("database", "Database", DATABASE),
        typed_in("tracker", "Tracker", tracker),
    ]


def _chosen(name: str, label: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }
