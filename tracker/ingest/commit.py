"""Group commit: requests share inserts, each is answered once its own rows are durable.

One thread inserts. It takes what has come while it wrote, or waits a moment for more; parts stay few, and the embedded
engine, which takes a few hundred inserts a second, takes any number of requests.

What the store does not take, or not in time, goes to the spool (`tracker.ingest.spool`), by a second thread where the
first one is stuck. While anything waits there, all that comes goes behind it, and the first thread empties it. While
that goes well, the spool takes half of what it got rid of, and the rest of the senders wait: what is answered faster
than it can be stored would never come to an end.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace

from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.drain import Drain, Sink, insert
from tracker.ingest.errors import Busy
from tracker.ingest.spool import Spool
from tracker.model.errors import TrackerError, Unavailable

log = structlog.get_logger()
tracer = trace.get_tracer("tracker")

CROWDED = 0.75
"""From this part of its memory on, what waits goes to the spool."""
REFILL = 0.5
"""So much of what the store took out of the spool may come into it while the store goes on taking."""
PRESSED = 0.5
"""Where an answer takes so many seconds, more comes than is written; that holds for a while (`LATELY`)."""
LATELY = 2.0
LEAVE = 30.0
"""Seconds that a store which does not answer may hold up the end, where what waits is in the spool."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a group is written: at `rows`, or `wait` seconds after its first batch. `memory` bounds the bytes of all
    batches that wait. What the store has not taken `patience` seconds after it came goes to the spool."""

    rows: int = 250_000
    wait: float = 0.02
    memory: int = 512 << 20
    patience: float = 2.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request that is not answered yet. `tried`: the spool did not take it, so only the store is left."""

    batch: Batch
    answer: Future[Accepted] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    tried: bool = False


