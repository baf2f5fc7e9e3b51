"""What needs somebody."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit
from tracker.api.timeline import finding
from tracker.store.findings import cursor_of

routes = APIRouter(prefix="/v1/findings", tags=["findings"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def list_findings(
    request: Request,
    flow: str | None = None,
    hop: str | None = None,
    kind: str | None = None,
    status: str | None = None,
    incident: str | None = None,
    message_id: str | None = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> shapes.Page[shapes.Finding]:
    """Findings that match all that is given, newest first."""
    found = service_of(request).store.findings(
        flow=flow,
        hop=hop,
        kind=kind,
        status=status,
        incident=incident,
        message_id=message_id,
        after=cursor or None,
        limit=limit,
    )
    items = [finding(one) for one in found]
    return shapes.Page(items=items, next=cursor_of(found[-1]) if len(found) == limit else None)
