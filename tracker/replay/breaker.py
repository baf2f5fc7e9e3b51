"""A circuit breaker per target: a target that refuses, or whose consumers do not follow, is left alone, then tried with
one message.

    closed ──failures──> open ──cooldown──> half_open ──one confirmed──> closed
       │                   ^                    │
       │                   └──────refused───────┘  (twice the cooldown, up to a bound, with jitter)
       │
       └──behind──> open <──cooldown, one sent──> half_open      ... until consumers are no longer behind: closed

Written here because what is counted is answers for single messages of a batch, on a clock that comes in from outside;
the libraries that were looked at count calls that raise, by the wall clock (docs/adr/0005). What being behind means:
`progress`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""So many messages in a row that were not confirmed open the circuit."""
COOLDOWN_S = 5.0
LONGEST_COOLDOWN_S = 60.0


class State(StrEnum):
    """Closed: everything passes. Open: nothing. Half open: one message tells."""

    closed = "closed"
    open = "open"
    half_open = "half_open"


class Breaker:
    """Ask `room` before sending, tell `record` afterwards, and `followed` now and then. One thread uses it, others may
    look at `state`.

    `clock` gives seconds that never jump. `uniform(a, b)` draws the jitter.
    """

    def __init__(self, clock: Callable[[], float], uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._clock = clock
        self._uniform = uniform
        self._failed = 0
        self._behind = False
        self._cooldown = COOLDOWN_S
        self._until: float | None = None
        self.reason = ""

    @property
    def state(self) -> State:
        """The state at this moment."""
        until = self._until  # another thread may close it meanwhile
        if until is None:
            return State.closed
        return State.open if self._clock() < until else State.half_open

    def room(self, wanted: int) -> int:
        """How many of `wanted` messages may be tried now: all, one or none."""
        match self.state:
            case State.closed:
                return wanted
            case State.half_open:
                return min(1, wanted)
            case State.open:
                return 0

    def wait(self) -> float:
        """Seconds until something may be tried."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def record(self, confirmed: int, failed: int, reason: str = "") -> None:
        """How a batch went: messages confirmed and not. `reason` is the last error, kept while the circuit is open.

        A few refusals among confirmed messages are those messages' own fault, not the target's. That one is confirmed
        says nothing of consumers that are behind: the circuit rests again, until they have followed.
        """
        if not confirmed and not failed:
            return
        if confirmed >= failed:
            self._failed = 0
            if self._behind:
                self._rest()
            else:
                self._close()
            return
        self._failed += failed
        if self._until is not None or self._failed >= FAILURES:
            self.reason = reason
            self._rest()

    def followed(self, behind: str = "") -> None:
        """Whether consumers follow what is sent: `behind` says in words that they do not, empty that nothing speaks
        against it."""
        if behind:
            self.reason = behind
            if not self._behind:
                self._behind = True
                self._rest()
        elif self._behind:
            self._behind = False
            if self._failed < FAILURES:
                self._close()

    def _rest(self) -> None:
        """Open; each time that one was tried in vain for twice as long."""
        if self.state is State.half_open:
            self._cooldown = min(self._cooldown * 2, LONGEST_COOLDOWN_S)
        self._until = self._clock() + self._uniform(0.5, 1.0) * self._cooldown

    def _close(self) -> None:
        self._failed, self._until, self._cooldown, self.reason = 0, None, COOLDOWN_S, ""
