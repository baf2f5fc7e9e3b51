"""The way in: batches of events, and coverage reports."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.responses import JSONResponse

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.gate import Gate
from tracker.api.problem import Problem, turned_away
from tracker.api.reading import body_of
from tracker.api.routes import quarantine
from tracker.api.service import Service
from tracker.control.errors import ControlError
from tracker.control.tokens import Principal
from tracker.ingest.batch import Accepted, Batch
from tracker.model.errors import TrackerError
from tracker.slo.metrics import EVENTS, QUARANTINED, REPORTS


def router(gate: Gate) -> APIRouter:
    """The routes, sharing one gate."""
    routes = APIRouter(tags=["ingest"])

    @routes.post("/v1/events", response_model=shapes.Taken, responses={207: {"model": shapes.Taken}})
    async def post_events(
        request: Request,
        by: Annotated[Principal, Depends(allowed("ingest"))],
        content_type: Annotated[str, Header()] = "",
        content_encoding: Annotated[str, Header()] = "",
        tracker_coverage: Annotated[str, Header(description="a coverage report, JSON")] = "",
    ) -> Response:
        """Store a batch: NDJSON, or a JSON array; gzip or zstd. Answered when its events are durable.

        200: all were stored. 207: some lines are bad; they are in quarantine and listed, all others are stored.
        """
        service = service_of(request)
        try:
            async with gate.slot(by.id, by.rates):
                now = service.clock()  # before the body: a report is dated by it, and a slow upload must not move that
                body = await body_of(request)
                gate.charge(by.id, size=len(body))
                header = tracker_coverage.encode("latin-1").decode("utf-8", "replace")
                arguments = (body, content_type, content_encoding, header, by.name, now)
                batch = await gate.decode(by.id, service.intake.prepare, *arguments)
                gate.charge(by.id, events=batch.answer.accepted + batch.answer.quarantined)
                answer = await durable(service, batch)
        except (TrackerError, ControlError, Problem) as error:
            turned_away(service.metrics, error)
            raise
        count(service, batch)
        shown = shapes.Taken.model_validate(answer)
        return JSONResponse(shown.model_dump(), 207 if answer.errors else 200)

    @routes.post("/v1/coverage")
    async def post_coverage(
        request: Request,
        by: Annotated[Principal, Depends(allowed("ingest"))],
        content_encoding: Annotated[str, Header()] = "",
    ) -> shapes.Taken:
        """Store a coverage report alone, which is a collector's heartbeat too."""
        service = service_of(request)
        now = service.clock()
        try:
            arguments = (await body_of(request), content_encoding, now)  # a report may be inflated to megabytes
            batch = await gate.decode(by.id, service.intake.report, *arguments)
            answer = await durable(service, batch)
        except (TrackerError, ControlError, Problem) as error:
            turned_away(service.metrics, error)
            raise
        service.metrics.count(REPORTS)
        return shapes.Taken.model_validate(answer)

    routes.include_router(quarantine.router(count))
    return routes


async def durable(service: Service, batch: Batch) -> Accepted:
    """The answer, when the batch's rows are durable. Raises what the store raised."""
    return await asyncio.wrap_future(service.intake.submit(batch))


def count(service: Service, batch: Batch) -> None:
    """Into the metrics."""
    for table in (batch.events, batch.ranges):
        for entry in pc.value_counts(table["flow"]).to_pylist():
            service.metrics.count(EVENTS, entry["counts"], entry["values"])
    service.metrics.count(QUARANTINED, batch.quarantine.num_rows)
    service.metrics.count(REPORTS, batch.reports.num_rows)
