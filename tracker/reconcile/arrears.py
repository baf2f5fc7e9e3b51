"""Which trackers hold events that the store lacks: no pass is begun meanwhile, on any of them.

What lies in a spool was received, and would be called missing: where coverage is only assumed, nothing else says that
it is on its way. Each tracker of a shared store tells the others by a lease in the control database.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable

import structlog

from tracker.control import Control
from tracker.control.errors import ControlError
from tracker.model.units import SECOND

log = structlog.get_logger()

PREFIX = "spool:"
LOOK_S = 1.0
"""How often a tracker looks whether it has to tell."""
TTL = 60 * SECOND
"""A tracker that ended while it was behind holds the others up for so long."""


class Arrears:
    """This process's part. `name` tells its spool from others on this host; `behind` whether the store lacks what it
    received. `shared`: others use the same store."""

    def __init__(
        self, control: Control, name: str, behind: Callable[[], bool], clock: Callable[[], int], shared: bool
    ) -> None:
        self._control, self._behind, self._clock, self._shared = control, behind, clock, shared
        self._name = f"{PREFIX}{socket.gethostname()}:{name}"[-128:]
        self._owner = secrets.token_hex(8)
        self._told = self._said = False

    def hold(self) -> bool:
        """True while no pass may be begun. Raises ControlError."""
        behind = [self._name] if self._behind() else self._others() if self._shared else []
        if behind and not self._said:
            reason = "received events are not in the store yet: nothing is judged until they are"
            log.warning("reconciler.waits", reason=reason, spools=behind)
        self._said = bool(behind)
        return self._said

    def _others(self) -> list[str]:
        now = self._clock()
        names = [lease.name for lease in self._control.leases.all() if lease.expires_at > now]
        return [name for name in names if name.startswith(PREFIX) and name != self._name]

    def run(self, stop: threading.Event) -> None:
        """Tell the others, again and again while it is so, until `stop`."""
        while not stop.wait(LOOK_S):
            if self._shared:
                self.tell()
        if self._shared and not self._behind():
            self.tell()

    def tell(self) -> None:
        """Take or keep the lease while behind, else give it back."""
        try:
            if self._behind():
                self._control.leases.seize(self._name, self._owner, self._clock(), TTL)
                self._told = True
            elif self._told:
                lease = self._control.leases.acquire(self._name, self._owner, self._clock(), TTL)
                if lease:
                    self._control.leases.release(lease)
                self._told = False
        except ControlError as error:
            log.warning("arrears_not_told", reason=str(error), next="other trackers may judge too early")
