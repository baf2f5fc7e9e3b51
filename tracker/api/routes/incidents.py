"""Findings that belong together: who has them, how far they are."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from tracker.api import recovered, shapes
from tracker.api.auth import allowed, service_of
from tracker.api.history import history
from tracker.api.loss import loss
from tracker.api.postmortem import postmortem
from tracker.api.reading import Cursor, Limit, once
from tracker.api.runbooks import link
from tracker.api.service import Service
from tracker.control import Books
from tracker.control.errors import Conflict
from tracker.control.idempotency import Answer
from tracker.control.incidents import Incident
from tracker.control.rulings import of_incident
from tracker.control.tokens import Principal
from tracker.model.units import SECOND
from tracker.store.findings import Facts

routes = APIRouter(prefix="/v1/incidents", tags=["findings"])
SHOWN = 100
"""Ids of a ruling that the audit log keeps."""
_SPANS = ("detect_p50", "detect_p90", "recover_p50", "recover_p90")


@routes.get("", dependencies=[Depends(allowed("read"))])
def list_incidents(
    request: Request,
    status: Annotated[list[str] | None, Query(description="open, acknowledged, resolved; may be repeated")] = None,
    flow: str | None = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> shapes.Page[shapes.Incident]:
    """Incidents, newest first."""
    service = service_of(request)
    page = service.control.incidents.page(status=status or (), flow=flow, cursor=cursor, limit=limit)
    items = [shapes.Incident(**_fields(service, one)) for one in page.items]
    return shapes.Page(items=items, next=page.cursor or None)


@routes.get("/{incident_id}", dependencies=[Depends(allowed("read"))])
def get_incident(request: Request, incident_id: str) -> shapes.IncidentShown:
    """One incident with its history."""
    service = service_of(request)
    return shown(service, service.control, incident_id, _facts(service, incident_id))


@routes.get(
    "/{incident_id}/postmortem",
    dependencies=[Depends(allowed("read"))],
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}}}},
)
def get_postmortem(request: Request, incident_id: str) -> Response:
    """What is to be told of it, as Markdown: when, how many, which, what was done, how long it took, how we know. Ids,
    notes and reasons stand in it as code, so nothing in them is markup."""
    text = postmortem(service_of(request), incident_id)
    return Response(text, media_type="text/markdown", headers={"X-Content-Type-Options": "nosniff"})


@routes.patch("/{incident_id}", response_model=shapes.IncidentShown)
def patch_incident(
    request: Request,
    incident_id: str,
    change: shapes.IncidentChange,
    by: Annotated[Principal, Depends(allowed("replay"))],
) -> Response:
    """Acknowledge it, give it an owner, leave a note. It resolves by itself once no finding is open."""
    service = service_of(request)
    facts = _facts(service, incident_id)

    def work(books: Books) -> Answer:
        now = service.clock()
        books.incidents.patch(
            incident_id, now, by.name, owner=change.owner, note=change.note, acknowledge=change.acknowledge
        )
        said = change.model_dump(exclude_unset=True)
        books.audit.append(now, by.name, "patch", f"incident/{incident_id}", "", said)
        return Answer(200, shown(service, books, incident_id, facts).model_dump_json())

    return once(request, by, change.model_dump_json().encode(), work)


@routes.get("/{incident_id}/loss", dependencies=[Depends(allowed("read"))])
def get_loss(request: Request, incident_id: str, cursor: Cursor = "", limit: Limit = 100) -> recovered.Loss:
    """What it cost for good (its RPO), by name. Sources of the flow are asked whether they hold copies of what is
    open."""
    return loss(service_of(request), incident_id, cursor, limit)


@routes.post("/{incident_id}/findings", status_code=202, response_model=recovered.Ruled)
def post_findings(
    request: Request,
    incident_id: str,
    asked: recovered.RulingAsked,
    by: Annotated[Principal, Depends(allowed("replay"))],
) -> Response:
    """Set its findings aside, give them up, or open them again; the next pass does it. What is seen after all recovers
    whatever was said."""
    service = service_of(request)
    incident = service.control.incidents.get(incident_id)
    ids = asked.message_ids or []
    found = service.store.ruled(incident_id, asked.status, ids)

    def work(books: Books) -> Answer:
        if not found:
            raise Conflict(f"no finding of {incident_id} matches that could be made {asked.status}")
        now = service.clock()
        books.rulings.add(of_incident(incident.flow, incident_id, asked.status, ids), now)
        said = {"status": asked.status, "findings": found, "message_ids": ids[:SHOWN]}
        books.audit.append(now, by.name, "rule", f"incident/{incident_id}", asked.reason, said)
        books.incidents.enter(incident_id, now, by.name, f"to be {asked.status}: {found} findings; {asked.reason}")
        return Answer(202, recovered.Ruled(incident=incident_id, status=asked.status, findings=found).model_dump_json())

    return once(request, by, asked.model_dump_json().encode(), work)


def shown(service: Service, books: Books, incident_id: str, facts: Facts) -> shapes.IncidentShown:
    """The incident as answered. Raises NotFound."""
    entries = [shapes.Entry.model_validate(entry) for entry in history(books, incident_id)]
    return shapes.IncidentShown(
        **_fields(service, books.incidents.get(incident_id)),
        lost=facts.lost,
        recovered_by_replay_p50_s=_seconds(facts.replay_p50),
        recovered_by_replay_p90_s=_seconds(facts.replay_p90),
        recovered_by_itself_p50_s=_seconds(facts.itself_p50),
        recovered_by_itself_p90_s=_seconds(facts.itself_p90),
        timeline=entries,
    )


def _fields(service: Service, one: Incident) -> dict[str, object]:
    fields = msgspec.structs.asdict(one)
    for name in _SPANS:
        fields[f"{name}_s"] = _seconds(fields.pop(name))
    act = None if one.acted_at is None else max(one.acted_at - one.opened_at, 0)
    return fields | {"act_s": _seconds(act), "runbook": link(service, one)}


def _facts(service: Service, incident_id: str) -> Facts:
    """Raises NotFound. Not asked in a transaction of the books, which others wait for."""
    service.control.incidents.get(incident_id)
    return service.store.incident_facts(incident_id)


def _seconds(span: int | None) -> float | None:
    return None if span is None else span / SECOND
