"""The watch at work: one tracker at a time looks, every minute, or as often as a tenth of its time allows."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from tracker.anomalies.watch import Watch
from tracker.control import Control
from tracker.control.errors import ControlError
from tracker.control.leases import Lease
from tracker.model.errors import TrackerError
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store import Store

NAME = "anomalies"
TTL = 180 * SECOND
STEP_S = 5.0
"""Seconds between questions whether a minute is over."""
SHARE = 10
"""A look rests so many times as long as it took."""
Open = dict[tuple[str, ...], float]
log = structlog.get_logger()


class Watching:
    """`store` gives way to others, and is closed by whoever made it. `shown` is told how many anomalies are open by
    (flow, hop, signal); nothing where another tracker looks."""

    def __init__(
        self,
        store: Store,
        control: Control,
        specs: Callable[[], Mapping[str, FlowSpec]],
        shown: Callable[[Open], None],
        clock: Callable[[], int],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._control, self._specs, self._shown = store, control, specs, shown
        self._clock, self._steady = clock, steady
        self._owner = f"{NAME}/{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        self._watch: Watch | None = None

    def run(self, stop: threading.Event) -> None:
        """Looks until `stop` is set."""
        wait = STEP_S
        while not stop.wait(wait):
            began = self._steady()
            try:
                self.step(stop)
            except (ControlError, TrackerError) as error:
                log.warning("anomalies_not_looked_for", reason=str(error))
                self._watch = None  # what it kept in mind may not be what is stored
            wait = max(STEP_S, SHARE * (self._steady() - began))
        if self._lease is not None:
            with suppress(ControlError):  # it runs out by itself
                self._control.leases.release(self._lease)

    def step(self, stop: threading.Event) -> None:
        """Look, where this tracker is the one that does. Raises ControlError, TrackerError."""
        acquire = self._control.leases.seize if self._alone() else self._control.leases.acquire
        self._lease = acquire(NAME, self._owner, self._clock(), TTL)
        if self._lease is None:
            self._watch = None
            self._shown({})
            return
        self._watch = self._watch or Watch(self._store, self._specs, self._steady, stop)
        for one in self._watch.look(self._clock()):
            if one.until or one.opened_at >= one.last_at:
                log.info("anomaly_ended" if one.until else "anomaly", flow=one.flow, hop=one.hop, signal=one.signal,
                         direction=one.direction, expected=one.expected, came=one.came)  # fmt: skip
        self._shown(dict(Counter((one.flow, one.hop, one.signal) for one in self._watch.open)))

    def _alone(self) -> bool:
        """The ledger is embedded: the process that held the lease before is gone."""
        return self._lease is None and self._store.engine.embedded
