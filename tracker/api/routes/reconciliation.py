"""The books of a flow held against each other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import moment, span
from tracker.model.units import SECOND
from tracker.reconcile.books import MAX_WINDOWS, reconcile

routes = APIRouter(prefix="/v1/flows/{flow}/reconciliation", tags=["messages"], dependencies=[Depends(allowed("read"))])

WINDOW = 10 * SECOND
"""The finest slice in which counts are shown unless asked otherwise."""


@routes.get("")
def get_reconciliation(
    request: Request,
    flow: str,
    start: Annotated[str, Query(alias="from", description="RFC 3339, epoch, or -1h")] = "-1h",
    end: Annotated[str, Query(alias="to", description="RFC 3339, epoch, or now")] = "now",
    step: Annotated[str | None, Query(description="width of a window: 10s, 1m; by default as fine as fits")] = None,
) -> shapes.Reconciliation:
    """Counts per verdict and window over the messages created in [from, to); at most 1,000 windows.

    `conserved`: in every window, produced + orphans = the sum over verdicts.
    """
    service = service_of(request)
    spec = service.specs.of(flow).spec
    now = service.clock()
    low, high = moment(start, now, "from"), moment(end, now, "to")
    width = span(step, "step") if step else finest(high - low)
    books = reconcile(service.store, service.control, spec, low, high, width)
    shown = shapes.Reconciliation.model_validate(books)
    return shown if books.as_of else shown.model_copy(update={"as_of": None})


def finest(length: int) -> int:
    """The smallest multiple of `WINDOW` that cuts a span into at most as many windows as are shown, µs."""
    return WINDOW * max(1, -(-length // ((MAX_WINDOWS - 1) * WINDOW)))
