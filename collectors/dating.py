"""What a report says of the clock that dated its lines.

It is said once per report and then stays, however often the report is sent: copies of an event must have equal times.
So nothing is sent before the clock was measured; that costs one small question at the start, and one after somebody
set the time. Lines that were dated by the clock as it was before are not corrected: nobody measured that one.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from collectors.clock import Clock
from collectors.delivery import Answer, Outcome
from collectors.logs import logger
from collectors.node_clock import STEP, Exchange, NodeClock
from collectors.spool import Spool
from collectors.standing import Pending, Standing


class Asks(Protocol):
    """What is needed of `collectors.delivery.Delivery`."""

    @property
    def exchange(self) -> Exchange | None:
        """When the last request was sent, received, answered and back."""
        ...

    def probe(self) -> Answer:
        """Ask for nothing but the time."""
        ...


class Dating:
    """Of one sender. `node` measures the wall clock that dates its lines; None: that is somebody else's, and nothing
    is said of it."""

    def __init__(self, node: NodeClock | None, standing: Standing, spool: Spool, asks: Asks, clock: Clock) -> None:
        self._node, self._standing, self._spool, self._asks, self._clock = node, standing, spool, asks, clock
        self._mute = False
        if node and (standing.wall is None or abs(standing.wall - node.base) > STEP):
            standing.clocked_from = spool.opened_end  # what an earlier process wrote was dated by another clock
        self._log = logger("collectors.emitter").bind(collector=standing.collector)

    def say(self, pending: Pending) -> None:
        """Put the offset into the report, if it is known."""
        node, standing = self._node, self._standing
        if node is None:
            pending.clocked = True
            return
        if node.stepped():
            standing.clocked_from = self._spool.end
            self._log.warning("this host's clock was set: lines not sent yet keep the times they have")
        standing.wall = node.base
        lost = pending.start < min(pending.end, standing.clocked_from)
        offset = None if lost else node.offset(self._age(pending.start))
        if offset:
            pending.report = msgspec.structs.replace(pending.report, offset_us=offset.offset, error_us=offset.error)
        pending.clocked = lost or offset is not None

    def ask(self, pending: Pending) -> Answer | None:
        """Measure before lines go out without a word on their clock. What the tracker answered when it cannot be
        asked now: then the lines cannot be sent now either. None: send."""
        if pending.report.events and not self._mute:
            answer = self._asks.probe()
            if answer.outcome is Outcome.again:
                return answer
            self._mute = self._asks.exchange is None  # something that does not tell the time: do not ask each time
            self.heard()
            self.say(pending)
        pending.clocked = True
        return None

    def heard(self) -> None:
        """A request was answered: every answer measures."""
        if self._node and self._asks.exchange:
            self._node.heard(self._asks.exchange)

    def _age(self, start: int) -> int:
        """How long ago the first line behind a spool position was emitted, µs; 0 where there is none."""
        first = next(iter(self._spool.read(start)), None)
        return max(0, self._clock() - first.at) if first else 0
