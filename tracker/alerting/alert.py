"""One alert, and the labels and links that code adds to each, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

OPERATIONS = "operations"
"""Who owns what belongs to no flow, and flows without an owner."""
OVERVIEW, ITSELF, ANOMALIES = (f"tracker-{name}" for name in ("overview", "itself", "anomalies"))
"""Uids of dashboards that links lead to. Names, not imports: dashboards and alerts do not need each other."""
TRACKER, GRAFANA = "http://127.0.0.1:8000", "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Alert:
    """`text` says what it means in words that need no values; `summary` is a Prometheus template.

    `page` wakes somebody; `ticket` waits for the morning; `none` is for a machine. `runbook` also names the kind of
    incident: alerts that it explains are one notification. `of_flow`, `of_hop`: the expression's labels name a flow, a
    hop. The flow's owner gets what is of a flow, unless it is `ours`: about the tracker, whichever flow shows it.
    `board`: the uid of the dashboard that shows it.
    """

    name: str
    expression: str
    lasting: str
    severity: Literal["page", "ticket", "none"]
    runbook: str
    summary: str
    text: str
    of_flow: bool = False
    of_hop: bool = False
    ours: bool = False
    board: str = OVERVIEW

    @property
    def owned(self) -> bool:
        """The owner of a flow gets it."""
        return self.of_flow and not self.ours


@dataclass(frozen=True, slots=True)
class Places:
    """Where links lead: the tracker's and Grafana's addresses as people reach them."""

    tracker: str = TRACKER
    grafana: str = GRAFANA


def rule(alert: Alert, places: Places) -> dict[str, Any]:
    """The alert as a Prometheus rule. Every label and link that an alert has is added here."""
    chosen = [name for name, has in (("flow", alert.of_flow), ("hop", alert.of_hop)) if has]
    values = [f"{name}={{{{ $labels.{name} | urlquery }}}}" for name in chosen]
    variables = ["var-flow={{ $labels.flow | urlquery }}"] if alert.of_flow else []
    by_hop = alert.of_hop and alert.board == ANOMALIES
    if places.tracker != TRACKER:
        variables.append(f"var-tracker={quote(places.tracker, safe='')}")
    return {
        "alert": alert.name,
        "expr": told(alert.expression) if alert.of_flow else alert.expression,
        "for": alert.lasting,
        "labels": {
            "severity": MILDEST if alert.of_flow and alert.severity == "page" else alert.severity,
            "owner": OWNER if alert.owned else OPERATIONS,
            "incident_kind": alert.runbook,
        },
        "annotations": {
            "summary": alert.summary,
            "description": alert.text,
            "runbook_url": _asked(f"{places.tracker}/runbooks/{quote(alert.runbook)}", values),
            "dashboard_url": _asked(f"{places.grafana}/d/{alert.board}", variables) + (HOP if by_hop else ""),
        },
    }


HOP = "{{ if $labels.hop }}&var-hop={{ $labels.hop | urlquery }}{{ end }}"
"""For a dashboard that has the hop as a variable. What is about a whole flow has none."""
INFO = "tracker_flow_info"
OWNER = f"{{{{ with $labels.owner }}}}{{{{ . }}}}{{{{ else }}}}{OPERATIONS}{{{{ end }}}}"
MILDEST = '{{ if eq $labels.severity "ticket" }}ticket{{ else }}page{{ end }}'
"""A flow may ask that nobody is woken."""


def told(expression: str) -> str:
    """With the labels `owner` and `severity` of the flow's newest spec; without them where the tracker shows none, so
    that no alert depends on it. While trackers show several versions the newest one counts, which is the value."""
    newest = f"topk by (flow) (1, {INFO})"
    joined = f"({expression}) + on (flow) group_left (owner, severity) 0 * {newest}"
    return f"{joined} or ({expression}) unless on (flow) {INFO}"


def _asked(url: str, values: Collection[str]) -> str:
    return f"{url}?{'&'.join(values)}" if values else url
