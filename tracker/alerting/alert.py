"""One alert, and the links and labels that code adds to each, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

OPERATIONS = "operations"
"""Who owns what belongs to no flow, and flows without an owner."""
OVERVIEW = "tracker-overview"
"""The uid of the dashboard that links lead to. A name, not an import: dashboards and alerts do not need each other."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`text` says what it means in words that need no values; `summary` is a Prometheus template.

    `page` wakes somebody; `ticket` waits for the morning. `of_flow`: the expression's labels name a flow, and the
    flow's owner gets it.
    """

    name: str
    expression: str
    lasting: str
    severity: Literal["page", "ticket"]
    runbook: str
    summary: str
    text: str
    of_flow: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Where links lead: the tracker's and Grafana's addresses as people reach them."""

    tracker: str = "http://127.0.0.1:8000"
    grafana: str = "http://127.0.0.1:3000"


def rule(alert: Alert, places: Places, owners: Mapping[str, str]) -> dict[str, Any]:
    """The alert as a Prometheus rule."""
    dashboard = f"{places.grafana}/d/{OVERVIEW}"
    if alert.of_flow:
        dashboard += "?var-flow={{ $labels.flow | urlquery }}"
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasting,
        "labels": {"severity": alert.severity, "owner": owner(owners) if alert.of_flow else OPERATIONS},
        "annotations": {
            "summary": alert.summary,
            "description": alert.text,
            "runbook_url": f"{places.tracker}/runbooks/{quote(alert.runbook)}",
            "dashboard_url": dashboard,
        },
    }


def owner(owners: Mapping[str, str]) -> str:
    """A label that names the owner of the flow in `$labels.flow`: Prometheus fills it in when the alert fires."""
    cases = [f'eq $labels.flow "{flow}" }}}}{name}' for flow, name in sorted(owners.items()) if name]
    if not cases:
        return OPERATIONS
    return "{{ if " + "{{ else if ".join(cases) + "{{ else }}" + OPERATIONS + "{{ end }}"
