"""What could not be used: listed, and sent through the way in again once the cause was mended."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Limit, moment
from tracker.api.service import Service
from tracker.control.errors import Invalid
from tracker.control.tokens import Principal
from tracker.ingest.batch import Batch
from tracker.ingest.resubmit import again
from tracker.store.quarantine import Place, Which

LINES = 2000
"""So many lines are sent again by one call, about 8 MB."""


class Chosen(BaseModel):
    """Which lines are sent again. With `dry_run` nothing is stored."""

    model_config = ConfigDict(extra="forbid")

    flow: str = ""
    source: str = ""
    field: str = ""
    since: str = Field("0", description="received from then on: RFC 3339, epoch, or -1h")
    until: str = Field("now", description="received before: RFC 3339, epoch, or now")
    after: str = Field("", max_length=600, description="`next` of the call before")
    dry_run: bool = False


class Resubmitted(shapes.Shape):
    """`accepted` lines are events now and left the quarantine; `refused` ones stay, with what is wrong now. `next`
    asks for the lines after these (`after`); null when there are none."""

    accepted: int
    refused: list[shapes.Quarantined]
    next: str | None
    dry_run: bool


def router(count: Callable[[Service, Batch], None]) -> APIRouter:
    """The routes; `count` is told of each batch that was stored."""
    routes = APIRouter(tags=["ingest"])

    @routes.get("/v1/quarantine", dependencies=[Depends(allowed("read"))])
    def quarantine(
        request: Request,
        flow: str = "",
        source: str = "",
        field: str = "",
        since: str = "0",
        until: str = "now",
        cursor: Annotated[str, Query(max_length=600)] = "",
        limit: Limit = 100,
    ) -> shapes.Page[shapes.Quarantined]:
        """Lines that could not be used and were not taken since, oldest first."""
        service = service_of(request)
        rows = service.store.quarantined(_place(cursor), limit, _which(service, flow, source, field, since, until))
        return shapes.Page(items=[_shown(row) for row in rows], next=_next(rows, limit))

    @routes.post("/v1/quarantine/resubmit")
    def resubmit(request: Request, chosen: Chosen, by: Annotated[Principal, Depends(allowed("admin"))]) -> Resubmitted:
        """Send lines through the way in again. What is taken is listed no more; the rest stays where it is.

        About 2,000 lines a call; `next` says where to go on. A crash in between lets a line be sent again, which counts
        nothing twice.
        """
        service = service_of(request)
        which = _which(service, chosen.flow, chosen.source, chosen.field, chosen.since, chosen.until)
        rows = service.store.quarantined(_place(chosen.after), LINES, which)
        found = again(rows, service.intake, by.name, service.clock())
        if found.taken and not chosen.dry_run:
            # Before the deed, which has no transaction in common with it.
            detail = {"flow": chosen.flow, "source": chosen.source, "field": chosen.field, "lines": len(found.taken)}
            service.control.audit.append(service.clock(), by.name, "resubmit", "quarantine", detail=detail)
            service.intake.submit(found.batch).result()
            count(service, found.batch)
            service.store.mark_resubmitted([_where(line) for line in found.taken], service.clock())
        return Resubmitted(
            accepted=len(found.taken),
            refused=[_shown(line) for line in found.refused],
            next=_next(rows, LINES),
            dry_run=chosen.dry_run,
        )

    return routes


def _which(service: Service, flow: str, source: str, field: str, since: str, until: str) -> Which:
    now = service.clock()
    return Which(flow, source, field, moment(since, now, "since"), moment(until, now, "until") + (until == "now"))


def _where(row: Any) -> Place:
    return row["received"], row["source"], row["line"]


def _shown(row: Any) -> shapes.Quarantined:
    return shapes.Quarantined(received_at=row["received"], **{k: v for k, v in row.items() if k != "received"})


def _next(rows: list[dict[str, Any]], limit: int) -> str | None:
    """The cursor behind these rows; None when they were all."""
    if len(rows) < limit:
        return None
    received, source, line = _where(rows[-1])
    return f"{received}-{line}-{source}"


def _place(cursor: str) -> Place:
    """The line behind which a page begins."""
    if not cursor:
        return 0, "", 0
    found = re.fullmatch(r"(\d{1,18})-(\d{1,9})-(.*)", cursor, re.DOTALL)
    if not found:
        raise Invalid(f"{cursor!r} is not a cursor of this list; leave it out to start from the beginning")
    return int(found[1]), found[3], int(found[2])
