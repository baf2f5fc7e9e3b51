"""Connections of clients that are slow, on purpose or not: what the HTTP server leaves open for ever is closed here.

A client gets so many seconds to send its headers, from the moment it connects, and to take what was written to it. The
body's time is watched where it is read (`tracker.api.reading`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tracker.api.problem import answer

log = structlog.get_logger()

CONNECTIONS = 1000
"""Open at once; beyond that requests are answered 503."""
HEAD = 1 << 20
"""Bytes of headers that are kept while they come, in any case; the guard has a stricter bound for what came."""


class Connection(HttpToolsProtocol):
    """One connection of the server. `patience`: seconds for the headers, and for taking an answer."""

    patience = 30.0
    most = CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._usual = self.app
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0
        self._busy = False
        """From the end of a request's headers until it is answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts."""
        super().connection_made(transport)
        self._expect("did not send a request")

    def data_received(self, data: bytes) -> None:
        """Headers are bounded while they come: nobody else looks before they are complete."""
        self._head += len(data)
        super().data_received(data)
        if not self._busy:  # no request yet, or not the next one
            if self._timer is None:
                self._expect("did not finish its headers")
            if self._head > HEAD:
                self._give_up("sent headers without end")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """The request is known; it is answered, if only by 503."""
        self._at_ease()
        self._busy = True
        self.app = _crowded if len(self.connections) > self.most else self._usual
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """What comes now belongs to the next request, unless that came already."""
        super().on_response_complete()
        self._busy = not self.cycle.response_complete

    def pause_writing(self) -> None:
        """The client does not take what was written."""
        super().pause_writing()
        self._expect("did not take its answer")

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._at_ease()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._at_ease()
        super().connection_lost(exc)

    def _expect(self, otherwise: str) -> None:
        self._at_ease()
        self._timer = self.loop.call_later(self.patience, self._give_up, otherwise)

    def _at_ease(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, why: str) -> None:
        log.info("connection_closed", client=self.client, reason=f"the client {why} within {self.patience:g} s")
        self.transport.abort()


def connection(seconds: float) -> type[Connection]:
    """Connections with this patience."""
    return type("PatientConnection", (Connection,), {"patience": seconds})


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"{CONNECTIONS} connections are open, as many as this tracker serves; come back in a moment"
    await answer(503, detail, {"Connection": "close"})(scope, receive, send)
