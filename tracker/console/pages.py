"""The pages that a browser shows without Grafana: an overview, one message. Server-rendered, no build step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import tracker
from tracker.api.auth import COOKIE, allowed, service_of
from tracker.api.reading import body_of
from tracker.api.timeline import timeline
from tracker.console import incident as incidents
from tracker.console import looks
from tracker.console.described import operations
from tracker.console.overview import overview
from tracker.control.errors import Denied, NotFound, Unauthenticated
from tracker.control.tokens import Principal

FOLDER = Path(__file__).parent
STATIC = {"console.css": "text/css", "live.js": "text/javascript", "mark.svg": "image/svg+xml"}
HEADERS = {
    # Nothing from elsewhere, no inline script or style: an id or a reason that holds HTML stays text, twice over.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
YEAR = 365 * 86_400

routes = APIRouter(include_in_schema=False)
_pages = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.globals |= {"version": tracker.__version__, "tone": looks.TONES, "message_path": looks.message_path}
_pages.filters |= {"ago": looks.ago, "span": looks.span, "clock": looks.clock, "thousands": looks.thousands}


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of ours."""
    now = service_of(request).clock()
    return HTMLResponse(_pages.get_template(template).render(now=now, **values), status, HEADERS)


def viewer(request: Request) -> Principal | None:
    """Who looks, or None when somebody has to sign in first. Blocks."""
    try:
        return allowed("read")(request)
    except Denied:
        return None


Viewer = Annotated[Principal | None, Depends(viewer)]


@routes.get("/")
def home(request: Request, by: Viewer) -> Response:
    """The overview."""
    if by is None:
        return _signin(request)
    return render(request, "overview.html", **overview(service_of(request)))


@routes.get("/find")
def find(request: Request, flow: str = "", id: str = "") -> Response:
    """From the search form to the message's page."""
    return RedirectResponse(looks.message_path(flow, id.strip()) if flow and id.strip() else "/", 303)


@routes.get("/flows/{flow}/messages/{message_id:path}")
def message(request: Request, by: Viewer, flow: str, message_id: str) -> Response:
    """One message: its verdict, its way, everything observed of it."""
    if by is None:
        return _signin(request)
    service = service_of(request)
    try:
        found = timeline(service, flow, message_id)
    except NotFound as error:
        return render(request, "nothing.html", 404, reason=str(error))
    spec = service.specs.of(flow).spec_at(found.origin_at or 0)
    return render(request, "message.html", message=found, spec=spec, way=looks.way(spec, found))


@routes.get("/incidents/{incident_id}")
def incident(request: Request, by: Viewer, incident_id: str) -> Response:
    """One incident: its numbers, its history, who is missing, what to do."""
    if by is None:
        return _signin(request)
    try:
        return render(request, "incident.html", **incidents.page(service_of(request), incident_id))
    except NotFound as error:
        return render(request, "nothing.html", 404, reason=str(error))


@routes.get("/docs")
def docs(request: Request) -> Response:
    """The API's description, made from its OpenAPI document; nothing is fetched from elsewhere."""
    return render(request, "docs.html", groups=operations(request.app.openapi()))


@routes.get("/static/{name}")
def static(name: str) -> Response:
    """Styles and the one script."""
    if name not in STATIC:
        raise NotFound(f"no file {name!r}")
    return FileResponse(FOLDER / "static" / name, media_type=STATIC[name], headers={"Cache-Control": "max-age=300"})


@routes.post("/login")
async def login(request: Request) -> Response:
    """Keep the token in a cookie that only this site may read and that no other site's form can use."""
    said = parse_qs((await body_of(request)).decode("utf-8", "replace"))
    return await anyio.to_thread.run_sync(_login, request, said.get("token", [""])[0], said.get("to", ["/"])[0])


def _login(request: Request, token: str, to: str) -> Response:
    service = service_of(request)
    try:
        service.control.tokens.verify(token.strip(), "read", service.clock())
    except Unauthenticated:
        return _signin(request, "This token is unknown, expired or revoked.", to)
    except Denied as error:
        return _signin(request, f"{error}.", to)
    inside = to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
    answer = RedirectResponse(quote(inside, safe="/%?=&-._~:"), 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token.strip(), max_age=YEAR, httponly=True, samesite="strict", secure=secure)
    return answer


@routes.post("/logout")
def logout() -> Response:
    """Forget the token."""
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _signin(request: Request, wrong: str = "", to: str | None = None) -> HTMLResponse:
    return render(request, "signin.html", 401, wrong=wrong, to=request.url.path if to is None else to)
