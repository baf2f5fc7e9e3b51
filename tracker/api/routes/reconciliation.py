"""The books of a flow held against each other."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import moment, span
from tracker.model.statement import SPOTS
from tracker.model.units import SECOND
from tracker.reconcile.books import MAX_WINDOWS, Reconciliation, reconcile

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

    `conserved`: in every window, produced + orphans = the sum over verdicts. At most 1,000 `blind_spots` are told;
    `spots_left` counts the others.
    """
    service = service_of(request)
    spec = service.specs.of(flow).spec
    now = service.clock()
    low, high = moment(start, now, "from"), moment(end, now, "to")
    width = span(step, "step") if step else finest(high - low)
    books = reconcile(service.store, service.control, spec, low, high, width)
    return shown(books)


def shown(books: Reconciliation) -> shapes.Reconciliation:
    """The books as they are told: of the blind spots the first `SPOTS`, and how many more there are."""
    first = msgspec.structs.replace(books, blind_spots=books.blind_spots[:SPOTS])
    more = {"spots_left": len(books.blind_spots) - len(first.blind_spots)}
    return shapes.Reconciliation.model_validate(first).model_copy(
        update=more if books.as_of else more | {"as_of": None}
    )


def finest(length: int) -> int:
    """The smallest multiple of `WINDOW` that cuts a span into at most as many windows as are shown, µs."""
    return WINDOW * max(1, -(-length // ((MAX_WINDOWS - 1) * WINDOW)))
