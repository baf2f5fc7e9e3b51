"""One alert, and the labels and links that code adds to each, so that none is forgotten."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from tracker.model.spec import FlowSpec

OPERATIONS = "operations"
"""Who owns what belongs to no flow, and flows without an owner."""
OVERVIEW = "tracker-overview"
"""The uid of the dashboard that links lead to. A name, not an import: dashboards and alerts do not need each other."""
TRACKER, GRAFANA = "http://127.0.0.1:8000", "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Alert:
    """`text` says what it means in words that need no values; `summary` is a Prometheus template.

    `page` wakes somebody; `ticket` waits for the morning. `runbook` also names the kind of incident: alerts that it
    explains are one notification. `of_flow`, `of_hop`: the expression's labels name a flow, a hop. The flow's owner
    gets what is of a flow, unless it is `ours`: about the tracker, whichever flow shows it.
    """

    name: str
    expression: str
    lasting: str
    severity: Literal["page", "ticket"]
    runbook: str
    summary: str
    text: str
    of_flow: bool = False
    of_hop: bool = False
    ours: bool = False

    @property
    def owned(self) -> bool:
        """The owner of a flow gets it."""
        return self.of_flow and not self.ours


@dataclass(frozen=True, slots=True)
class Places:
    """Where links lead: the tracker's and Grafana's addresses as people reach them."""

    tracker: str = TRACKER
    grafana: str = GRAFANA


@dataclass(frozen=True, slots=True)
class Whom:
    """Who is told of which flow: its owner, if it has one. Of the flows in `quiet` no alert wakes anybody."""

    owners: Mapping[str, str] = field(default_factory=dict)
    quiet: Collection[str] = ()

    @classmethod
    def of(cls, specs: Iterable[FlowSpec]) -> Whom:
        """As these specs say."""
        specs = list(specs)
        return cls(
            {spec.flow: spec.owner for spec in specs if spec.owner},
            [spec.flow for spec in specs if spec.severity == "ticket"],
        )


def rule(alert: Alert, places: Places, whom: Whom) -> dict[str, Any]:
    """The alert as a Prometheus rule. Every label and link that an alert has is added here."""
    chosen = [name for name, has in (("flow", alert.of_flow), ("hop", alert.of_hop)) if has]
    values = [f"{name}={{{{ $labels.{name} | urlquery }}}}" for name in chosen]
    variables = [f"var-{value}" for value in values if not value.startswith("hop=")]
    if places.tracker != TRACKER:
        variables.append(f"var-tracker={quote(places.tracker, safe='')}")
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasting,
        "labels": {
            "severity": severity(alert, whom),
            "owner": owner(whom.owners) if alert.owned else OPERATIONS,
            "incident_kind": alert.runbook,
        },
        "annotations": {
            "summary": alert.summary,
            "description": alert.text,
            "runbook_url": _asked(f"{places.tracker}/runbooks/{quote(alert.runbook)}", values),
            "dashboard_url": _asked(f"{places.grafana}/d/{OVERVIEW}", variables),
        },
    }


def owner(owners: Mapping[str, str]) -> str:
    """A label that names the owner of the flow in `$labels.flow`: Prometheus fills it in when the alert fires."""
    flows: dict[str, list[str]] = {}
    for flow, name in sorted(owners.items()):
        if name:
            flows.setdefault(name, []).append(flow)
    return _by_flow(flows, OPERATIONS)


def severity(alert: Alert, whom: Whom) -> str:
    """As the alert says, but no more than a ticket for flows that are to wake nobody."""
    if alert.severity == "page" and alert.owned and whom.quiet:
        return _by_flow({"ticket": sorted(whom.quiet)}, "page")
    return alert.severity


def _by_flow(flows: Mapping[str, Collection[str]], otherwise: str) -> str:
    """A template (https://pkg.go.dev/text/template: `eq` compares its first argument with each other one). Texts are
    quoted as JSON, which Go reads: an owner may be named by any characters, also those of a template."""
    cases = [
        f"eq $labels.flow {' '.join(map(_quoted, names))} }}}}{{{{ {_quoted(text)} }}}}"
        for text, names in sorted(flows.items())
    ]
    if not cases:
        return otherwise
    return "{{ if " + "{{ else if ".join(cases) + "{{ else }}" + otherwise + "{{ end }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _asked(url: str, values: Collection[str]) -> str:
    return f"{url}?{'&'.join(values)}" if values else url
