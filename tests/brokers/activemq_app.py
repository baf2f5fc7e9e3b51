"""An application's side of ActiveMQ: by stomp.py, as applications have it."""

from __future__ import annotations

import itertools
import queue
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import stomp
from stomp.utils import Frame

PATIENCE = 20.0


class App(stomp.ConnectionListener):  # type: ignore[misc] # no types of its own
    """A connection. `queue`: a queue of its own."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self.url, self.queue = url, f"{prefix}Q{uuid.uuid4().hex[:12]}"
        self.came: queue.Queue[Frame]
        self._receipts: queue.Queue[str] = queue.Queue()
        self._numbers = itertools.count()
        self.connect()

    def connect(self, **headers: str) -> None:
        """As a client that comes anew."""
        at, self.came = urlsplit(self.url), queue.Queue()
        self.client = self.made(stomp.Connection12([(at.hostname, at.port)], auto_decode=False))
        self.client.set_listener("app", self)
        self.client.connect(wait=True, headers=headers)

    def made(self, connection: Any) -> Any:
        """What the application uses; for those that wrap it."""
        return connection

    def on_message(self, frame: Frame) -> None:
        """For `take`."""
        self.came.put(frame)

    def on_receipt(self, frame: Frame) -> None:
        """What was asked for is done."""
        self._receipts.put(frame.headers["receipt-id"])

    def _receipt(self) -> str:
        self._last = f"r{next(self._numbers)}"
        return self._last

    def _sure(self) -> None:
        while self._receipts.get(timeout=PATIENCE) != self._last:
            pass

    def put(self, ids: Sequence[str], value: bytes = b"{}", to: str = "", **headers: str) -> None:
        """Send; the last one's receipt says that all were taken."""
        for number, one in enumerate(ids):
            last = {"receipt": self._receipt()} if number == len(ids) - 1 else {}
            self.client.send(to or f"/queue/{self.queue}", value, headers={"x-message-id": one, **headers, **last})
        self._sure()

    def consume(self, to: str = "", prefetch: int = 100, name: str = "", **headers: str) -> None:
        """Returns when it is subscribed; each message is to be acked by itself. `name`: of a durable subscription."""
        if name:
            headers["activemq.subscriptionName"] = name
        self.client.subscribe(
            to or f"/queue/{self.queue}", "1", "client-individual",
            headers={"activemq.prefetchSize": str(prefetch), "receipt": self._receipt(), **headers},
        )  # fmt: skip
        self._sure()

    def take(self, count: int) -> list[Frame]:
        """So many."""
        return [self.came.get(timeout=PATIENCE) for _ in range(count)]

    def ack(self, *frames: Frame) -> None:
        """Returns when the broker has it."""
        for frame in frames:
            self.client.ack(frame.headers["ack"], receipt=self._receipt())
            self._sure()

    def nack(self, frame: Frame) -> None:
        """As `ack`: the broker makes a dead letter of it."""
        self.client.nack(frame.headers["ack"], receipt=self._receipt())
        self._sure()

    def browse(self) -> list[str]:
        """What is in the queue: the broker's ids."""
        with app(self.url) as other:
            other.client.subscribe(f"/queue/{self.queue}", "1", "auto", headers={"browser": "true"})
            found = []
            while (frame := other.came.get(timeout=PATIENCE)).headers.get("browser") != "end":
                found.append(frame.headers["message-id"])
            return found

    def close(self) -> None:
        """Go away, without a word."""
        self.client.transport.disconnect_socket()
        until = time.monotonic() + PATIENCE
        while self.client.transport.io_thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)


@contextmanager
def app(url: str, prefix: str = "") -> Iterator[App]:
    """Gone afterwards."""
    made = App(url, prefix)
    try:
        yield made
    finally:
        made.close()
