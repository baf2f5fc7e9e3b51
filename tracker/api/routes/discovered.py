"""What spans told of messages that no flow takes."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.draft import drafts

routes = APIRouter(prefix="/v1/flows/discovered", tags=["flows"])


@routes.get("", dependencies=[Depends(allowed("read"))])
def list_discovered(request: Request) -> shapes.Discoveries:
    """Spans about messages that became no event, and why; with drafts of flow specs for what no flow takes."""
    found = service_of(request).discovered.all()
    return shapes.Discoveries(items=[shapes.Discovered.model_validate(one) for one in found], drafts=drafts(found))


@routes.delete("", status_code=204, dependencies=[Depends(allowed("admin"))])
def forget_discovered(request: Request) -> Response:
    """Begin anew: after flows were put, what is listed is what they do not take."""
    service_of(request).discovered.forget()
    return Response(status_code=204)
