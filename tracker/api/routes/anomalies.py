"""What is not as usual."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit
from tracker.api.unusual import Unusual, unusual

routes = APIRouter(prefix="/v1/anomalies", tags=["findings"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def list_anomalies(
    request: Request,
    flow: str | None = None,
    hop: Annotated[str | None, Query(description="empty: of whole flows")] = None,
    signal: Literal["volume", "latency", "loss", "duplicates", "coverage"] | None = None,
    open_: Annotated[bool | None, Query(alias="open", description="true: that last; false: that are over")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> shapes.Page[Unusual]:
    """Anomalies that match all that is given, the newest first: what was expected, what came, since when."""
    store = service_of(request).store
    found = store.anomalies(flow, hop, signal, open_, cursor or None, limit)
    following = store.anomaly_cursor(found[-1]) if len(found) == limit else None
    return shapes.Page(items=[unusual(one) for one in found], next=following)
