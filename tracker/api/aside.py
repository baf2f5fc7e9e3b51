"""Work for a thread of its own, no more often than that it takes a small share of the time."""

from __future__ import annotations

import threading
from collections.abc import Callable

SHARE = 10
"""Between two runs lies at least so many times what they took, by the quicker of the last two: one that was slow for
another's sake says nothing of the next."""


class Aside:
    """Something that is worked out now and then, by one thread at once. `work` is given a moment (µs) and says whether
    it succeeded; one that did not may be tried again at once."""

    def __init__(self, name: str, work: Callable[[int], bool], stopwatch: Callable[[], float]) -> None:
        self._name, self._work, self._stopwatch = name, work, stopwatch
        self._busy = threading.Lock()
        self._rests_until, self._took = 0.0, float("inf")
        self.succeeded = True
        self._thread: threading.Thread | None = None

    def begin(self, now: int) -> Callable[[float], None]:
        """Begin a run, unless one is under way or it is too soon. Gives what waits for it, so many seconds at most."""
        if self._stopwatch() < self._rests_until or not self._busy.acquire(blocking=False):
            return lambda seconds: None
        self._thread = threading.Thread(target=self._run, args=(now,), name=self._name, daemon=True)
        self._thread.start()
        return self._thread.join

    def close(self, seconds: float) -> None:
        """Wait for the run that is under way, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, now: int) -> None:
        try:
            began = self._stopwatch()
            self.succeeded = self._work(now)
            ended = self._stopwatch()
            before, self._took = self._took, ended - began
            self._rests_until = ended + SHARE * min(before, self._took) if self.succeeded else ended
        finally:
            self._busy.release()
