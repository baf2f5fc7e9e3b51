"""Who calls and what they may do: bearer tokens with scopes, or nobody asked, on loopback with `--insecure`."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from tracker.api.service import Service
from tracker.control.errors import Unauthenticated
from tracker.control.tokens import ADMIN, Principal

COOKIE = "tracker_token"
"""The console keeps the token here: browsers cannot send a header by themselves."""
LOCAL = Principal("local", "local", frozenset({ADMIN}))
"""Who calls where nobody is asked."""


def service_of(request: Request) -> Service:
    """The service that the app was made for."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def allowed(scope: str) -> Callable[[Request], Principal]:
    """A dependency: the caller, who has `scope`. Raises Unauthenticated or Forbidden. Blocks: runs in a thread."""

    def caller(request: Request) -> Principal:
        service = service_of(request)
        if service.insecure:
            return LOCAL
        return service.control.tokens.verify(_token(request), scope, service.clock())

    return caller


def _token(request: Request) -> str:
    """From `Authorization: Bearer ...`; a cookie serves to look only, so no other site can make a browser write."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    if not kind and request.method in ("GET", "HEAD") and request.cookies.get(COOKIE):
        return request.cookies[COOKIE]
    raise Unauthenticated("an access token is needed: send `Authorization: Bearer TOKEN` (tracker token create)")
