"""Since when trackers take events: a time in which nobody did is one that assumed coverage must not vouch for.

Every few seconds a tracker that refuses nobody writes down that it listens, in the control database, for all trackers
of the installation. When the last such note is old, because all were down, frozen, or told everybody to come again
later, the span since then is told in a report of our own. It goes the way of all reports, so passes know it by their
bounds. No pass is begun by a tracker whose own note is old, or that has refused somebody since.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from tracker.control import Control
from tracker.control.errors import ControlError
from tracker.model.coverage import Report, SourceRef
from tracker.model.errors import TrackerError
from tracker.model.units import SECOND
from tracker.store.vouched import DEAF

log = structlog.get_logger()

NAME = "listening"
"""The lease that is nobody's: when it ends is when somebody listened last."""
LOOK_S = 2.0
"""How often to look."""
PATIENCE = 10 * SECOND
"""Who waits for longer than this may have given up; exporters of spans do by default."""


class Listening:
    """This process's part. `refused` counts batches that the way in could not keep; `tell` stores a report, durably,
    or raises TrackerError."""

    def __init__(
        self, control: Control, clock: Callable[[], int], refused: Callable[[], int], tell: Callable[[Report], None]
    ) -> None:
        self._control, self._clock, self._refused, self._tell = control, clock, refused, tell
        self._seen = self._then = refused()
        self._noted = 0
        self._held = False

    def hold(self) -> bool:
        """True while no pass may be begun: what was sent may not have come, and is not told of yet. So it is, too,
        when the clock was set back, until the next look."""
        held = self._refused() != self._then or not 0 <= self._clock() - self._noted <= PATIENCE
        if held and not self._held and self._noted:
            log.warning("reconciler.waits", reason="batches are refused, or the clock moved: nothing is judged until "
                        "events are taken again")  # fmt: skip
        self._held = held
        return held

    def look(self) -> None:
        """Note that we listen, unless somebody was refused since the last look. Raises TrackerError, ControlError."""
        refused, before = self._refused(), self._seen
        self._seen = refused
        if refused != before:
            return
        now = self._clock()
        noted = next((lease.expires_at for lease in self._control.leases.all() if lease.name == NAME), now)
        since = max(noted, self._noted)  # by our own clock, where we noted it ourselves: others' may differ
        if now - since > PATIENCE:
            where = [SourceRef("", "", "", DEAF)]
            self._tell(Report(collector="", epoch=0, sequence=now, lag_ms=(now - since) // 1000, sources=where))
            log.warning("nobody_listened", seconds=(now - since) // SECOND, next="assumed coverage has a hole there")
            now = self._clock()  # telling may have taken its time
        self._control.leases.seize(NAME, NAME, now, 0)
        self._noted, self._then = now, refused

    def run(self, stop: threading.Event) -> None:
        """Look at once, and again and again until `stop`."""
        while True:
            try:
                self.look()
            except (TrackerError, ControlError) as error:
                log.warning("not_listening", reason=str(error), next="nothing is judged until this works again")
            if stop.wait(LOOK_S):
                return
