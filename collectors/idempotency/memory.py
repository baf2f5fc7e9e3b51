"""Claims and marks in the memory of one process: for tests, and for consumers of one process that may forget.

A restart forgets everything. Bounded: of what is done the oldest is forgotten first; a claim never is.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from collectors.idempotency.answers import Claim, Key, Told
from collectors.idempotency.errors import StoreUnavailable

LIMIT = 100_000
"""Messages remembered: about 60 MB."""


@dataclass(slots=True)
class _Held:
    """A claim that was not ended. Times in µs of the store's clock."""

    token: int
    until: int
    expires: int
    doubt: bool


def _now() -> int:
    return time.monotonic_ns() // 1000


class MemoryStore:
    """`Store`, for the threads of one process. `forgotten`: done messages that the limit pushed out before their time:
    each of them would be done again."""

    def __init__(self, limit: int = LIMIT, clock: Callable[[], int] = _now) -> None:
        self._limit, self._clock = limit, clock
        self._held: dict[Key, _Held] = {}
        self._done: OrderedDict[Key, tuple[int, int]] = OrderedDict()  # token, expires; the oldest first
        self._last = 0
        self._lock = threading.Lock()
        self.forgotten = 0

    def __len__(self) -> int:
        """Messages remembered."""
        return len(self._held) + len(self._done)

    def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`. Raises `StoreUnavailable` when claims alone fill it."""
        with self._lock:
            now = self._clock()
            self._drop_old(now)
            if (marked := self._done.get(key)) and marked[1] > now:
                return Told("done", marked[0])
            held = self._held.get(key)
            if held is not None and held.expires <= now:
                held = None
            if held is not None and held.until > now:
                return Told("busy", held.token, held.until - now)
            self._make_room(key)
            self._done.pop(key, None)
            token = self._last = max(now, self._last + 1)
            self._held[key] = _Held(token, now + lease, now + keep, held is not None)
            return Told("first" if held is None else "unknown", token)

    def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        with self._lock:
            held, marked = self._held.get(claim.key), self._done.get(claim.key)
            found = held.token if held else marked[0] if marked else claim.token
            if found != claim.token:
                return False
            self._held.pop(claim.key, None)
            self._done[claim.key] = (claim.token, held.expires if held else self._clock() + keep)
            return True

    def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        with self._lock:
            held = self._held.get(claim.key)
            if held is None or held.token != claim.token:
                return
            if doubt or held.doubt:
                held.until, held.doubt = self._clock(), True
            else:
                del self._held[claim.key]

    def _drop_old(self, now: int) -> None:
        """What was kept long enough; a few at a time, so that no call takes long."""
        for _ in range(4):
            key = next(iter(self._done), None)
            if key is None or self._done[key][1] > now:
                break
            del self._done[key]
        for _ in range(2):
            key = next(iter(self._held), None)
            if key is None or self._held[key].expires > now:
                break
            del self._held[key]

    def _make_room(self, key: Key) -> None:
        if key in self._held or key in self._done or len(self) < self._limit:
            return
        if not self._done:
            raise StoreUnavailable(f"all {self._limit} places are taken by messages that are being done or in doubt")
        self._done.popitem(last=False)
        self.forgotten += 1


class AsyncMemoryStore:
    """`MemoryStore` for event loops: nothing in it waits."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        return self.store.claim(key, lease, keep)

    async def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        return self.store.done(claim, keep)

    async def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        self.store.release(claim, doubt)
