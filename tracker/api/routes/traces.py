"""OTLP traces over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp): spans about messages become events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from tracker.api.auth import allowed
from tracker.api.exports import Exports
from tracker.api.problem import Problem
from tracker.api.reading import body_of
from tracker.control.errors import ControlError
from tracker.control.tokens import Principal
from tracker.ingest.otlp import answer
from tracker.ingest.otlp.traces import media_type
from tracker.model.errors import TrackerError


def router(exports: Exports) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["ingest"])

    @routes.post("/v1/traces", response_class=Response)
    async def post_traces(
        request: Request,
        by: Annotated[Principal, Depends(allowed("ingest"))],
        content_type: Annotated[str, Header()] = "",
        content_encoding: Annotated[str, Header()] = "",
    ) -> Response:
        """Take an ExportTraceServiceRequest, protobuf or JSON; gzip or zstd. Answered when its events are durable.

        Spans that are not about messages are left out. `partial_success` counts the spans that match a flow and could
        not be taken: without a message id, or quarantined.
        """

        async def sent() -> tuple[bytes, str]:
            return await body_of(request), content_encoding

        kind = answer.PROTOBUF
        try:
            kind = media_type(content_type)
            taken = await exports.take(by, kind, sent)
        except (TrackerError, ControlError, Problem) as error:
            status, wait = exports.refused(error)
            headers = error.headers if isinstance(error, Problem) else {}
            headers |= {"Retry-After": str(wait)} if wait else {}
            return Response(answer.status(kind, status, str(error)), status, headers, kind)
        return Response(answer.response(kind, taken.rejected, taken.why), media_type=kind)

    return routes
