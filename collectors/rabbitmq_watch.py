"""What canaries prove: that the firehose is on, and up to when the trace queue was read.

A canary is a small message to an exchange of ours that is bound to the trace queue, so it comes by twice: as a trace,
because the firehose copies every publish, and directly. One channel process does both, the trace first, so the order
in the queue is certain. Hence, when the direct copy is read: everything published before it was sent has been read;
and if its trace was not read just before it, the firehose is off.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["unknown", "on", "off"]


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
    """Follows canaries from sending to reading. Times of `sent` and `behind` are seconds of a monotonic clock."""

    def __init__(self, token: str) -> None:
        self.state: State = "unknown"
        self.marker = 0
        """When the last canary read was sent, by the clock of whoever sent it (epoch microseconds; 0: none yet)."""
        self._token = token
        self._sequence = 0
        self._arrived = 0
        self._traced: Mark | None = None
        self._sent: dict[int, float] = {}
        self._proven: float | None = None
        self._hole = False

    def sent(self, now: float, sent_at: int) -> Mark:
        """The next canary, to be published now."""
        self._sequence += 1
        self._sent[self._sequence] = now
        return Mark(self._token, self._sequence, sent_at)

    def traced(self, mark: Mark) -> None:
        """The trace of a canary was read."""
        self._traced = mark

    def arrived(self, mark: Mark) -> None:
        """A canary itself was read. Those of others (an earlier life, a stand-by) only say what time it was."""
        self.marker = max(self.marker, mark.sent_at)
        sent = self._sent.get(mark.sequence) if mark.token == self._token else None
        if sent is None:
            return
        lost = mark.sequence != self._arrived + 1  # the trace queue gave up records: it was full
        self._hole = self._hole or lost
        self._arrived = mark.sequence
        self._sent = {sequence: at for sequence, at in self._sent.items() if sequence > mark.sequence}
        if self._traced == mark:
            self.state, self._proven = "on", sent
        else:
            self.broken("off")

    def broken(self, state: State = "unknown") -> None:
        """From the last proof on nobody knows: the connection was cut, the trace queue ran full, the firehose is off.
        The canaries still under way prove nothing any more."""
        self._hole = self._hole or self._proven is not None
        self.state, self._arrived = state, self._sequence
        self._sent.clear()

    def vouches(self) -> bool:
        """Whether a report may name our sources. After a break one report goes out without them, so that the break
        is a hole in coverage however short it was."""
        if self._hole:
            self._hole = False
            return False
        return self.state == "on"

    def behind(self, now: float) -> float | None:
        """Seconds since the last proof; None when there is none."""
        return None if self._proven is None else max(0.0, now - self._proven)
