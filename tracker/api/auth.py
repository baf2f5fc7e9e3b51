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
        header = request.headers.get("authorization", "")
        # A cookie serves to look only, so no other site can make a browser write.
        if not header and request.method in ("GET", "HEAD") and request.cookies.get(COOKIE):
            header = f"Bearer {request.cookies[COOKIE]}"
        return known(service_of(request), header, scope)

    return caller


def known(service: Service, authorization: str, scope: str) -> Principal:
    """The caller who sent `Authorization: Bearer TOKEN`. Raises Unauthenticated or Forbidden. Blocks."""
    if service.insecure:
        return LOCAL
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthenticated("an access token is needed: send `Authorization: Bearer TOKEN` (tracker token create)")
    return service.control.tokens.verify(token.strip(), scope, service.clock())
