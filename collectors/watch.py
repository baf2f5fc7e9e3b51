"""What canaries prove: that the broker still copies what happens into a queue of ours, and up to when it was read.

A canary is a small message of our own that comes by as everything else does. Hence, when it is read: what happened
before it was sent has been read. RabbitMQ: it is published to an exchange of ours that is bound to the trace queue, so
it comes by twice: as a trace, because the firehose copies every publish, and directly. One channel process does both,
the trace first, so the order in the queue is certain; if its trace was not read just before it, the firehose is off. A
queue that gets no traces asks for the direct copy only. ActiveMQ: what comes by is what the broker says of it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["unknown", "on", "off"]

NEVER = 10**9
"""Lag in milliseconds of a collector that has proven nothing yet."""


class Mark(msgspec.Struct, frozen=True):
    """The body of a canary. `token` names one life of one collector; `sent_at` in epoch microseconds."""

    token: str
    sequence: int
    sent_at: int


def mark_of(body: bytes) -> Mark | None:
    """The canary that these bytes are, or None."""
    try:
        return msgspec.json.decode(body, type=Mark)
    except (msgspec.MsgspecError, ValueError):
        return None


class Watch:
    """Follows canaries from sending to reading. `now` is seconds of a monotonic clock everywhere.

    It begins with a break: what happened before it was there nobody knows. `hole_for` (s): how long a break is shown
    at least, so that a report without our sources goes out and makes the hole in coverage that the break is. `traces`:
    whether a canary has to be traced.
    """

    def __init__(self, token: str, now: float, hole_for: float, traces: bool = True) -> None:
        self.state: State = "unknown"
        self.marker = 0
        """When the last canary read was sent, by the clock of whoever sent it (epoch microseconds; 0: none yet)."""
        self.token, self._traces = token, traces
        self._sequence = 0
        self._arrived = 0
        self._traced: Mark | None = None
        self._sent: dict[int, float] = {}
        self._proven: float | None = None
        self._hole_for = hole_for
        self._hole_until = now + hole_for
        self._shown = False

    def sent(self, now: float, sent_at: int) -> Mark:
        """The next canary, to be published now."""
        self._sequence += 1
        self._sent[self._sequence] = now
        return Mark(self.token, self._sequence, sent_at)

    def waits_since(self, since: int) -> None:
        """What waits to be read came after this (epoch µs, 0: not known), says an earlier life."""
        self.marker = max(self.marker, since)

    def traced(self, mark: Mark) -> None:
        """The trace of a canary was read."""
        self._traced = mark

    def arrived(self, mark: Mark, now: float) -> bool:
        """A canary itself was read; whether it is one that was waited for. Those of others (an earlier life, a
        stand-by) only say what time it was."""
        self.marker = max(self.marker, mark.sent_at)
        sent = self._sent.get(mark.sequence) if mark.token == self.token else None
        if sent is None:
            return False
        if self._traces and self._traced != mark:
            self.broken(now, "off")
            return False
        if mark.sequence != self._arrived + 1:  # the queue gave up records: it was full
            self._break(now)
        self._arrived = mark.sequence
        self._sent = {sequence: at for sequence, at in self._sent.items() if sequence > mark.sequence}
        self.state, self._proven = "on", sent
        return True

    def broken(self, now: float, state: State = "unknown") -> None:
        """From the last proof on nobody knows: the connection was cut, the trace queue ran full, the firehose is off.
        The canaries still under way prove nothing any more."""
        self._break(now)
        self.state = state
        self._forget()

    def paused(self) -> None:
        """The connection was cut where reading can go on behind what was read: nobody knows more than before, and
        nothing is missing unless it turns out so."""
        self.state = "unknown"
        self._forget()

    def vouches(self, now: float) -> bool:
        """Whether a report may name our sources: the firehose is proven to be on, and the last break was shown."""
        if not self._shown or now < self._hole_until:
            self._shown = True
            return False
        return self.state == "on"

    def goes_on(self, now: float, since: int) -> None:
        """There was no break at the beginning: reading goes on right behind what an earlier life read, the last of it
        after `since` (epoch µs, 0: not known)."""
        self._hole_until, self._shown = now, True
        self.waits_since(since)

    def _break(self, now: float) -> None:
        self._hole_until, self._shown = now + self._hole_for, False

    def _forget(self) -> None:
        self._arrived = self._sequence
        self._sent.clear()

    def behind(self, now: float) -> float | None:
        """Seconds since the last proof; None when there is none."""
        return None if self._proven is None else max(0.0, now - self._proven)

    def lag_ms(self, now: float, settle: float) -> int:
        """Milliseconds since the last proof, and `settle` seconds for channels that were a little slower."""
        behind = self.behind(now)
        return NEVER if behind is None else int((behind + settle) * 1000)

    def since(self, now: float, prompt: float) -> int | None:
        """For a record that is read now: None where it happened just now, for the last proof is `prompt` seconds old at
        most; else when the last canary before it was sent (epoch µs), which may be long ago."""
        behind = self.behind(now)
        return self.marker if behind is None or behind > prompt else None
