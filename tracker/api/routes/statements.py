"""What became of a flow's messages in a span, signed and chained: for whoever has no reason to trust us."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from tracker.api import declared, shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit, moment, once
from tracker.control import Books
from tracker.control.idempotency import Answer
from tracker.control.tokens import Principal
from tracker.model.units import rfc3339
from tracker.reconcile.statement import exceptions, statement
from tracker.store.exceptions import row_cursor

routes = APIRouter(prefix="/v1", tags=["statements"])
Start = Annotated[str, Query(alias="from", description="RFC 3339, epoch, or -1h")]
End = Annotated[str, Query(alias="to", description="RFC 3339, epoch, or now")]


@routes.post("/flows/{flow}/statements", status_code=201, response_model=declared.Statement)
def post_statement(
    request: Request, flow: str, span: declared.Span, by: Annotated[Principal, Depends(allowed("replay"))]
) -> Response:
    """Sign what the last pass knows of the messages created in [from, to), as the next statement of this flow.

    The caller chooses the span and nothing else. A statement cannot be taken back; it says itself whether anything of
    its span is still open (`settled`).
    """
    service = service_of(request)
    spec = service.specs.of(flow).spec
    now = service.clock()
    start, end = moment(span.start, now, "from"), moment(span.end, now, "to")
    key = service.signer.key()
    said = statement(service.store, service.control, spec, start, end)
    said |= {"key": key.id, "made_at": rfc3339(now), "made_by": by.name}

    def work(books: Books) -> Answer:
        kept = books.statements.append(
            flow, said, (start, end), now, by.name, lambda body: {"public_key": key.public, "signature": key.sign(body)}
        )
        books.audit.append(now, by.name, "state", f"flow/{flow}", "", {"number": kept.number, "hash": kept.hash})
        return Answer(201, kept.document)

    return once(request, by, span.model_dump_json().encode(), work)


@routes.get("/flows/{flow}/statements", dependencies=[Depends(allowed("read"))])
def list_statements(
    request: Request, flow: str, cursor: Cursor = "", limit: Limit = 100
) -> shapes.Page[declared.StatementLink]:
    """The chain of a flow's statements, newest first; each by its number is below."""
    service = service_of(request)
    page = service.control.statements.page(flow, cursor, limit)
    if not page.items:
        service.specs.of(flow)
    items = [declared.StatementLink.model_validate(link) for link in page.items]
    return shapes.Page(items=items, next=page.cursor or None)


@routes.get(
    "/flows/{flow}/statements/{number}", dependencies=[Depends(allowed("read"))], response_model=declared.Statement
)
def get_statement(request: Request, flow: str, number: int) -> Response:
    """One statement, byte for byte as it was made."""
    kept = service_of(request).control.statements.get(flow, number)
    return Response(kept.document, media_type="application/json")


@routes.get("/flows/{flow}/exceptions", dependencies=[Depends(allowed("read"))])
def list_exceptions(
    request: Request, flow: str, start: Start = "-1h", end: End = "now", cursor: Cursor = "", limit: Limit = 100
) -> declared.Exceptions:
    """Every message created in [from, to) that is not delivered or had a finding, as a statement lists them, by id."""
    service = service_of(request)
    spec, now = service.specs.of(flow).spec, service.clock()
    low, high = moment(start, now, "from"), moment(end, now, "to")
    number, rows = exceptions(service.store, service.control, spec.flow, low, high, cursor, limit)
    items = [declared.Exceptional(**row) for row in rows]
    return declared.Exceptions(number=number, items=items, next=row_cursor(rows[-1]) if len(rows) == limit else None)


@routes.get("/statements/key", dependencies=[Depends(allowed("read"))])
def get_key(request: Request) -> declared.StatementKey:
    """The public key that statements are signed with. Keep it apart from the statements."""
    key = service_of(request).signer.key()
    return declared.StatementKey(key=key.id, algorithm="Ed25519", public_key=key.public)
