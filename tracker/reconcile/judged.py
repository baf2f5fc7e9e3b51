"""Until when all that came was judged, so that a time in which nothing was is not taken for one in which nothing came.

Counts are dated by the pass that makes them. While no pass can be done, because no tracker runs, the store does not
answer, or a pass takes minutes, nothing is counted, and afterwards all of it at once. Such a time is kept in the store
before the pass after it is finished, so that whoever asks `until` knows of every such time before it.
"""

from __future__ import annotations

from tracker.control import Control
from tracker.model.units import SECOND
from tracker.store import Store

NAME = "judged"
"""The lease that is nobody's: when it ends is when nothing was left to judge."""
PATIENCE = 40 * SECOND
"""So far apart passes may be without a word: less than what makes the shortest window, of five minutes, a fifth too
low."""
NOTED = 10 * SECOND
"""Where nothing is to be judged that is noted so often."""


def until(control: Control) -> int:
    """Until when all that came was judged, µs; 0 before the first pass. Raises ControlError."""
    noted = next((lease.expires_at for lease in control.leases.all() if lease.name == NAME), 0)
    last = control.passes.last_finished()
    return max(noted, last.started_at if last else 0)


class Judged:
    """The part of whoever runs the passes."""

    def __init__(self, store: Store, control: Control) -> None:
        self._store, self._control = store, control
        self._until: int | None = None

    def passed(self, now: int) -> None:
        """A pass of `now`, µs, is about to be finished. Raises TrackerError, ControlError."""
        before = self._known()
        if before and now - before > PATIENCE:
            self._store.keep_unjudged(before // SECOND, now // SECOND)
        self._until = None  # the pass itself says so, once it is finished

    def idle(self, now: int) -> None:
        """Nothing is to be judged at `now`, µs. Raises TrackerError, ControlError."""
        if now - self._known() > NOTED:
            self.passed(now)
            self._control.leases.seize(NAME, NAME, now, 0)

    def forget(self) -> None:
        """Another tracker may have judged meanwhile."""
        self._until = None

    def _known(self) -> int:
        if self._until is None:
            self._until = until(self._control)
        return self._until
