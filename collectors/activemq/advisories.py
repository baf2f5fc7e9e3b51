"""ActiveMQ Classic: what the broker says of its messages, by advisories that it copies into a queue of ours.

An advisory is published to a topic that remembers nothing. So the broker's configuration has a composite destination
that copies them into a queue for each collector (docs/collectors/activemq.md), which keeps them while nobody reads, in
memory: what was not read when the broker ends is gone, and there is a hole in coverage.

Canaries (`collectors.watch`) are messages to another queue of ours, which we read ourselves: the advisories of one, of
its arrival and of its end, prove that all before it has been read.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collectors.activemq.advice import advice
from collectors.activemq.config import ActiveConfig
from collectors.activemq.given import Ends, Given
from collectors.activemq.life import Life
from collectors.activemq.link import Frame, Link
from collectors.activemq.record import CONNECTOR, CONSUMED, DELIVERED, ENDED, LATE, SAYS, TOPICS, Decoder, Place
from collectors.base import Lag, Observation, Raw
from collectors.carried import number, text
from collectors.clock import elapsed, now_micros
from collectors.errors import CollectorError, Unavailable, Undecodable
from collectors.logs import logger
from collectors.part import settings
from collectors.watch import Mark, Watch
from tracker.model.coverage import SourceRef

TOKEN, SEQUENCE = "tracker_canary", "tracker_sequence"
OURS, CANARIES = "1", "2"
"""Subscriptions: to the advisories, to our own canaries."""


def advisories(name: str, config: Mapping[str, Any], folder: Path | None = None) -> ActiveAdvisories:
    """A collector as the configuration file describes it; `folder`: its own. Raises `ConfigInvalid` naming the key."""
    return ActiveAdvisories(name, settings(ActiveConfig, config, f"collector {name}"), folder)


class ActiveAdvisories:
    """The collector. It vouches only while its canaries come back, up to the last of them."""

    def __init__(
        self,
        name: str,
        config: ActiveConfig,
        folder: Path | None = None,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        self._config, self._clock, self._monotonic = config, clock, monotonic
        self._log = logger("collectors.activemq").bind(collector=name)
        self._queue, self._canaries = config.advisories or f"tracker.advisories.{name}", f"tracker.canary.{name}"
        self.window = config.prefetch
        self._decoder, self._watch = Decoder(config), Watch(uuid.uuid4().hex, monotonic(), config.hole_for, False)
        self._life, self._same = Life(folder), False
        self._link: Link | None = None
        self._connections = 0
        self._opened = self._due = 0.0
        self._half: dict[int, str] = {}  # canaries of which one advisory came, and which of the two
        self._given = Given()
        self._ends = Ends(self.window // 2)
        self._broker = ""  # as the last canary named it
        self._inside: set[str] = set()  # places of which something was taken inside of the broker's process

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """Advisories, oldest first. Raises `Unavailable`, also where canaries do not come back."""
        with self._cut_off_on_errors():
            found = self._read(limit, self._monotonic() + wait)
            self._acknowledge()
            return found

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """See `collectors.activemq.record`."""
        return self._decoder.decode(raw)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acks. What an earlier connection gave is left alone: the broker gives it again."""
        for raw in raws:
            if raw.position.connection == self._connections:
                self._given.settle(raw.position.numbers)
        with self._cut_off_on_errors():
            self._acknowledge()

    def sources(self) -> Sequence[SourceRef] | None:
        """All configured places while canaries come back. None while it is not known whether something is missing:
        without a connection, and until the first canary where the broker is the one that was there before. And, so that
        a report without them goes out at all, that this collector reads its own queue."""
        if self._link is None or (self._same and self._watch.state == "unknown"):
            return None
        found = {SourceRef(each.flow, self._queue, "deliver", self._queue) for each in self._config.routes}
        if self._watch.vouches(self._monotonic()):
            self._life.keep(self._broker)
            found |= {one for route in self._config.routes for one in route.sources(route.at not in self._inside)}
        return sorted(found)

    def lag(self) -> Lag:
        """Time since the last canary that came back was sent, plus `settle` for what was a little slower."""
        return Lag(self._watch.lag_ms(self._monotonic(), self._config.settle), 0)

    def close(self) -> None:
        """Close the connection. The queue stays and fills."""
        if self._link:
            self._link.leave()
        self._lost()

    def _lost(self) -> None:
        """There is no connection."""
        link, self._link = self._link, None
        if link:
            self._watch.paused()
            link.close()

    def _read(self, limit: int, deadline: float) -> list[Raw]:
        link = self._connected()
        found: list[Raw] = []
        frames = 0
        while len(found) < limit:
            now = self._monotonic()
            if now >= self._due:
                self._due = now + self._config.canary_every
                self._publish(link, now)
            frame = link.next(0.0 if found else max(0.0, min(deadline, self._due) - now))
            if frame is None:
                if found or self._monotonic() >= deadline:
                    break
            elif frame.headers.get("subscription") == OURS:
                raw = self._taken(frame)
                found += [raw] if raw else []
            frames += 1
            if frames >= limit and self._monotonic() >= deadline:  # most of it is of no configured place
                return found
        if not found and limit:
            self._proven(link)
        return found

    def _connected(self) -> Link:
        if self._link is not None:
            return self._link
        link = Link(self._config)
        self._link, self._connections = link, self._connections + 1
        self._opened = self._monotonic()
        self._given, self._ends = Given(), Ends(self.window // 2)
        self._half.clear()
        self._same = bool(self._life.last)  # until a canary says otherwise
        if not self._same:
            self._watch.broken(self._opened)
        elif self._connections == 1:  # an earlier process read until then
            self._watch.goes_on(self._opened, 0)
        for name, queue, ack in ((OURS, self._queue, "client"), (CANARIES, self._canaries, "auto")):
            link.send(
                "SUBSCRIBE",
                {
                    "id": name, "destination": f"/queue/{queue}", "ack": ack, "transformation": "jms-advisory-json",
                    # Of two instances one reads, and the other stands by.
                    "activemq.exclusive": "true", "activemq.prefetchSize": str(self._config.prefetch),
                },
            )  # fmt: skip
        return link

    def _taken(self, frame: Frame) -> Raw | None:
        """What is to be told of it. Canaries, and what is of no configured place, are settled at once."""
        at = self._given.take(frame.headers.get("ack", ""))
        topic = frame.headers.get("original-destination") or frame.headers.get("destination", "")
        says = topic.removeprefix("/topic/").removeprefix(TOPICS)
        kind, _, place = says.partition(".")
        if place == f"Queue.{self._canaries}":
            self._given.settle([at])
            came = self._canary(kind, frame.body, frame.headers.get("originBrokerId", ""))
            return self._ended((*self._ends.overdue(at), *(self._ends.left() if came else ())))
        if self._decoder.route(says) is None:
            self._given.settle([at])
            return self._ended(self._ends.overdue(at))
        again, settles = self._ends.told(kind, place, at, frame.body)
        settles += self._ends.overdue(at)
        connector = frame.headers.get("originBrokerURL", "")
        if kind == CONSUMED and not again and self._decoder.inside(connector) and place not in self._inside:
            self._inside.add(place)
            self._log.warning("taken inside of the broker's process: its acks are not vouched for", place=place)
        return self._raw(says, frame.body, settles, {ENDED: b""} if again else {CONNECTOR: connector.encode()})

    def _ended(self, settles: tuple[int, ...]) -> Raw | None:
        """A record that tells nothing and settles these, when all before it is committed."""
        says = f"{CONSUMED}.{self._config.routes[0].at}"
        return self._raw(says, b"", settles, {ENDED: b""}) if settles else None

    def _raw(self, says: str, body: bytes, settles: tuple[int, ...], headers: dict[str, bytes]) -> Raw:
        late = self._watch.since(self._monotonic(), self._config.prompt) is not None
        headers = {SAYS: says.encode(), **headers, **({LATE: b""} if late else {})}
        return Raw(body, headers, None, Place(self._connections, settles), self._clock())

    def _publish(self, link: Link, now: float) -> None:
        mark = self._watch.sent(now, self._clock())
        said = {TOKEN: mark.token, SEQUENCE: f"n{mark.sequence}", "persistent": "false"}
        # While the broker's memory is full it lets whoever sends wait. Who wants a receipt waits for that one only; of
        # anybody else nothing is read any more, not even the acks that would make room.
        said["receipt"] = "canary"
        link.send("SEND", {"destination": f"/queue/{self._canaries}", **said})

    def _canary(self, kind: str, body: bytes, broker: str) -> bool:
        """One of the two advisories of a canary; whether that was waited for. Both are needed, in whatever order:
        each kind is switched on apart. `broker` names its life: another one where its process goes on, too."""
        try:
            said = advice(body).headers
        except Undecodable:
            return False
        sequence = number(text(said.get(SEQUENCE)).removeprefix("n"))
        if said.get(TOKEN) != self._watch.token or sequence is None or kind not in (DELIVERED, CONSUMED):
            return False
        if self._half.setdefault(sequence, kind) == kind:
            return False
        self._half = {one: kind for one, kind in self._half.items() if one > sequence}
        if self._same and broker != self._life.last:
            self._watch.broken(self._monotonic())
        self._same, self._broker = broker == self._life.last, broker
        return self._watch.arrived(Mark(self._watch.token, sequence, 0), self._monotonic())

    def _proven(self, link: Link) -> None:
        """There is nothing left to read. Raises `Unavailable` where nothing was proven for too long, unless the broker
        waits for our acks: also where it took our subscription away, which it does not say."""
        now = self._monotonic()
        behind = self._watch.behind(now)
        waited = min(now - self._opened, now if behind is None else behind)
        if waited > self._config.proof_within and self._given.open < self.window:
            raise Unavailable(
                f"{link.what}: for {waited:.0f} s no advisory of our own canaries came, so nothing is vouched for. Are "
                f"advisories copied into queue {self._queue!r}, does a policy switch them on for {self._canaries!r} "
                f"(docs/collectors/activemq.md), and does no other instance read them?"
            )

    def _acknowledge(self) -> None:
        ack = self._given.acknowledged()
        if ack and self._link:
            self._link.send("ACK", {"id": ack})

    @contextmanager
    def _cut_off_on_errors(self) -> Iterator[None]:
        """Whatever goes wrong closes the connection: the next read makes a new one, and all that was not acked comes
        again."""
        try:
            yield
        except CollectorError:
            self._lost()
            raise
