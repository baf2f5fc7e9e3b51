"""The emitter: takes observations, keeps them safe, brings them to the tracker.

    emitter = Emitter("http://tracker:8000", token, collector="billing-1", spool="/var/lib/billing/tracker")
    emitter.vouch([SourceRef("orders", "billing", "ack", "pod-7")])
    emitter.emit([event])        # in the memory-mapped spool when it returns: a SIGKILL loses nothing
    emitter.close()              # flush, sign off

**Epoch and sequence.** Every report has the next sequence; a report is sent until the tracker says yes, always with
the same sequence, sources and lines. Both numbers are kept in the spool folder, so after a restart, a SIGKILL too,
the *same epoch goes on* with the next sequence, old lines first: nothing was lost, so coverage has no hole. A new
epoch begins only where something may be missing: an empty or damaged folder, or another collector's.

**What a report vouches for.** An instrumented client (`reader=False`) sees things as they happen: a report vouches up
to now when it holds all that was emitted, else up to the moment when the first line that it does not hold was
emitted. A `reader` may be behind: its coverage moves only by `vouch(sources, lag)`, and only when all that was
emitted before that call was delivered. Refused lines (spool full) are declared as `dropped` when their place in the
order is reached, and reports list no sources until they vouch for later times again: a hole, never a false finding.

**Sign-off.** A client that closes ends: its sources are signed off. A reader that closes does not end what it watched:
partitions and queues go on without it, so they are let go and are uncovered until somebody comes back for them.

**Fork.** An emitter belongs to the process that made it; in a forked child `emit` raises `Forked`. What an observer
cannot emit there for that is declared by the process that made it: nobody vouches for that time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from collectors.base import NOTHING_YET_MS, Lag, Observation
from collectors.batch import Bounds
from collectors.clock import Clock, base_of, steady
from collectors.delivery import Delivery
from collectors.errors import Forked
from collectors.node_clock import NodeClock
from collectors.segment import Kind
from collectors.sender import Counts, Pace, Sender
from collectors.sources import Sources
from collectors.spool import LIMIT, REFUSED, Spool
from collectors.standing import STANDING, base_before, clocked, load
from tracker.model.coverage import SourceRef

_FORKED = "this emitter was made before a fork: make one in the child, with a spool folder of its own"
_LINES = Kind.lines  # Python 3.11 looks a member up by a call
CHUNK = 200
"""Lines per record of the spool; what a tracker that wants smaller batches can be given at least."""


class Emitter:
    """Any number of threads may call. `url` and `token` of the tracker; `collector` a name that no other running
    collector has; `spool` a folder that no other process uses, at most `limit` bytes. `clock` must not jump.
    `own_clock`: observations are dated by this host's wall clock, so the emitter measures how far that is off and
    reports it; by default a client's are and a reader's are not (it passes on what a broker's clock said).

    Raises `SpoolHeld` when another process has the folder, `ConfigInvalid` for a token that no header takes.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        collector: str,
        spool: str | os.PathLike[str],
        reader: bool = False,
        own_clock: bool | None = None,
        limit: int = LIMIT,
        timeout: float = 10.0,
        pace: Pace | None = None,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
    ) -> None:
        path = Path(spool) / STANDING
        given = clock is not None
        clock = clock or steady(base_before(path))
        self._reader, self.clock = reader, clock
        self._encoder = msgspec.json.Encoder()
        self._delivery = Delivery(url, token, timeout)
        self._spool = Spool(Path(spool), limit=limit, clock=clock)
        standing = clocked(load(path, collector, clock(), self._spool.lacks), 0 if given else base_of(clock))
        self._heir = standing.reached is not None
        self._spool.resume(standing.acknowledged, standing.undelivered)
        self._spool.prepare()
        self._sources = Sources(standing.sources, standing.begins)
        self._sender = Sender(
            self._spool, standing, self._sources, self._delivery,
            reader=reader, pace=pace or Pace(), bounds=bounds or Bounds(), clock=clock,
            node=NodeClock() if own_clock or (own_clock is None and not reader) else None,
        )  # fmt: skip
        self._forked = self._closed = False
        self._patience = 2 * timeout
        _watch_forks(self)
        self._thread = threading.Thread(target=self._sender.run, name=f"emitter {collector}", daemon=True)
        self._thread.start()

    def emit(self, observations: Sequence[Observation]) -> int:
        """Put observations into the spool; they are safe from a SIGKILL when this returns. Never waits for the tracker.

        Returns the position behind them, for `acknowledged`; `REFUSED` when the spool had no room for (some of) them:
        these are counted in `counts.dropped` and declared to the tracker. Raises `Forked`.
        """
        return self._put(observations, self._spool.append)

    def emit_line(self, line: bytes) -> int:
        """As `emit`, of one observation that is a line of NDJSON already, its newline included."""
        if self._forked:
            raise Forked(_FORKED)
        return self._spool.append(_LINES, line, 1)

    def offer(self, observations: Sequence[Observation]) -> int:
        """Like `emit`, for a reader that can wait and try again: `REFUSED` is not counted as a loss. (Of more than
        `CHUNK` observations a part may have been taken; a line that comes twice counts once.)"""
        return self._put(observations, self._spool.offer)

    def lost(self, count: int = 1) -> None:
        """Observations that could not even be made of what happened: nobody vouches for the time in which they lie. The
        one thing that a forked child can still say."""
        if self._forked:
            self._spool.lost_in_child(count)
        else:
            self._spool.lost(count)

    def vouch(self, sources: Sequence[SourceRef], lag: Lag | None = None, at: int | None = None) -> None:
        """Announce sources. A client: from now on everything that happens there is emitted; adds to those it has.

        A reader gives its `lag` each time: exactly these sources, and all that happened until `at` - lag was emitted.
        `at` is when the lag was taken, by `clock`; default now. A source left out once is not vouched for from its
        last report on until it is given again: what happened between is a blind spot.

        Raises `ConfigInvalid` for sources that no tracker would take, and `Forked`.
        """
        self._own()
        if not self._reader:
            self._sources.add(sources)
            return
        lag = lag or Lag()
        reached = (self.clock() if at is None else at) - lag.ms * 1000
        gone = self._sources.replace(sources, reached)
        if gone and self._spool.append(Kind.let_go, msgspec.json.encode(gone)) != REFUSED:
            self._sources.told()
        self._sender.behind = lag.backlog
        if lag.ms < NOTHING_YET_MS or not self._heir:  # what the process before this one vouched for stays true
            self._spool.append(Kind.mark, b"", at=reached)

    def sign_off(self, sources: Sequence[SourceRef]) -> None:
        """Nothing can happen on these any more (the process ends, the queue is deleted). Told to the tracker after
        all that was emitted before. Raises `Forked`."""
        self._own()
        ended = self._sources.end(sources)
        if ended and self._spool.append(Kind.signed_off, msgspec.json.encode(ended)) == REFUSED:
            self._sources.forget(ended)  # no room to end them in order: they vanish, which is safe

    def retire(self) -> None:
        """What an earlier process of this spool watched, a reader, is over: once all that it left is delivered, its
        sources end. The time between its last mark and that is not vouched for: nobody read."""
        self._sender.over = True
        self._sender.wake()

    @property
    def acknowledged(self) -> int:
        """Everything emitted up to this position is stored (or in quarantine) at the tracker."""
        return self._sender.position

    @property
    def sources(self) -> list[SourceRef]:
        """What is announced and not signed off, also what an earlier process of this spool left open."""
        return self._sources.listed()

    @property
    def counts(self) -> Counts:
        """Counters for a metrics page."""
        counts, spool = self._sender.counts, self._spool
        counts.emitted, counts.backlog, counts.spool_bytes = spool.appended, spool.backlog, spool.used
        counts.dropped = spool.refused
        return counts

    def wait(self, position: int, timeout: float) -> bool:
        """Wait until everything up to `position` is acknowledged, at most `timeout` seconds; whether it is."""
        with self._sender.acknowledged:
            return self._sender.acknowledged.wait_for(lambda: self.acknowledged >= position, timeout)

    def flush(self, timeout: float = 10.0) -> bool:
        """Send what was emitted until now without waiting for company; whether the tracker has it all."""
        self._sender.wake()
        return self.wait(self._spool.end, timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Flush, sign off a client's sources, stop. What the tracker did not take within `timeout` seconds stays in
        the spool for the next process; the answer says whether it took all. A request under way is waited for."""
        if self._closed or self._forked:
            return self._closed
        self._closed = True
        deadline = time.monotonic() + timeout
        if not self._reader:
            self._end_all()
        delivered = self.flush(max(0.0, deadline - time.monotonic()))
        self._sender.stop()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            return delivered  # a request that never ends: it keeps the folder until the process is gone
        self._delivery.close()
        self._spool.close()
        self._sender.leave()
        return delivered

    def __enter__(self) -> Self:
        """Itself; `close` at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _put(self, observations: Sequence[Observation], put: Callable[[Kind, bytes, int], int]) -> int:
        self._own()
        if len(observations) == 1:
            return put(Kind.lines, self._encoder.encode(observations[0]) + b"\n", 1)
        end = self._spool.end
        for start in range(0, len(observations), CHUNK):
            chunk = observations[start : start + CHUNK]
            taken = self._put_chunk(chunk, put)
            end = REFUSED if REFUSED in (taken, end) else taken
        return end

    def _put_chunk(self, chunk: Sequence[Observation], put: Callable[[Kind, bytes, int], int]) -> int:
        lines = self._encoder.encode_lines(chunk)
        if len(lines) <= self._spool.largest:
            return put(Kind.lines, lines, len(chunk))
        ends = [put(Kind.lines, self._encoder.encode(each) + b"\n", 1) for each in chunk]
        return REFUSED if REFUSED in ends else ends[-1]

    def _end_all(self) -> None:
        self.sign_off(self._sources.announced())

    def _own(self) -> None:
        if self._forked:  # before any lock is taken: one that another thread held at the fork is never released here
            raise Forked(_FORKED)

    def _in_child(self) -> None:
        self._forked = True
        self._spool.unlock()


def _watch_forks(emitter: Emitter) -> None:
    """The hook cannot be taken back, so it must not keep the emitter alive."""
    known = weakref.ref(emitter)

    def in_child() -> None:
        found = known()
        if found is not None:
            found._in_child()

    os.register_at_fork(after_in_child=in_child)
