"""Since when the records are that wait in a collector's own queue, for its next life: a canary that was read is gone
from there, and who comes back after a SIGKILL finds records that no canary stands before.

A queue of one message, the newest marker: everything that is still in the collector's queue came after it. An older
marker says less and nothing wrong, so losing one does no harm, and nobody waits for a confirm.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pika


class Marked(msgspec.Struct, frozen=True):
    """The message. `since` in epoch microseconds."""

    since: int


class Marker:
    """Declares the queue `name`, and an exchange of that name that fills it, on a channel of the collector's. Raises
    what pika raises."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel, self._name = channel, name
        channel.exchange_declare(name, "fanout", durable=True)
        arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-delivery-limit": 1_000_000}
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.queue_bind(name, name, "")
        self.since = self._read()
        """Epoch microseconds; 0: nothing was kept."""

    def keep(self, since: int) -> None:
        """Nothing that waits is older than this (0: not known)."""
        if since and since != self.since:
            about = pika.BasicProperties(delivery_mode=2)
            self._channel.basic_publish(self._name, "", msgspec.json.encode(Marked(since)), about)
            self.since = since

    def _read(self) -> int:
        """It is given back: a collector that stands by reads it, too."""
        method, _, body = self._channel.basic_get(self._name)
        if method is None:
            return 0
        self._channel.basic_nack(method.delivery_tag, requeue=True)
        try:
            return msgspec.json.decode(body, type=Marked).since
        except msgspec.MsgspecError:  # somebody else published it
            return 0
