"""One incident on a page: how many, since when, what was tried, who is missing; and its numbers beside a runbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracker.api.history import history
from tracker.api.runbooks import link
from tracker.api.service import Service
from tracker.control.errors import NotFound
from tracker.control.incidents import Incident
from tracker.control.replays import Replay
from tracker.store.findings import ABANDONED, PARKED, Facts, Finding

NEWEST = 25
"""Messages that are named on the page."""
LIVING = ("open", "acknowledged")


@dataclass(frozen=True, slots=True)
class Live:
    """An incident as it stands now. `findings`: the newest that are open; `given_up`: those parked or abandoned."""

    incident: Incident
    facts: Facts
    findings: list[Finding]
    given_up: list[Finding]
    replays: list[Replay]
    runbook: str

    @property
    def values(self) -> Mapping[str, str]:
        """What the variables in a runbook's commands are for this incident."""
        known = {"flow": self.incident.flow, "hop": self.incident.hop, "incident": self.incident.id}
        if self.findings:
            known["message"] = self.findings[0].message_id
        if self.replays:
            known["replay"] = self.replays[0].id
        return known


def live(service: Service, incident_id: str) -> Live:
    """Raises NotFound."""
    incident = service.control.incidents.get(incident_id)
    findings = service.store.findings(incident=incident_id, status="open", limit=NEWEST)
    facts = service.store.incident_facts(incident_id)
    statuses = [status for status, n in ((PARKED, facts.parked), (ABANDONED, facts.abandoned)) if n]
    given_up = [
        one for status in statuses for one in service.store.findings(incident=incident_id, status=status, limit=NEWEST)
    ]
    replays = service.control.replays.page(incident_id=incident_id, limit=5).items
    return Live(incident, facts, findings, given_up, replays, link(service, incident))


def newest(service: Service, kind: str, flow: str, hop: str) -> str:
    """The id of the incident that an alert of this kind, flow and hop is about: the newest that is not resolved, else
    the newest. Raises NotFound."""
    for status in (LIVING, ()):
        for one in service.control.incidents.page(flow=flow, status=status, limit=1000).items:
            if one.kind == kind and hop in ("", one.hop):
                return one.id
    raise NotFound(f"no incident of kind {kind!r} in flow {flow!r}" + (f" at {hop!r}" if hop else ""))


def page(service: Service, incident_id: str) -> dict[str, Any]:
    """Values for `incident.html`. Raises NotFound."""
    found = live(service, incident_id)
    return {"live": found, "history": list(reversed(history(service.control, incident_id)))}
