"""A dashboard: its question, rows and variables, and what all of them share: links to each other, and incidents drawn
into every panel that shows time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracker.dashboards import variables
from tracker.dashboards.panel import CLICKHOUSE, SCHEMA_VERSION, Row, Sql, laid_out

TAG = "tracker"
"""By this tag the dashboards find each other."""

INCIDENTS = Sql(
    """
SELECT
    first_opened_at AS time,
    if(open > 0, toDateTime64($__toTime, 6, 'UTC'), assumeNotNull(last_resolved_at)) AS timeEnd,
    concat(kind, ' at ', hop) AS title,
    concat(toString(messages), ' messages of ', flow, ', ', toString(open), ' findings open: ',
        '<a href="${tracker}/incidents/', incident, '" target="_blank">incident</a>, ',
        '<a href="${tracker}/runbooks/', kind, '" target="_blank">runbook</a>') AS text,
    concat(flow, ',', kind) AS tags
FROM ${database}.incidents
WHERE flow IN (${flow:sqlstring}) AND first_opened_at <= $__toTime AND (open > 0 OR last_resolved_at >= $__fromTime)
ORDER BY time
LIMIT 500"""
)
"""Incidents that were not over when the shown span began. Fields as Grafana names those of an annotation."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`question`: what it answers, in one sentence. `own`: variables beside those that all have, between flow and
    addresses. The uid is for ever: alerts and bookmarks name it."""

    uid: str
    title: str
    question: str
    rows: Sequence[Row]
    own: Sequence[dict[str, Any]] = ()
    span: str = "now-1h"
    refresh: str = "30s"

    def json(self, tracker: str = variables.TRACKER_URL) -> dict[str, Any]:
        """As Grafana imports it, with links to the tracker at this address."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": f"{self.question} Made by `tracker dashboards render`; change the code, not the JSON.",
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "utc",
            "refresh": self.refresh,
            "time": {"from": self.span, "to": "now"},
            "templating": {"list": variables.with_those_of_all(self.own, tracker)},
            "annotations": {"list": [_incidents()]},
            "links": [
                _link("dashboards", "Tracker", tags=[TAG], includeVars=True, keepTime=True),
                _link("link", "Console", "${tracker}/", icon="external link", targetBlank=True),
                _link("link", "API", "${tracker}/docs", icon="doc", targetBlank=True),
            ],
            "panels": laid_out(self.rows),
        }


def _incidents() -> dict[str, Any]:
    query = INCIDENTS.target("incidents")
    return {"name": "Incidents", "datasource": CLICKHOUSE, "enable": True, "iconColor": "red", "target": query}


def _link(kind: str, title: str, url: str = "", **more: Any) -> dict[str, Any]:
    usual = {"icon": "dashboard", "tags": [], "tooltip": "", "asDropdown": False, "includeVars": False}
    return {"type": kind, "title": title, "url": url} | usual | {"keepTime": False, "targetBlank": False} | more
