"""Reading what requests say: bodies within bounds, times, spans, cursors."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from tracker.api.auth import service_of
from tracker.api.problem import Problem
from tracker.control import Books
from tracker.control.errors import Invalid
from tracker.control.idempotency import Answer
from tracker.control.tokens import Principal
from tracker.model.units import SECOND, duration, instant

KEEP_ANSWERS = 86_400 * SECOND
"""How long an idempotency key is remembered: a day."""

Limit = Annotated[int, Query(ge=1, le=1000, description="at most this many items")]
Cursor = Annotated[str, Query(max_length=2048, description="`next` of the page before")]


async def body_of(request: Request) -> bytes:
    """The whole body. Raises Problem: 413 beyond the bound, 408 when it comes too slowly, 400 when it breaks off."""
    limits = service_of(request).limits
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.read_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body:
                    raise Problem(413, f"the body has more than {limits.body} bytes: send smaller batches")
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not come within {limits.read_seconds:g} s; nothing of it was stored"
        raise Problem(408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "the connection broke off in mid-body") from None
    return b"".join(parts)


def moment(text: str, now: int, name: str) -> int:
    """A time in a query, µs: RFC 3339, epoch, `now`, or a span before now as `-15m`. Raises Invalid naming `name`."""
    try:
        if text == "now":
            return now
        return now - duration(text[1:]) if text.startswith("-") else instant(text)
    except ValueError as error:
        raise Invalid(f"{name}: {error}; or -15m for that long before now") from None


def span(text: str, name: str) -> int:
    """A duration in a query, µs. Raises Invalid naming `name`."""
    try:
        return duration(text)
    except ValueError as error:
        raise Invalid(f"{name}: {error}") from None


def once(request: Request, by: Principal, body: bytes, work: Callable[[Books], Answer]) -> Response:
    """Do `work` in one transaction. With an `Idempotency-Key` it is done once, and asked again it is answered the
    same; the key with another request is a Conflict. Blocks."""
    service = service_of(request)
    key = key_of(request)
    digest = digest_of(request, body)
    with service.control.transaction() as books:
        found = books.idempotency.recall(key, by.id, digest, service.clock()) if key else None
        if found is None:
            found = work(books)
            if key:
                books.idempotency.remember(key, by.id, digest, found, service.clock(), KEEP_ANSWERS)
    return replied(found)


def once_apart(request: Request, by: Principal, body: bytes, work: Callable[[], Answer]) -> Response:
    """As `once`, for work that has transactions of its own: a crash between it and the remembering lets it be done
    again under the same key, so it must not matter when it is. Blocks."""
    service = service_of(request)
    key, digest = key_of(request), digest_of(request, body)
    found = service.control.idempotency.recall(key, by.id, digest, service.clock()) if key else None
    if found is None:
        found = work()
        if key:
            service.control.idempotency.remember(key, by.id, digest, found, service.clock(), KEEP_ANSWERS)
    return replied(found)


def key_of(request: Request) -> str:
    """The idempotency key, or an empty text. Raises Invalid for one that is too long."""
    key = request.headers.get("idempotency-key", "")
    if len(key) > 255:
        raise Invalid("the Idempotency-Key has more than 255 characters")
    return key


def digest_of(request: Request, body: bytes) -> str:
    """What makes two requests the same: method, path, query and body."""
    head = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(head + body).hexdigest()


def replied(kept: Answer) -> Response:
    """An answer as kept, sent."""
    if kept.status == 204:
        return Response(status_code=204)
    return Response(kept.response, kept.status, media_type=JSONResponse.media_type)
