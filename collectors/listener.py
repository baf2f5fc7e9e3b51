"""A very small HTTP server for probes and scrapes: GET of known paths, no body, one answer per connection.

What a stranger can take of it is bounded: so many threads, each busy with one connection for so long at most, and so
many bytes of a request. Nobody is asked who he is; what is shown is names, states and counts.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

from collectors.errors import ConfigInvalid
from collectors.logs import logger

THREADS = 3
PATIENCE = 5.0
"""Seconds that one request, and one answer, may take."""
LONGEST = 8 * 1024
"""Bytes of a request."""
WAITING = 16
"""Connections that the system keeps while all threads are busy."""
_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """`kind`: the media type of the body."""

    status: HTTPStatus
    kind: str
    body: bytes


Page = Callable[[], Answer]


def words(status: HTTPStatus, text: str) -> Answer:
    """An answer of one line."""
    return Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())


class Listener:
    """Serves `pages` (path -> page) at `address`, `host:port`, until `close`; port 0 takes a free one. Raises
    `ConfigInvalid` when it cannot."""

    def __init__(self, address: str, pages: Mapping[str, Page]) -> None:
        self.address, self._pages = address, pages
        host, _, port = address.rpartition(":")
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=WAITING)
        except OSError as error:
            raise ConfigInvalid(f"listen: {address} cannot be taken: {error.strerror or error}") from error
        self.port = int(self._socket.getsockname()[1])
        self._log = logger("collectors.listener")
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"listener {n}", daemon=True) for n in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take no more connections; answers under way are finished."""
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes those who wait for a connection
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed; or who asked went away again, or no file descriptor is left
                self._closing.wait(0.1)
                continue
            with connection, suppress(OSError):  # who asked went away, or was too slow
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        answer = self._page(_request(connection))
        connection.settimeout(PATIENCE)  # of the whole `sendall`
        head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.kind}\r\n"
        head += f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n"
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            head += "Allow: GET\r\n"
        connection.sendall(f"{head}\r\n".encode() + answer.body)

    def _page(self, request: bytes) -> Answer:
        first = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if not request.endswith(_END) or len(first) != 3 or not first[2].startswith("HTTP/1."):
            return words(HTTPStatus.BAD_REQUEST, "no request that is understood here")
        if first[0] != "GET":
            return words(HTTPStatus.METHOD_NOT_ALLOWED, "GET only")
        page = self._pages.get(first[1].partition("?")[0])
        if page is None:
            return words(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._pages)}")
        try:
            return page()
        except Exception:  # noqa: BLE001 - the top of a thread that must go on; the error is logged
            self._log.exception("page failed", path=first[1])
            return words(HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of ours; the log says more")


def _request(connection: socket.socket) -> bytes:
    """All up to the empty line, what came so far when that is too long or ends. A body is not read. Raises `OSError`
    when it takes too long."""
    until = time.monotonic() + PATIENCE
    said = b""
    while _END not in said and len(said) < LONGEST:
        connection.settimeout(max(0.001, until - time.monotonic()))
        more = connection.recv(LONGEST)
        if not more:
            break
        said += more
    return said.partition(_END)[0] + _END if _END in said else said
