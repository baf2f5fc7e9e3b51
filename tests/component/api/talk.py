"""A blocking client of an ASGI app, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI


class Client:
    """Keeps cookies; an exception of the app is answered as its server would answer it. Close it."""

    def __init__(self, app: FastAPI, base_url: str = "http://127.0.0.1:8000") -> None:
        self.app = app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url=base_url)
        self._starting: AbstractContextManager[BlockingPortal] = start_blocking_portal()
        self.portal = self._starting.__enter__()

    def request(self, method: str, path: str, content: Any = None, **options: Any) -> httpx.Response:
        """One request; `content` may be an iterable of bytes, which has no length."""
        if content is not None and not isinstance(content, bytes | str):
            content = _later(content)
        return self.portal.call(partial(self._http.request, method, path, content=content, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        """PUT."""
        return self.request("PUT", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE."""
        return self.request("DELETE", path, **options)

    def close(self) -> None:
        """End its event loop."""
        self.portal.call(self._http.aclose)
        self._starting.__exit__(None, None, None)


async def _later(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
