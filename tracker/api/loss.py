"""What an incident cost for good, by name: its RPO."""

from __future__ import annotations

from typing import Literal

from tracker.api import recovered as shapes
from tracker.api.service import Service
from tracker.control.errors import NotFound
from tracker.control.incidents import Incident
from tracker.store.findings import OPEN, Finding, cursor_of

MOST = 10_000
"""Open messages for which sources are asked; where there are more, all of them count as not asked."""


def loss(service: Service, incident_id: str, cursor: str = "", limit: int = 100) -> shapes.Loss:
    """Counts, and a page of the messages, newest finding first. Raises NotFound; Invalid for a cursor that is none."""
    incident = service.control.incidents.get(incident_id)
    held, everywhere = _asked(service, incident)
    facts = service.store.incident_facts(incident_id)
    gone = max(facts.lost - facts.parked - facts.abandoned - len(held), 0)
    found = service.store.findings(incident=incident_id, lost=True, after=cursor or None, limit=limit)
    return shapes.Loss(
        incident=incident_id,
        flow=incident.flow,
        as_of=service.clock(),
        lost=facts.parked + facts.abandoned + gone,
        parked=facts.parked,
        abandoned=facts.abandoned,
        gone=gone,
        unknown=0 if everywhere else gone,
        retrievable=len(held),
        items=[_item(one, everywhere) for one in found if one.status != OPEN or one.message_id not in held],
        next=cursor_of(found[-1]) if len(found) == limit else None,
    )


def _asked(service: Service, incident: Incident) -> tuple[set[str], bool]:
    """(open lost messages of which a source holds a copy, whether every source answered that could)."""
    found = service.store.findings(incident=incident.id, status=OPEN, lost=True, limit=MOST + 1)
    if service.replays is None or len(found) > MOST:
        return set(), not found
    try:
        return service.replays.held(incident.flow, [one.message_id for one in found])
    except NotFound:  # a flow that was deleted has no sources
        return set(), False


def _item(one: Finding, everywhere: bool) -> shapes.LostMessage:
    held: Literal["", "none", "unknown"] = ""
    if one.status == OPEN:
        held = "none" if everywhere else "unknown"
    return shapes.LostMessage(
        message_id=one.message_id, hop=one.hop, kind=one.kind, status=one.status, origin_at=one.origin_at or None,
        opened_at=one.opened_at, copy_held=held, why=one.why,
    )  # fmt: skip
