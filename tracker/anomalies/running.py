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
from tracker.control.errors import ControlError, LeaseLost
from tracker.control.leases import Lease
from tracker.model.errors import TrackerError, Unavailable
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
    (flow, hop, signal); nothing where another tracker looks. `judged`: until when, µs, all that came was judged."""

    def __init__(
        self,
        store: Store,
        control: Control,
        specs: Callable[[], Mapping[str, FlowSpec]],
        shown: Callable[[Open], None],
        clock: Callable[[], int],
        judged: Callable[[], int],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._control, self._shown, self._clock, self._steady = store, control, shown, clock, steady
        self._owner = f"{NAME}/{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._lease: Lease | None = None
        self._sole = store.engine.embedded
        """Whoever held the lease of an embedded ledger before is gone."""
        self._watch = Watch(store, specs, judged, steady, self._go_on)

    def run(self, stop: threading.Event) -> None:
        """Looks until `stop` is set."""
        self._stop = stop
        wait = STEP_S
        while not self._rested(wait):
            began = self._steady()
            try:
                self.step()
            except (ControlError, TrackerError) as error:
                log.warning("anomalies_not_looked_for", reason=str(error))
                self._watch.forget()  # what it kept in mind may not be what is stored
            wait = max(STEP_S, SHARE * (self._steady() - began))
        if self._lease is not None:
            with suppress(ControlError):  # it runs out by itself
                self._control.leases.release(self._lease)

    def step(self) -> None:
        """Look, where this tracker is the one that does. Raises ControlError, TrackerError."""
        if self._lease is None:
            acquire = self._control.leases.seize if self._sole else self._control.leases.acquire
            self._lease, self._sole = acquire(NAME, self._owner, self._clock(), TTL), False
        elif not self._held(TTL):
            return
        if self._lease is None:
            self._shown({})
            return
        for one in self._watch.look(self._clock()):
            if one.until or one.opened_at >= one.last_at:
                log.info("anomaly_ended" if one.until else "anomaly", flow=one.flow, hop=one.hop, signal=one.signal,
                         direction=one.direction, expected=one.expected, came=one.came)  # fmt: skip
        self._shown(dict(Counter((one.flow, one.hop, one.signal) for one in self._watch.open)))

    def _rested(self, seconds: float) -> bool:
        """True when it is to stop. A rest may be longer than the lease: that is kept meanwhile."""
        end = self._steady() + seconds
        while (left := end - self._steady()) > 0:
            if self._stop.wait(min(left, TTL / SECOND / 6)):
                return True
            try:
                self._held()
            except ControlError as error:  # it may be back before the lease has run out
                log.warning("anomalies_lease_not_renewed", reason=str(error))
        return False

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Unavailable("the tracker is about to stop")
        if not self._held():
            raise Unavailable("another tracker looks for anomalies now")

    def _held(self, left: int = TTL * 2 // 3) -> bool:
        """Whether the lease is ours, from now on for the whole `TTL` where it had no more than `left`, µs. Raises
        ControlError."""
        now = self._clock()
        if self._lease is not None and self._lease.expires_at <= now + left:
            try:
                self._lease = self._control.leases.renew(self._lease, now, TTL)
            except LeaseLost as error:
                log.info("anomalies_lease_lost", reason=str(error))
                self._lost()
            except ControlError:
                if self._lease.expires_at <= now:
                    self._lost()
                raise
        return self._lease is not None

    def _lost(self) -> None:
        """Another tracker looks, or may. What is usual is known on, for when this one does again."""
        self._lease = None
        self._watch.forget()
        self._shown({})
