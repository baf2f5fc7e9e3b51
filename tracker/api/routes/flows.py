"""Flow specs: put, look at, take away."""

from __future__ import annotations

import json
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit, body_of, once
from tracker.api.specs import Known, apart, keep
from tracker.control import Books
from tracker.control.errors import NotFound
from tracker.control.idempotency import Answer
from tracker.control.tokens import Principal
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec

routes = APIRouter(prefix="/v1/flows", tags=["flows"])
YAML = "application/yaml"


@routes.get("", dependencies=[Depends(allowed("read"))])
def list_flows(request: Request, cursor: Cursor = "", limit: Limit = 100) -> shapes.Page[shapes.Flow]:
    """Every flow, by name."""
    known = service_of(request).specs.known()
    names = sorted(name for name in known if name > cursor)
    chosen = names[:limit]
    return shapes.Page(items=[_shown(known[name]) for name in chosen], next=chosen[-1] if len(names) > limit else None)


@routes.get("/{flow}", dependencies=[Depends(allowed("read"))], response_model=shapes.Flow)
def get_flow(request: Request, flow: str) -> shapes.Flow | Response:
    """One flow; with `Accept: application/yaml` its text as it was put."""
    known = service_of(request).specs.of(flow)
    if YAML in request.headers.get("accept", ""):
        return Response(known.newest.text, media_type=YAML)
    return _shown(known)


@routes.put("", response_model=shapes.Flow, responses={201: {"model": shapes.Flow}})
async def put_flow(request: Request, by: Annotated[Principal, Depends(allowed("admin"))]) -> Response:
    """Put a spec (YAML or JSON); it names its flow itself. 201: the flow is new. It is in force for messages created
    from now on, a first version for all; the same spec again changes nothing."""
    return await _put(request, by, None)


@routes.put("/{flow}", response_model=shapes.Flow, responses={201: {"model": shapes.Flow}})
async def put_named_flow(request: Request, flow: str, by: Annotated[Principal, Depends(allowed("admin"))]) -> Response:
    """As `PUT /v1/flows`; the spec must be of this flow."""
    return await _put(request, by, flow)


@routes.delete("/{flow}", status_code=204)
def delete_flow(request: Request, flow: str, by: Annotated[Principal, Depends(allowed("admin"))]) -> Response:
    """Judge this flow's messages no more. What was stored stays; put it again to go on."""
    now = service_of(request).clock()

    def work(books: Books) -> Answer:
        books.flows.delete(flow, now)
        books.audit.append(now, by.name, "delete", f"flow/{flow}")
        return Answer(204, "")

    return once(request, by, b"", work)


async def _put(request: Request, by: Principal, flow: str | None) -> Response:
    body = await body_of(request)
    return await anyio.to_thread.run_sync(_put_body, request, by, body, flow)


def _put_body(request: Request, by: Principal, body: bytes, flow: str | None) -> Response:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    spec = load_spec(text)
    if flow is not None and spec.flow != flow:
        raise SpecError(f"the spec is of flow {spec.flow!r}, the address says {flow!r}", 1)
    apart(spec, service_of(request).specs.known())
    now = service_of(request).clock()
    answered = once(request, by, body, lambda books: _kept(books, spec, text, now, by))
    request.app.state.exports.traces.expect()
    return answered


def _kept(books: Books, spec: FlowSpec, text: str, now: int, by: Principal) -> Answer:
    try:
        before = books.flows.get(spec.flow).version
    except NotFound:
        before = 0
    version = keep(books, spec, text, now, by.name)
    if version != before:
        books.audit.append(now, by.name, "put", f"flow/{spec.flow}", "", {"version": version})
    shown = _shown(Known((books.flows.get(spec.flow),)))
    return Answer(200 if before else 201, shown.model_dump_json())


def _shown(known: Known) -> shapes.Flow:
    newest = known.newest
    return shapes.Flow(
        flow=newest.flow,
        version=newest.version,
        owner=known.spec.owner,
        in_force_from=newest.in_force_from,
        created_at=newest.created_at,
        created_by=newest.created_by,
        spec=json.loads(newest.canonical),
        text=newest.text,
    )
