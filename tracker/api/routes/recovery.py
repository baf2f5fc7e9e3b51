"""How soon what was missing was found and back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from tracker.api import recovered
from tracker.api.auth import allowed, service_of
from tracker.api.reading import moment, span
from tracker.api.recovery import recovery

routes = APIRouter(prefix="/v1/recovery", tags=["findings"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def get_recovery(
    request: Request,
    flow: str = "",
    kind: str = "",
    start: Annotated[str, Query(alias="from", description="RFC 3339, epoch, or -30d")] = "-30d",
    end: Annotated[str, Query(alias="to", description="RFC 3339, epoch, or now")] = "now",
    step: Annotated[str, Query(description="of the trend, from `from` on")] = "1d",
) -> recovered.Recovery:
    """Times to detect, to act and to recover of what was found in [from, to): by flow and kind, by flow with what was
    promised, and step by step."""
    service = service_of(request)
    now = service.clock()
    return recovery(service, moment(start, now, "from"), moment(end, now, "to"), span(step, "step"), flow, kind)
