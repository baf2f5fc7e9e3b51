"""What a sender knows of one target, and how much it may send there now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tracker.replay.backoff import Budget
from tracker.replay.breaker import Breaker, State
from tracker.replay.clock import Steady
from tracker.replay.progress import Progress
from tracker.replay.throttle import Bucket

CROWDED_S = 0.5
"""When to come back to a target that has as many messages in flight as it may."""


class Allowed(NamedTuple):
    """What a target may get: messages per second, and so many in flight at most."""

    rate: float
    in_flight: int


class Room(NamedTuple):
    """So many `messages` may be sent now, of which so many `retries`; with none, seconds to `wait`. `why` in words,
    where something is wrong with the target: a rate is no such thing."""

    messages: int
    retries: int
    wait: float
    why: str = ""


class Target:
    """One hop. One thread uses it; others may look at `circuit` and `in_flight`: messages that are claimed, in doubt,
    or sent and not settled, as far as this tracker knows."""

    def __init__(self, hop: str, rate: float, clock: Steady, uniform: Callable[[float, float], float]) -> None:
        self.hop = hop
        self.bucket = Bucket(rate, clock)
        self.breaker = Breaker(clock, uniform)
        self.budget = Budget(clock)
        self.progress = Progress()
        self.in_flight = 0

    @property
    def circuit(self) -> State:
        """The state of its circuit at this moment."""
        return self.breaker.state

    def room(self, allowed: Allowed, batch: int) -> Room:
        """How much of a `batch` may go now."""
        rate, most = allowed
        if self.bucket.rate != rate:
            self.bucket.set_rate(rate)
        if self.circuit is State.open:
            why = f"{self.hop}: circuit open, tried again within a minute: {self.breaker.reason}"
            return Room(0, 0, self.breaker.wait(), why)
        left = most - self.in_flight
        if left <= 0:
            why = f"{self.hop}: {most} messages are in flight, as many as may be: it waits until some are settled"
            return Room(0, 0, CROWDED_S, why)
        messages = min(batch, self.breaker.room(min(self.bucket.room(), left)))
        return Room(messages, self.budget.room(rate), self.bucket.wait())

    def took(self, first: int, again: int) -> None:
        """So many are about to be sent, for the first time and again."""
        self.bucket.take(first + again)
        self.budget.take(first, again)
        self.in_flight += first + again
