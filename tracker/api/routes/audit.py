"""Who did what to what, and why: the audit log, to look at and to take away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit, moment
from tracker.control.tokens import AUDIT
from tracker.model import audited, chain
from tracker.model.units import rfc3339

routes = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[Depends(allowed(AUDIT))])


class Entry(shapes.Shape):
    """One act. `subject` names what it was done to, as `replay/r-17`; `hash` covers all of it and `previous`."""

    number: int
    at: shapes.Instant
    who: str
    what: str
    why: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str


@routes.get("")
def list_entries(
    request: Request,
    subject: str | None = None,
    who: str | None = None,
    start: Annotated[str | None, Query(alias="from", description="RFC 3339, epoch, or -1h")] = None,
    end: Annotated[str | None, Query(alias="to", description="RFC 3339, epoch, or now")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> shapes.Page[Entry]:
    """Entries that match all that is given, oldest first."""
    service = service_of(request)
    now = service.clock()
    since, until = (None if at is None else moment(at, now, name) for at, name in ((start, "from"), (end, "to")))
    page = service.control.audit.entries(subject=subject, who=who, since=since, until=until, cursor=cursor, limit=limit)
    return shapes.Page(items=[Entry.model_validate(one) for one in page.items], next=page.cursor or None)


@routes.get("/export", response_class=StreamingResponse, responses={200: {"content": {"application/x-ndjson": {}}}})
def export(request: Request) -> StreamingResponse:
    """All of it as NDJSON, each entry chained to the one before, and last its head, signed as statements are: whoever
    has the public key verifies it without this tracker (`tracker audit verify FILE`)."""
    service = service_of(request)
    key, newest = service.signer.key(), service.control.audit.head()
    head = {
        "format": audited.FORMAT,
        "number": newest.number if newest else 0,
        "hash": newest.hash if newest else chain.ORIGIN,
        "key": key.id,
        "made_at": rfc3339(service.clock()),
    }
    sealed = {"head": head, "public_key": key.public, "signature": key.sign(head)}

    def lines() -> Iterator[str]:
        for line in service.control.audit.lines(newest.number if newest else 0):
            yield line + "\n"
        yield chain.canonical(sealed) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