class Committer:
    """Owns the writing threads; close it once. `written(rows, seconds)` is told of each group that was inserted,
    `drained(rows)` of what went from the spool into the store. Without a spool a store that is down is told to those
    who wait."""

    def __init__(
        self,
        sink: Sink,
        bounds: Bounds,
        written: Callable[[int, float], None] = lambda rows, seconds: None,
        spool: Spool | None = None,
        drained: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._sink, self.bounds, self._written, self.spool = sink, bounds, written, spool
        self._drain = Drain(spool, sink, bounds.rows, drained) if spool else None
        self._pending: deque[_Waiting] = deque()
        self._inserting: list[_Waiting] = []
        self._held = self._rows = 0
        lock = threading.Lock()
        self._changed, self._overflowed = threading.Condition(lock), threading.Condition(lock)
        self._closing = self._moving = False
        self._began = math.inf
        """When the insert, or the step of the drain, that is under way was begun."""
        self._late = -math.inf
        """When somebody was answered late last."""
        self._flowing, self._credit = True, 0.0
        self._refused = 0
        self._threads = [threading.Thread(target=self._run, name="commit", daemon=True)]
        if spool:
            self._threads.append(threading.Thread(target=self._spill, name="spool", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def held(self) -> int:
        """Bytes of batches that are not durable yet."""
        return self._held

    @property
    def drained(self) -> int:
        """Rows that went from the spool into the store since the start."""
        return self._drain.rows if self._drain else 0

    def refused(self) -> int:
        """How many batches there was no place for so far; not those that the engine itself refuses."""
        return self._refused

    def turn_away(self) -> None:
        """A batch was not even let in. That counts as no place where nobody gets on: those within wait for a store that
        does not take them."""
        with self._changed:
            self._refused += self._stands

    def alive(self) -> bool:
        """False once a writing thread has ended."""
        return all(thread.is_alive() for thread in self._threads)

    def behind(self) -> bool:
        """True while the store lacks events that were taken, or should have been, some time ago: it must not be asked
        who is missing."""
        with self._changed:
            return self._stands or self._spooled

    def pressed(self) -> bool:
        """True while more comes than is written: what else costs processors should wait."""
        return time.monotonic() - self._late < LATELY

    def submit(self, batch: Batch) -> Future[Accepted]:
        """The answer, given when the rows are durable; it raises what the store raised. Raises Busy when memory for
        waiting batches is used up, and once closing."""
        waiting = _Waiting(batch)
        waiting.answer.set_running_or_notify_cancel()  # who stops waiting does not stop the writing
        with self._changed:
            if self._closing:
                self._refused += 1
                raise Busy("the tracker is shutting down; send this again in a moment", "closing")
            if self._held and self._held + batch.size > self.bounds.memory:
                self._refused += 1
                raise Busy(f"{self._held >> 20} MiB wait to be stored already; the store is slower than the senders")
            self._pending.append(waiting)
            self._held += batch.size
            self._rows += batch.rows
            self._changed.notify_all()
            if self._spooled or self._crowded:
                self._overflowed.notify()
        return waiting.answer

    def close(self) -> None:
        """Write what waits, to the store or to the spool, then end; what is in the spool stays. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._overflowed.notify()
        for thread in reversed(self._threads):
            thread.join(LEAVE if self.spool else None)
            if thread.is_alive():
                log.error("store_did_not_answer", waited_s=LEAVE, next="its last insert may be there or not")

    # --- into the store -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (group := self._next()) is not None:
            if group:
                began = self._began
                self._write(group)
                now = time.monotonic()
                self._written(sum(one.batch.rows for one in group), now - began)
                if now - group[0].since > PRESSED:
                    self._late = now
                with self._changed:
                    self._inserting, self._began = [], math.inf
                    self._changed.notify_all()
            elif self._drain:
                self._empty(self._drain)

    def _empty(self, drain: Drain) -> None:
        """Take something out of the spool, or wait a while when the store takes nothing."""
        freed = drain.freed
        with self._changed:
            self._began = time.monotonic()
        pause = drain.step()
        with self._changed:
            self._flowing, self._began = not pause, math.inf
            self._credit = 0.0 if pause else self._credit + REFILL * (drain.freed - freed)
            self._overflowed.notify()
            self._changed.wait_for(lambda: self._closing, pause)

    def _next(self) -> list[_Waiting] | None:
        """The next group, in the order of arrival; empty when the spool has to be emptied first; None at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: not self._moving and (self._pending or self._spooled or self._closing))
                if self._spooled:
                    return None if self._closing else []
                if not self._pending:
                    return None
                self._changed.wait_for(self._ripe, self.bounds.wait)
                if not self._moving and not self._spooled:
                    self._inserting, self._began = self._take(), time.monotonic()
                    return self._inserting

    @property
    def _stands(self) -> bool:
        """Somebody has waited for too long."""
        waiting = [one.since for one in (*self._inserting, *self._pending) if not one.answer.done()]
        return time.monotonic() - min(waiting, default=math.inf) > self.bounds.patience

    @property
    def _spooled(self) -> bool:
        return bool(self.spool and self.spool.holds)

    @property
    def _crowded(self) -> bool:
        return self._held > self.bounds.memory * CROWDED

    def _ripe(self) -> bool:
        return self._closing or self._moving or self._rows >= self.bounds.rows

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        rows = 0
        while self._pending and (not group or rows + self._pending[0].batch.rows <= self.bounds.rows):
            group.append(self._pending.popleft())
            rows += group[-1].batch.rows
        self._rows -= rows
        return group

    def _write(self, group: Sequence[_Waiting]) -> None:
        try:
            with tracer.start_as_current_span("ingest.commit"):
                insert(self._sink, [one.batch for one in group])
        except Unavailable as error:
            self._keep_instead(group, error)
        except Exception as error:  # noqa: BLE001 - the one writing thread must live; the requests get the error
            self._write_apart(group, error)
        else:
            self._settle(group)

    def _write_apart(self, group: Sequence[_Waiting], error: Exception) -> None:
        """The engine refused the rows: find out whose, so that one request does not take the others down."""
        if len(group) > 1:
            for one in group:
                self._write([one])
            return
        log.error("insert_refused", error=str(error), rows=group[0].batch.rows)
        refused = error if isinstance(error, TrackerError) else Unavailable(f"the store refused an insert: {error}")
        self._settle(group, refused)

    # --- into the spool -----------------------------------------------------------------------------------------------

    def _keep_instead(self, group: Sequence[_Waiting], error: Unavailable) -> None:
        """The store is down: what of the group is not in the spool yet goes there."""
        if self.spool is None:
            self._settle(group, error, full=True)
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._moving)
            left = [one for one in group if not one.answer.done()]
            self._moving, self._flowing = bool(left), False
        if left:
            log.warning("store_down", reason=str(error), next="events go to the spool until it is back")
            self._keep(left, f"{error}; ")

    def _spill(self) -> None:
        """Where the store is too slow, or things wait in the spool: keep there what waits in memory."""
        while True:
            with self._changed:
                while self._moving or not self._overflows():
                    if self._closing and not self._pending and not self._unanswered():
                        return
                    self._overflowed.wait(self.bounds.patience / 4)
                group = self._stuck() + self._take()
                self._moving, self._flowing = True, self._spooled and self._flowing and not self._hangs()
            self._keep(group, "")

    def _unanswered(self) -> list[_Waiting]:
        """Who is being inserted, and could be kept in the spool instead."""
        return [one for one in self._inserting if not one.tried and not one.answer.done()]

    def _stuck(self) -> list[_Waiting]:
        """The same, where the insert takes too long."""
        return self._unanswered() if self._hangs() else []

    def _hangs(self) -> bool:
        return time.monotonic() - self._began > self.bounds.patience

    def _overflows(self) -> bool:
        """Something has to go into the spool now."""
        if self._stuck():
            return True
        if not self._pending:
            return False
        if self._spooled:
            return self._closing or self._credit > 0 or not self._flowing or self._hangs()
        late = time.monotonic() - self._pending[0].since > self.bounds.patience + self.bounds.wait
        return self._crowded or late

    def _keep(self, group: Sequence[_Waiting], because: str) -> None:
        """Into the spool, all or none. Who is being inserted too may still be lucky there."""
        assert self.spool is not None
        try:
            size = self.spool.append([one.batch for one in group])
        except Exception as error:  # noqa: BLE001 - as above: both threads must live
            for one in group:
                one.tried = True
            hopeless = [one for one in group if because or one not in self._inserting]
            self._settle(hopeless, Busy(f"{because}{error}", "spool"), full=True)
            size = 0
        else:
            self._settle(group)
        with self._changed:
            self._moving = False
            self._credit -= size
            self._changed.notify_all()
            self._overflowed.notify()

    def _settle(self, group: Sequence[_Waiting], error: Exception | None = None, full: bool = False) -> None:
        """Answer those of the group that are not answered yet; `full`: there was no place for them."""
        with self._changed:
            for one in group:
                if not one.answer.done():
                    self._held -= one.batch.size
                    self._refused += full
                    one.answer.set_exception(error) if error else one.answer.set_result(one.batch.answer)
            self._changed.notify_all()
