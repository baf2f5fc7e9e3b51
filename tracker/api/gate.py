"""The gate of the way in: what all senders together, and each of them, may have in work, and how fast.

A slot is held from before a body is read until its answer. One sender, that is one token, gets at most its share, so
that another finds a slot, and a decoder, whatever the first one does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from tracker.api.problem import Problem
from tracker.api.rates import Rate
from tracker.api.service import Limits
from tracker.control.tokens import USUAL, Rates

DECODERS = 4
"""So many bodies are decoded at once: the parser has threads of its own, and each body holds memory."""
AWAKE_S = 10.0
"""A sender that sent something so recently is counted on to send more."""
ALONE = 0.75
"""The share of all slots that a sender may have while no other wants any: the rest is for the one that comes next."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Gate:
    """Use it on the event loop only. `single`: all callers are one, for nobody is asked for a token. `full` is told of
    each batch that there is no slot for; not of what is beyond a sender's own share, for that is his own affair."""

    def __init__(
        self,
        limits: Limits,
        single: bool,
        full: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._full = full
        self._slots, self._single, self._clock = limits.ingest_slots, single, clock
        self._events, self._bytes = Rate(limits.rate_events, clock), Rate(limits.rate_bytes, clock)
        self._held: Counter[str] = Counter()
        self._seen: dict[str, float] = {}
        self._decoders = anyio.CapacityLimiter(DECODERS)
        self._shares: dict[str, anyio.CapacityLimiter] = {}

    @asynccontextmanager
    async def slot(self, who: str, rates: Rates = USUAL) -> AsyncIterator[None]:
        """Hold a slot for `who`, a token's id, with the token's own `rates`. Raises Problem: 429 when it sends too
        fast, 503 when there is none."""
        self._events.allow(who, rates.events)
        self._bytes.allow(who, rates.bytes)
        self._admit(who)
        self._held[who] += 1
        try:
            yield
        finally:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

    def _admit(self, who: str) -> None:
        wait = max(self._events.wait(who), self._bytes.wait(who))
        if wait:
            detail = f"this token sent more than {self._allowed(who)}; come back in {wait} s"
            raise Problem(429, detail, _after(wait), cause="rate")
        self._seen[who] = self._clock()
        if self._held.total() >= self._slots:
            self._full()
            detail = "as many batches as this tracker takes at once are in work; send this again in a moment"
            raise Problem(503, detail, cause="slots")
        if self._held[who] >= self._share():
            detail = (
                f"{self._held[who]} batches of this token are in work already, its share; send this again in a moment"
            )
            raise Problem(503, detail, _after(1), cause="share")

    def _share(self) -> int:
        """Slots that one sender may have."""
        if self._single:
            return self._slots
        late = self._clock() - AWAKE_S
        self._seen = {who: at for who, at in self._seen.items() if at > late or who in self._held}
        return max(1, min(int(self._slots * ALONE), self._slots // len(self._seen)))

    def charge(self, who: str, size: int = 0, events: int = 0) -> None:
        """`who` has sent a body of `size` bytes, or lines that hold so many `events`."""
        self._bytes.charge(who, size)
        self._events.charge(who, events)

    async def decode(self, who: str, work: Callable[[*Args], T], *arguments: *Args) -> T:
        """Do `work` in a thread, when it is the sender's turn."""
        if self._single:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._decoders)
        share = self._shares.setdefault(who, anyio.CapacityLimiter(DECODERS - 1))
        async with share:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._decoders)

    def _allowed(self, who: str) -> str:
        limits = [f"{limit:g} events"] if (limit := self._events.of(who)) else []
        limits += [f"{limit:g} bytes"] if (limit := self._bytes.of(who)) else []
        return " or ".join(limits) + " a second"


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
