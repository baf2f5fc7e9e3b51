"""ActiveMQ: a queue of dead letters, for a replay. A `Source`, `Finder` and `Settler` of `tracker.model.carry`.

A browser of a queue is shown its first page only (400 messages), and a selector meets nothing beyond it. So this takes
what is there, up to a bound, keeps it unacked while a replay goes on, acks what was sent again, and gives back the
rest, which the broker marks as redelivered. Somebody who goes away, or is killed, gives all of it back.

A subscription is given as many messages as its prefetch says, whatever their size. So there is one after the other,
each for so many as there is room for, as large as those that came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
FIRST = 10
"""Messages of the first subscription, when nothing is known of their size."""
MIB = 1024 * 1024
MARGIN = 1.25
"""By so much more may be held where copies are fetched: all that `find` named is to be among it."""


class QueueConfig(Server):
    """The `config` of a queue of dead letters. `most`, `most_mb`: so many messages, and about so many MiB of bodies,
    are held at once, those at its head."""

    queue: str = Field(min_length=1)
    identity_header: str = MESSAGE_ID
    most: int = Field(10_000, ge=1, le=65_535)
    most_mb: int = Field(256, ge=1)


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
        self._given = self._count = self._bytes = 0  # what we asked for, and what of it came and was not acked
        self._asked: list[str] = []  # subscriptions
        self._passed = False  # something came for which there was no room
        self._wait = QUIET

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those that are among the first `most` messages, and `most_mb`, of the queue. Raises `Unavailable`,
        `ConfigInvalid`."""
        self._take(self._config.most_mb * MIB)
        return [Locator(one, "", self._config.queue, 0) for one in message_ids if one in self._held]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """A copy of each that is still there; the newest of a message that died several times."""
        self._take(self._config.most_mb * MIB * MARGIN)
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
                came = self._link.sure("ACK", {"id": done[-1].headers["ack"]})
            except CollectorError:
                self._lost()
                raise
            self._count -= len(done)
            self._bytes -= sum(len(frame.body) for frame in done)
            self._wait = QUIET  # others come in their place
            for frame in came:
                self._keep(frame)
        elif not self._out:
            self.close()

    def close(self) -> None:
        """Close the connection: what is held goes back, and so that it is in its order again, the last of it first."""
        if self._link:
            with suppress(CollectorError):
                for name in reversed(self._asked):
                    self._link.send("UNSUBSCRIBE", {"id": name})
            self._link.leave()
        self._lost()

    def _lost(self) -> None:
        """There is no connection, and nothing held."""
        link, self._link = self._link, None
        self._held, self._out, self._asked = {}, set(), []
        self._given = self._count = self._bytes = 0
        self._passed, self._wait = False, QUIET
        if link:
            link.close()

    def _take(self, most: float) -> None:
        """Hold all that may be held, `most` bytes: of a message that died twice, the second copy may be the last one of
        the queue."""
        try:
            if self._link and self._passed and not self._out and self._bytes < most:
                self.close()  # there is room now: from the head again
            link = self._link = self._link or Link(self._config)
            while True:
                while self._count < self._given and (frame := link.next(self._wait)) is not None:
                    self._keep(frame)
                if self._count < self._given or self._given == self._config.most or self._bytes >= most:
                    break
                self._ask(link, most)
            self._wait = 0.0
        except CollectorError:
            self._lost()
            raise

    def _ask(self, link: Link, most: float) -> None:
        """For as many more as there is room for."""
        large = max(1.0, self._bytes / self._count) if self._count else most / FIRST
        count = min(self._config.most - self._given, max(1, int((most - self._bytes) / large)))
        about = {"destination": f"/queue/{self._config.queue}", "activemq.prefetchSize": str(count)}
        self._asked.append(str(self._given))
        link.send("SUBSCRIBE", {"id": self._asked[-1], "ack": "client-individual", **about})
        self._given, self._wait = self._given + count, QUIET

    def _keep(self, frame: Frame) -> None:
        """What there is no room for is left where it is: given to us, and not acked."""
        if frame.command != "MESSAGE":
            return
        self._count += 1
        if self._bytes >= self._config.most_mb * MIB * MARGIN:
            self._passed = True
            return
        said = said_of(headers_of(frame), self._config.identity_header)
        own = said.message_id or frame.headers.get("message-id", "")
        self._held.setdefault(own, []).append(frame)
        self._bytes += len(frame.body)

    def _copy(self, place: Locator) -> Copy | Missing:
        held = self._held.get(place.message_id)
        if not held:
            full = self._passed or (self._given and self._count >= self._given)
            where = f"the first {self._count} messages of " if full else ""
            return Missing(place, f"it is not in {where}queue {self._config.queue!r} of {self._config.what}")
        frame = held[-1]
        value = frame.body
        return Copy(place, None, value, headers_of(frame), digest_of(value), native_of(frame), place.message_id)
