"""Findings that belong together: who has them, how far they are."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.history import history
from tracker.api.postmortem import postmortem
from tracker.api.reading import Cursor, Limit, once
from tracker.api.runbooks import link
from tracker.api.service import Service
from tracker.control import Books
from tracker.control.idempotency import Answer
from tracker.control.incidents import Incident
from tracker.control.tokens import Principal
from tracker.model.units import SECOND

routes = APIRouter(prefix="/v1/incidents", tags=["findings"])
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
    return shown(service, service.control, incident_id)


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

    def work(books: Books) -> Answer:
        now = service.clock()
        books.incidents.patch(
            incident_id, now, by.name, owner=change.owner, note=change.note, acknowledge=change.acknowledge
        )
        said = change.model_dump(exclude_unset=True)
        books.audit.append(now, by.name, "patch", f"incident/{incident_id}", "", said)
        return Answer(200, shown(service, books, incident_id).model_dump_json())

    return once(request, by, change.model_dump_json().encode(), work)


def shown(service: Service, books: Books, incident_id: str) -> shapes.IncidentShown:
    """The incident as answered. Raises NotFound."""
    entries = [shapes.Entry.model_validate(entry) for entry in history(books, incident_id)]
    return shapes.IncidentShown(**_fields(service, books.incidents.get(incident_id)), timeline=entries)


def _fields(service: Service, one: Incident) -> dict[str, object]:
    fields = msgspec.structs.asdict(one)
    for name in _SPANS:
        value = fields.pop(name)
        fields[f"{name}_s"] = None if value is None else value / SECOND
    return fields | {"runbook": link(service, one)}
