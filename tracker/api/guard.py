"""What stands before the routes: bounds on headers and body, other people's web pages, the count of requests,
and the clock by which others measure theirs.

Plain ASGI, because it must see bytes as they come and must not hold a body back.
"""

from __future__ import annotations

import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.api.loopback import loopback
from tracker.api.problem import answer
from tracker.api.service import Service
from tracker.model.clock import ANSWER_HEADER
from tracker.slo.metrics import REQUEST_SECONDS, REQUESTS

log = structlog.get_logger()


class Guard:
    """Wraps an app; requests beyond the bounds never reach it."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        received = self.service.clock()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # Whoever asked can measure its clock by this, whatever the answer is (tracker.model.clock).
                MutableHeaders(scope=message)[ANSWER_HEADER] = f"{received} {self.service.clock()}"
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal:
                await answer(*refusal)(scope, receive, counted)
            else:
                await self.app(scope, receive, counted)
        finally:
            self._count(scope, status, time.monotonic() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        """By route, never by path: what a client invents must not become a label."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"
        self.service.metrics.count(REQUESTS, 1, method, route, str(status))
        self.service.metrics.observe(REQUEST_SECONDS, seconds, route)
        log.debug("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, or None when the request may go on."""
        limits, headers = self.service.limits, Headers(scope=scope)
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > limits.headers:
            return 431, f"the headers have {size} bytes; at most {limits.headers} are read"
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > limits.body:
            return 413, f"the body has {length} bytes; at most {limits.body} are read: send smaller batches"
        if self.service.insecure and not _local(headers):
            return (
                403,
                "without tokens only this machine's own pages and programs are answered; start with tokens instead",
            )
        return None


def _local(headers: Headers) -> bool:
    """Nobody is asked for a token here, so a web page elsewhere must not use a browser on this machine: neither by
    sending from its own origin, nor under a name of its own that it makes point to 127.0.0.1."""
    host = headers.get("host", "localhost")
    origin = headers.get("origin")
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        return False
    return loopback(_name(host)) and (origin is None or origin.partition("://")[2] == host)


def _name(host: str) -> str:
    """`[::1]:8000` -> `::1`, `localhost:8000` -> `localhost`."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
