"""What is vouched for, by whom."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Limit
from tracker.control.errors import Invalid

routes = APIRouter(prefix="/v1/coverage", tags=["coverage"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def get_coverage(
    request: Request,
    flow: str | None = None,
    hop: str | None = None,
    stage: str | None = None,
    cursor: Annotated[str, Query(max_length=20)] = "",
    limit: Limit = 100,
) -> shapes.Page[shapes.CoverageRow]:
    """Stretches that collectors vouch for, as of the last pass; newest first. A hole between two is a blind spot."""
    service = service_of(request)
    if flow:
        service.specs.of(flow)
    if cursor and not cursor.isdigit():
        raise Invalid(f"{cursor!r} is not a cursor of this list; leave it out to start from the beginning")
    runs = [
        run
        for run in service.store.runs(*([flow] if flow else []))
        if hop in (None, run.hop) and stage in (None, run.stage)
    ]
    runs.sort(key=lambda run: (-run.start, run.flow, run.hop, run.stage, run.source, run.collector))
    first = int(cursor or 0)
    rows = [
        shapes.CoverageRow(
            flow=run.flow,
            hop=run.hop,
            stage=run.stage,
            source=run.source,
            evidence=run.evidence,
            collector=run.collector,
            start=run.start,
            end=run.end,
            closed=run.signed_off,
        )
        for run in runs[first : first + limit]
    ]
    return shapes.Page(items=rows, next=str(first + limit) if len(runs) > first + limit else None)
