"""ActiveMQ: a queue of dead letters, for a replay. A `Source`, `Finder` and `Settler` of `tracker.model.carry`.

A browser of a queue is shown its first page only (400 messages), and a selector meets nothing beyond it. So this takes
what is there, up to a bound, keeps it unacked while a replay goes on, acks what was sent again, and gives back the
rest, which the broker marks as redelivered. Somebody who goes away, or is killed, gives all of it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from collectors.activemq.link import Frame, Link, Server
from collectors.activemq.message import headers_of, native_of
from collectors.activemq.record import said_of
from collectors.carried import digest_of
from collectors.errors import CollectorError
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

QUIET = 1.0
"""Seconds without a message after which there is none left."""


class QueueConfig(Server):
    """The `config` of a queue of dead letters. `most`: so many messages are held at once, those at its head."""

    queue: str = Field(min_length=1)
    identity_header: str = MESSAGE_ID
    most: int = Field(10_000, ge=1, le=65_535)


def source(config: Mapping[str, Any]) -> DeadQueue:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    return DeadQueue(settings(QueueConfig, config, "ActiveMQ dead letters"))


class DeadQueue:
    """One thread at a time. What it holds nobody else gets meanwhile."""

    def __init__(self, config: QueueConfig) -> None:
        self._config = config
        self._link: Link | None = None
        self._held: dict[str, list[Frame]] = {}
        self._out: set[str] = set()  # fetched by somebody who has not said yet what became of them
        self._count = 0

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those that are among the first `most` messages of the queue. Raises `Unavailable`, `ConfigInvalid`."""
        self._take()
        return [Locator(one, "", self._config.queue, 0) for one in message_ids if one in self._held]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """A copy of each that is still there; the newest of a message that died several times."""
        self._take()
        self._out |= {place.message_id for place in locators} & self._held.keys()
        return [self._copy(place) for place in locators]

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """Ack what was sent again, all copies of it. When nothing was, everything is given back, unless somebody else
        (a replay beside a dry run) still has copies."""
        self._out -= {place.message_id for place in [*sent, *kept]}
        done = [frame for place in sent for frame in self._held.pop(place.message_id, ())]
        if done and self._link:
            try:
                for frame in done[:-1]:
                    self._link.send("ACK", {"id": frame.headers["ack"]})
                self._keep(self._link.sure("ACK", {"id": done[-1].headers["ack"]}))
            except CollectorError:
                self.close()
                raise
            self._count -= len(done)
        elif not self._out:
            self.close()

    def close(self) -> None:
        """Close the connection: what is held goes back."""
        link, self._link = self._link, None
        self._held, self._out, self._count = {}, set(), 0
        if link:
            link.close()

    def _take(self) -> None:
        """Hold all that may be held: of a message that died twice, the second copy may be the last one of the queue."""
        wait = QUIET if self._link is None else 0.0
        try:
            if self._link is None:
                self._link = Link(self._config)
                about = {"destination": f"/queue/{self._config.queue}", "activemq.prefetchSize": str(self._config.most)}
                self._keep(self._link.sure("SUBSCRIBE", {"id": "1", "ack": "client-individual", **about}))
            while self._count < self._config.most and (frame := self._link.next(wait)) is not None:
                self._keep([frame])
        except CollectorError:
            self.close()
            raise

    def _keep(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.command == "MESSAGE":
                said = said_of(headers_of(frame), self._config.identity_header)
                own = said.message_id or frame.headers.get("message-id", "")
                self._held.setdefault(own, []).append(frame)
                self._count += 1

    def _copy(self, place: Locator) -> Copy | Missing:
        held = self._held.get(place.message_id)
        if not held:
            where = f"the first {self._config.most} messages of " if self._count >= self._config.most else ""
            return Missing(place, f"it is not in {where}queue {self._config.queue!r} of {self._config.what}")
        frame = held[-1]
        value = frame.body
        return Copy(place, None, value, headers_of(frame), digest_of(value), native_of(frame), place.message_id)
