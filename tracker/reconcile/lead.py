"""Which of several trackers on one ledger runs the passes: the one that holds the lease `reconcile`.

The lease is a hint, for a process can stall at any point. What keeps a pass from being finished by the wrong one is the
check of its token in the transaction that finishes it, and that each process folds into a table of its own.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping

import structlog

from tracker.control import Control
from tracker.control.control import Books
from tracker.control.errors import ControlError, LeaseLost
from tracker.control.flows import LeftOut
from tracker.control.leases import Lease
from tracker.model.units import SECOND

log = structlog.get_logger()

NAME = "reconcile"
TTL = 15 * SECOND
RENEW_S = 4.0


class Lead:
    """This process's claim to run the passes. `sole`: the ledger is embedded, so whoever has it open is alone with it,
    and the lease of a process that was killed need not be waited for."""

    def __init__(self, control: Control, sole: bool, clock: Callable[[], int]) -> None:
        self._control, self._sole, self._clock = control, sole, clock
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        self._waiting = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """True while this process leads; otherwise tries to. Raises ControlError."""
        if self._lease is not None:
            return True
        now = self._clock()
        acquire = self._control.leases.seize if self._sole else self._control.leases.acquire
        self._lease = acquire(NAME, self._owner, now, TTL)
        if self._lease is None:
            if not self._waiting:
                log.info(
                    "reconciler.standby", reason="another tracker runs the passes; this one takes over when it ends"
                )
            self._waiting = True
            return False
        self._waiting = False
        self._thread = threading.Thread(target=self._renew, args=(self._lease,), name="reconcile lease", daemon=True)
        self._thread.start()
        return True

    def finish(self, number: int, taken_in: Mapping[str, LeftOut]) -> None:
        """Finish pass `number`, which took in what had been left out of these flows, unless another tracker has taken
        over: raises LeaseLost then."""
        lease = self._lease
        if lease is None:
            raise LeaseLost(
                f"pass {number} was done by a tracker that no longer holds the lease {NAME!r}: left as it is"
            )
        with self._control.transaction() as books:
            books.leases.check(lease, self._clock())
            finish(books, number, taken_in, self._clock())

    def close(self) -> None:
        """Let another tracker take over at once."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._lease is not None:
            self._control.leases.release(self._lease)
            self._lease = None

    def _renew(self, lease: Lease) -> None:
        while not self._closing.wait(RENEW_S):
            try:
                lease = self._control.leases.renew(lease, self._clock(), TTL)
            except LeaseLost as error:
                log.warning("reconciler.lease_lost", error=str(error))
                self._lease = None
                return
            except ControlError as error:  # it may be back before the lease has run out
                log.warning("reconciler.lease_not_renewed", error=str(error))


def finish(books: Books, number: int, taken_in: Mapping[str, LeftOut], now: int) -> None:
    """Finish pass `number`; in a transaction, so that books as of a pass know what it had taken in."""
    for flow, left in taken_in.items():
        books.flows.folded_again(flow, left)
    books.rulings.done(number)
    books.passes.finish(number, now)
