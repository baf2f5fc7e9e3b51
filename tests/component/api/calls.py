"""A blocking gRPC client of an app's receiver, which listens on a port of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from tests.component.api.talk import Client
from tracker.api.rpc import EXPORT, Receiver
from tracker.api.service import Limits

PATIENCE = 30.0


class Caller:
    """Starts the receiver on the client's event loop. Close it."""

    def __init__(self, client: Client, limits: Limits, port: int = 0) -> None:
        self.client, self.limits = client, limits
        self._receiver = Receiver(client.app.state.exports, f"127.0.0.1:{port}")
        self.port = client.portal.call(self._receiver.start)
        sending = [("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=sending)

    def call(self, method: str = EXPORT) -> Any:
        """The method, bytes to bytes."""
        return self._channel.unary_unary(method)

    def export(self, sent: bytes, compression: Any = None, metadata: Any = None) -> bytes:
        """The answer. Raises grpc.RpcError."""
        answered: bytes = self.call()(sent, timeout=PATIENCE, compression=compression, metadata=metadata)
        return answered

    @contextmanager
    def begun(self) -> Iterator[Callable[[], bytes]]:
        """A call of which nothing comes but its headers; calling what is given waits for the answer."""
        ended = threading.Event()

        def nothing() -> Iterator[bytes]:
            ended.wait()
            yield from ()

        method: Any = self._channel.stream_unary(EXPORT)
        call = method.future(nothing(), timeout=PATIENCE)
        try:
            yield call.result
        finally:
            call.cancel()
            ended.set()

    def until(self, look: Callable[[], bool]) -> None:
        """Returns when it is so."""
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """End the receiver as the service does."""
        self.client.portal.call(self._receiver.stop, PATIENCE)

    def close(self) -> None:
        """End the receiver at once."""
        self._channel.close()
        self.client.portal.call(self._receiver.stop, 0)
