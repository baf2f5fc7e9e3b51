"""What was promised and how it stands; and how it was kept in a period."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit, moment
from tracker.api.report import markdown, report, share_of
from tracker.api.service import Service
from tracker.console.pages import render
from tracker.console.runbook import rendered
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND, say
from tracker.slo.standing import (
    COUNTED,
    PERCENTILES,
    QUANTILES,
    Standing,
    Told,
    dated,
    deliveries,
    others,
    recoveries,
)

TOGETHER = 50
"""Flows asked about in one question."""

routes = APIRouter(prefix="/v1/slos", tags=["slos"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def list_slos(request: Request, cursor: Cursor = "", limit: Limit = 100) -> shapes.Page[shapes.Slo]:
    """Every objective and how it stands: its budget, how fast that burns, and since when something is wrong."""
    service = service_of(request)
    specs = {name: known.spec for name, known in sorted(service.specs.known().items())}
    promised = (f"{flow} {name}" for flow, spec in specs.items() for name in named(spec))
    keys = list(islice((key for key in promised if key > cursor), limit + 1))
    page, more = keys[:limit], len(keys) > limit
    flows = [specs[flow] for flow in dict.fromkeys(key.split()[0] for key in page)]
    found = {f"{one.flow} {one.objective}": one for one in standings(service, flows)}
    items = [_shape(found[key], service.clock()) for key in page]
    return shapes.Page(items=items, next=page[-1] if more else None)


@routes.get(
    "/report",
    response_model=shapes.SloReport,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
def get_report(
    request: Request,
    flow: Annotated[str | None, Query(max_length=100)] = None,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    from_: Annotated[str, Query(alias="from")] = "-30d",
    to: str = "now",
    format: Literal["json", "markdown", "html"] = "json",
) -> Response:
    """How the objectives of a flow, or of all flows of an owner, were kept in a period."""
    service = service_of(request)
    now = service.clock()
    told = report(service, flow, owner, moment(from_, now, "from"), moment(to, now, "to"))
    if format == "json":
        return JSONResponse(finite(told.model_dump(mode="json")))
    text = markdown(told)
    if format == "markdown":
        return Response(text, media_type="text/markdown", headers={"X-Content-Type-Options": "nosniff"})
    return render(request, "report.html", title="Objectives", body=rendered(text))


def named(spec: FlowSpec) -> list[str]:
    """The objectives of a flow that are measured, by name, sorted."""
    found = []
    for name, promise in spec.objectives:
        if promise is None:
            continue
        if name in ("latency", "replication", "recovery"):
            some = PERCENTILES if name == "recovery" else QUANTILES
            found += [f"{name}_{q}" for q in some if getattr(promise, q) is not None]
        else:
            found.append(name)
    return sorted(found)


def standings(service: Service, specs: list[FlowSpec]) -> Iterator[Standing]:
    """How every objective of these flows stands now."""
    now = service.clock()
    for one in deliveries(service.store, specs, now, some=True):
        yield dated(service.store, one, now)
    for start in range(0, len(specs), TOGETHER):
        some = specs[start : start + TOGETHER]
        for spec, found in zip(some, promised(service, some, now), strict=True):
            yield from found
            yield from recoveries(service.store, spec, now)


def promised(service: Service, specs: Sequence[FlowSpec], now: int) -> list[list[Standing]]:
    """How the objectives of each of these flows stand, but for delivery and recovery."""
    told = Told(service.store, [spec.flow for spec in specs], now)
    last = service.control.passes.last_finished()
    end = min(now, last.started_at if last else 0)
    coverages = service.store.coverages([spec for spec in specs if spec.objectives.coverage])
    found = []
    for spec in specs:
        promise, part = spec.objectives.coverage, None
        if promise:
            part = share_of(service, spec, coverages[spec.flow], now - promise.window, end)
        found.append(others(told, spec, part, now))
    return found


def _shape(one: Standing, now: int) -> shapes.Slo:
    counts: dict[str, int | None] = dict.fromkeys(COUNTED)
    if one.objective == "delivery":
        counts = {name: getattr(one, name) for name in COUNTED}
    return shapes.Slo(
        flow=one.flow,
        owner=one.owner,
        objective=one.objective,
        unit=one.unit,
        target=one.target,
        value=finite(one.value),
        window=say(one.window * SECOND) if one.window else "now",
        met=one.met,
        status=one.status.value,
        since=None if one.since is None else one.since * SECOND,
        **counts,
        ratio=one.value if one.objective == "delivery" else None,
        budget_left=finite(one.budget_left),
        burn_rates={say(window * SECOND): finite(rate) for window, rate in one.burn_rates.items()},
        as_of=now,
    )


def finite(value: object) -> object:
    """JSON knows no infinity: 1e308 stands for it."""
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(1e308, value)
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list) else value
