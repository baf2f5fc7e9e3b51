"""One message: what was observed of it, what became of it, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit
from tracker.api.timeline import timeline

routes = APIRouter(prefix="/v1/flows/{flow}/messages", tags=["messages"], dependencies=[Depends(allowed("read"))])


@routes.get("", response_model=shapes.Page[shapes.MessageState])
def list_messages(
    request: Request,
    flow: str,
    id: Annotated[str | None, Query(description="answer with this one message instead of a list")] = None,
    verdict: str | None = None,
    flag: str | None = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response | shapes.Page[shapes.MessageState]:
    """Messages as the last pass left them, by id; or, with `id`, the message itself, whatever its id is made of."""
    service = service_of(request)
    if id is not None:
        return JSONResponse(timeline(service, flow, id).model_dump(mode="json"))
    service.specs.of(flow)
    rows = service.store.message_states(flow, verdict, flag, cursor or None, limit)
    items = [shapes.MessageState(origin_at=row.pop("origin"), **row) for row in rows]
    return shapes.Page(items=items, next=items[-1].message_id if len(items) == limit else None)


@routes.get("/{message_id:path}")
def get_message(request: Request, flow: str, message_id: str) -> shapes.Message:
    """The message judged at this moment, with everything observed of it. Percent-encode the id."""
    return timeline(service_of(request), flow, message_id)
