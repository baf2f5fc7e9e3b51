"""Runbooks as pages, so that a link in an alert leads to something that can be read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from tracker.api.auth import service_of
from tracker.api.runbooks import path_of
from tracker.console.incident import Live, live, newest
from tracker.console.pages import Viewer, render
from tracker.console.runbook import rendered, title
from tracker.control.errors import NotFound

routes = APIRouter(prefix="/runbooks", tags=["operations"])
Chosen = Annotated[str, Query(max_length=200)]


@routes.get("/{name}", response_class=HTMLResponse)
def runbook(
    request: Request, by: Viewer, name: str, incident: Chosen = "", flow: Chosen = "", hop: Chosen = ""
) -> HTMLResponse:
    """The runbook of that name, rendered. With an `incident`, or the `flow` and `hop` of an alert, its numbers as they
    are now stand above it and the commands are filled in; that needs the scope `read`, the text alone needs none."""
    path = path_of(name.removesuffix(".md"))
    text = path.read_text("utf-8")
    found, missing = None, ""
    if by is not None and (incident or flow):
        try:
            found = _incident(request, path.stem, incident, flow, hop)
        except NotFound as error:
            missing = str(error)
    return render(
        request,
        "runbook.html",
        title=title(text) or path.stem,
        body=rendered(text, found.values if found else {"flow": flow, "hop": hop} if flow and hop else {}),
        live=found,
        missing=missing,
        hidden=by is None and bool(incident or flow),
    )


def _incident(request: Request, kind: str, incident: str, flow: str, hop: str) -> Live:
    service = service_of(request)
    return live(service, incident or newest(service, kind, flow, hop))
