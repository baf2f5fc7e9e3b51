"""What is to be told of an incident afterwards, as Markdown: when, how many, which, what was done, and how we know."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from tracker.api import shapes
from tracker.api.history import history
from tracker.api.loss import loss
from tracker.api.markdown import code, render
from tracker.api.runbooks import link
from tracker.api.service import Service
from tracker.api.timeline import timeline
from tracker.control.errors import NotFound
from tracker.control.incidents import Incident
from tracker.control.replays import Replay
from tracker.model.units import rfc3339
from tracker.reconcile.books import BlindSpot, blind_spots
from tracker.store.findings import Facts, Finding

LISTED = 50
"""Messages that are named; the page says how to get all."""
ASKED = 500
"""Messages whose replays are looked up."""
EVIDENCE = 3
"""Messages whose way is shown."""
EVENTS = 40
"""Events of one message that are shown."""
SPOTS = 20


def postmortem(service: Service, incident_id: str) -> str:
    """Markdown. Raises NotFound for an incident that is not there."""
    incident = service.control.incidents.get(incident_id)
    now = service.clock()
    facts = service.store.incident_facts(incident_id)
    found = service.store.findings(incident=incident_id, limit=ASKED)
    own = [one for one in found if not one.cause] or found
    replays = _replays(service, incident, found)
    entries = history(service.control, incident_id, replays)
    acknowledged = next((entry.at for entry in entries if entry.what == "acknowledged"), None)
    spots = _blind_spots(service, incident, facts, now)
    cost = loss(service, incident_id, limit=LISTED)
    return render(
        "postmortem.md",
        {
            "incident": incident,
            "facts": facts,
            "as_of": now,
            "runbook": link(service, incident),
            "acknowledged": acknowledged,
            "to_act": None if incident.acted_at is None else max(incident.acted_at - incident.opened_at, 0),
            "loss": cost,
            "lost": cost.items,
            "loss_command": [f"tracker incidents loss {shlex.quote(incident_id)} --limit {max(cost.lost, 1)} --json"],
            "findings": own[:LISTED],
            "command": [
                f"tracker findings --incident {shlex.quote(incident_id)} --limit {max(incident.total, 1)} --json"
            ],
            "history": entries,
            "replays": [_result(service, one) for one in replays],
            "evidence": [_evidence(service, one) for one in _chosen(own)],
            "blind_spots": spots[:SPOTS],
            "spots_left": max(len(spots) - SPOTS, 0),
        },
    )


def _replays(service: Service, incident: Incident, found: Sequence[Finding]) -> list[Replay]:
    """Those that were asked for it by name, and those of the flow that had any of its messages; oldest first."""
    ids = sorted({one.message_id for one in found})
    sent = service.control.replays.of_messages(incident.flow, ids)
    named = service.control.replays.page(incident_id=incident.id, limit=1000).items
    return sorted({one.id: one for one in (*sent, *named)}.values(), key=lambda one: (one.created_at, one.id))


def _result(service: Service, replay: Replay) -> dict[str, Any]:
    counts = service.control.messages.counts(replay.id)
    total, recovered = sum(counts.values()), counts.get("recovered", 0)
    ended = sum(counts.get(state, 0) for state in ("refused", "failed", "parked"))
    return {
        "id": code(replay.id),
        "messages": total,
        "recovered": recovered,
        "waiting": total - recovered - ended,
        "ended": ended,
    }


def _chosen(found: Sequence[Finding]) -> list[Finding]:
    """One of each way that it ended, as far as there are; then the newest."""
    first = {(one.status, one.by): one for one in reversed(found)}
    every = {one.message_id: one for one in (*first.values(), *found)}
    return list(every.values())[:EVIDENCE]


def _evidence(service: Service, finding: Finding) -> dict[str, Any]:
    """A message's verdict now, and its way; what can no longer be judged says so."""
    try:
        message = timeline(service, finding.flow, finding.message_id)
    except NotFound as error:
        return {"message_id": finding.message_id, "verdict": "", "why": str(error), "lines": []}
    lines = [_line(one) for one in message.timeline[:EVENTS]]
    left = len(message.timeline) - EVENTS
    return {
        "message_id": message.message_id,
        "verdict": message.verdict,
        "why": message.why,
        "lines": lines + ([f"... and {left} more events"] if left > 0 else []),
    }


def _line(one: shapes.Observation) -> str:
    what = one.stage + (f" ({one.reason})" if one.reason else "") + (" by a replay" if one.replay_id else "")
    where = " ".join(part for part in (one.delivery, one.node) if part)
    return f"{rfc3339(one.observed_at)}  {one.hop:<16} {what:<24} {where}".rstrip()


def _blind_spots(service: Service, incident: Incident, facts: Facts, now: int) -> list[BlindSpot]:
    """At its hop, from when its first message was created until its last finding was opened."""
    try:
        spec = service.specs.of(incident.flow).spec
    except NotFound:
        return []
    start, end = facts.first_origin or incident.first_finding_at, incident.last_finding_at
    hops = set(incident.hop.split("|"))
    return [spot for spot in blind_spots(spec, service.store.coverage(spec), start, end, now) if spot.hop in hops]
