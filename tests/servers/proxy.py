"""A TCP proxy on loopback, between a client and a server: what a network does to them, on demand."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

CHUNK = 64 * 1024


class Proxy:
    """Listens on `port` (0: any) and forwards to `server` (host, port).

    `rate`: bytes per second and direction of each connection, 0 for no bound; `delay`: seconds that each chunk waits.
    Both may be changed at any time. `cut` ends what is connected, `gone` refuses everybody until `back`, `hold` leaves
    connections open and lets nothing pass until `go_on`, as a cable that is pulled.
    """

    def __init__(self, server: tuple[str, int], port: int = 0) -> None:
        self.rate, self.delay = 0, 0.0
        self.carried = 0
        """Bytes that came from the server."""
        self._server, self._mutex = server, threading.Lock()
        self._ends: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self.port = port
        self.back()

    @property
    def at(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection; new ones are taken at once."""
        with self._mutex:
            ends, self._ends = self._ends, set()
        for end in ends:
            with suppress(OSError):  # the other side was quicker
                end.shutdown(socket.SHUT_RDWR)

    def gone(self) -> None:
        """End every connection and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # a close alone waits for the thread that accepts
            listener.close()
        self.cut()

    def back(self) -> None:
        """Take connections (again), on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def hold(self) -> None:
        """Let nothing pass."""
        self._flowing.clear()

    def go_on(self) -> None:
        """Let what waited pass."""
        self._flowing.set()

    def close(self) -> None:
        """End everything."""
        self._flowing.set()
        self.gone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while listener is self._listener:
            with suppress(OSError):  # closed while waiting; the server is not there
                client, _ = listener.accept()
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=5)
        except OSError:
            client.close()
            raise
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._mutex:
            self._ends |= {client, server}
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, target, source is server), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, downwards: bool) -> None:
        """Forward until one side ends; each socket is closed by the thread that reads it."""
        with suppress(OSError):
            while content := source.recv(CHUNK if not self.rate else max(1, min(CHUNK, self.rate // 10))):
                pause = self.delay + (len(content) / self.rate if self.rate else 0.0)
                if pause:
                    time.sleep(pause)
                self._flowing.wait()
                self.carried += len(content) if downwards else 0
                target.sendall(content)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        with self._mutex:
            self._ends.discard(source)
        source.close()
