"""The one loop that every collector runs in: read, decode, emit, and commit once the tracker said yes."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collectors.archiving import Archiving
from collectors.base import Collector, Observation, Raw
from collectors.clock import Clock, now_micros
from collectors.emitter import Emitter
from collectors.errors import CollectorError, Unavailable, Undecodable
from collectors.logs import logger
from collectors.rejects import Rejects
from collectors.spool import REFUSED

UNKNOWN_MS = 10**9
"""A lag from here on says that nothing was shown to be complete yet."""
_FIRST_FEW = 5
_STEP = 50_000
"""Microseconds by which what is vouched for has to move to count: lags are taken a moment after the clock is read."""
_NO_HEADERS: dict[str, bytes] = {}


@dataclass(frozen=True)
class Bounds:
    """`read`: records per read; `wait`: seconds that a read may wait; `in_flight`: records read and not committed;
    `backoff`: first and longest pause (s) while the system is unavailable, full jitter; `vouch_every`: seconds."""

    read: int = 1000
    wait: float = 0.2
    in_flight: int = 50_000
    backoff: tuple[float, float] = (0.2, 30.0)
    vouch_every: float = 0.1


@dataclass(frozen=True)
class Health:
    """A snapshot. Times in epoch microseconds, 0 before the first: `last_read` is the last read that gave records or
    showed that there were none, `lag_at` when `lag_ms` was taken. `failures` since then, `errors` of all time."""

    name: str
    state: str = "starting"
    last_read: int = 0
    lag_ms: int = 0
    lag_at: int = 0
    backlog: int = 0
    in_flight: int = 0
    read: int = 0
    committed: int = 0
    undecodable: int = 0
    failures: int = 0
    errors: int = 0
    last_error: str = ""


class Runner:
    """Runs `collector` with `emitter` (a `reader`) until `stop`; both are closed at the end. Records that cannot be
    decoded are kept in `rejects`, a file. `archive` keeps the messages themselves. `clock` dates the health snapshot,
    `chance` gives the jitter.

    Commits come in the order of reads, each after the tracker's yes, and after the archive's. Reading pauses at
    `in_flight` uncommitted records, when the spool is full and when the archive has no room, so a tracker or a store
    that is away stops the reading and loses nothing: the system holds what was not read, and says so by its lag.
    """

    def __init__(
        self,
        name: str,
        collector: Collector,
        emitter: Emitter,
        rejects: Path,
        *,
        bounds: Bounds | None = None,
        archive: Archiving | None = None,
        clock: Clock = now_micros,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.health = Health(name)
        self._archive = archive
        self._collector, self._emitter, self._rejects = collector, emitter, Rejects(rejects)
        self._bounds, self._clock, self._chance = bounds or Bounds(), clock, chance
        self._decode_all: Callable[[Sequence[Raw]], Sequence[Observation]] | None
        self._decode_all = getattr(collector, "decode_all", None)
        self._ends_of: Callable[[Sequence[Raw]], Sequence[Raw]] | None = getattr(collector, "ends_of", None)
        self._flying: deque[tuple[int, int, int, list[Raw]]] = deque()
        """Position in the spool, number in the archive, how many records, those of them that a commit needs."""
        self._stopping = threading.Event()
        self._vouched_at = -self._bounds.vouch_every
        self._reached = 0
        self._log = logger("collectors.runner").bind(collector=name)

    def run(self, grace: float = 10.0) -> None:
        """Until `stop`, or until the collector says that trying again is no use: that error is raised at the end.
        Then finish: what was read is delivered and committed within `grace` seconds, the rest comes again."""
        try:
            if self._archive:
                self._archive.start()
            while not self._stopping.is_set():
                self._round()
        except CollectorError as error:
            self._log.error("collector stopped: trying again would not help", error=str(error))
            self._note(state="failed", last_error=str(error))
            raise
        finally:
            self._finish(grace)

    def stop(self) -> None:
        """Finish and return from `run`. From any thread or signal handler."""
        self._stopping.set()

    def _round(self) -> None:
        try:
            self.step()
        except Unavailable as error:
            self._back_off(error)

    def step(self) -> int:
        """One round; how many records it read. Raises what the collector raises."""
        self._commit()
        if self.health.in_flight >= self._bounds.in_flight:
            self._wait_for_oldest()
            return 0
        raws = self._collector.read(self._bounds.read, self._bounds.wait)
        if raws:
            self._take(raws)
        moved = not self._stopping.is_set() and self._vouch()
        if raws or moved:  # an empty answer may only mean that none has come yet
            self._note(state="running", last_read=self._clock(), failures=0, last_error="")
        return len(raws)

    def _take(self, raws: Sequence[Raw]) -> None:
        of, seen = self._observed(raws)
        position = self._emitter.offer(seen)
        while position == REFUSED and not self._stopping.is_set():
            self._note(state="waiting", last_error="spool full: waiting for the tracker")
            self._emitter.wait(self._emitter.acknowledged + 1, self._bounds.wait)
            position = self._emitter.offer(seen)
        if position == REFUSED:
            return  # not committed, so it comes again at the next start
        number = self._archived(of, seen)
        if number == REFUSED:
            return
        needed = raws if self._ends_of is None else self._ends_of(raws)
        kept = [Raw(b"", _NO_HEADERS, None, raw.position) for raw in needed]
        self._flying.append((position, number, len(raws), kept))
        self._note(read=self.health.read + len(raws), in_flight=self.health.in_flight + len(raws))

    def _archived(self, of: Sequence[Raw], seen: Sequence[Observation]) -> int:
        """Their number in the archive, as soon as there is room; `REFUSED` when there is none and all is to end."""
        if self._archive is None:
            return 0
        number = self._archive.add(of, seen)
        while number == REFUSED and not self._stopping.is_set():
            if why := self._archive.archived.error:
                self._note(state="waiting", last_error=why)
            self._archive.room(self._bounds.wait)
            self._commit()
            number = self._archive.add(of, seen)
        return number

    def _wait_for_oldest(self) -> None:
        position, number, *_ = self._flying[0]
        if self._emitter.wait(position, self._bounds.wait) and self._archive:
            self._archive.wait(number, self._bounds.wait)
            if why := self._archive.archived.error:
                self._note(state="waiting", last_error=why)

    def _observed(self, raws: Sequence[Raw]) -> tuple[Sequence[Raw], Sequence[Observation]]:
        """What was observed, all at once where the collector can and each of them decodes, else one by one; and of each
        the record that shows it."""
        if self._decode_all is not None:
            try:
                return raws, self._decode_all(raws)
            except Exception:  # noqa: BLE001 - which record it was, and what to do with it, `_decoded` finds out
                self._log.debug("some record cannot be decoded: decoding one by one")
        of: list[Raw] = []
        seen: list[Observation] = []
        for raw in raws:
            decoded = self._decoded(raw)
            seen += decoded
            of += [raw] * len(decoded)
        return of, seen

    def _decoded(self, raw: Raw) -> Sequence[Observation]:
        try:
            return self._collector.decode(raw)
        except Undecodable as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - one record that breaks a decoder must not stop all others
            reason = f"defect of the collector: {error!r}"
            self._emitter.lost()
        kept = self._rejects.keep(raw, reason)
        self._note(undecodable=self.health.undecodable + 1)
        if self.health.undecodable <= _FIRST_FEW:
            self._log.warning("record set aside: it cannot be decoded", at=raw.position, reason=reason, kept=kept)
        return ()

    def _vouch(self) -> bool:
        """Everything read was emitted, so coverage may move: to the moment before the lag was asked for. Whether it
        did: the system was reached."""
        at = self._emitter.clock()
        if at - self._vouched_at < self._bounds.vouch_every * 1e6:
            return False
        lag, sources = self._collector.lag(), self._collector.sources()
        if sources is None:
            return False
        self._emitter.vouch(sources, lag, at)
        if self._archive:
            self._archive.vouch(sources, at - lag.ms * 1000 if lag.ms < UNKNOWN_MS else None)
        self._vouched_at = at
        self._note(lag_ms=lag.ms, lag_at=self._clock(), backlog=lag.backlog)
        reached = at - lag.ms * 1000
        moved = lag.ms < UNKNOWN_MS and reached > self._reached + _STEP
        self._reached = reached if moved else self._reached
        return moved

    def _commit(self) -> None:
        done: list[Raw] = []
        batches = records = 0
        acknowledged, durable = self._emitter.acknowledged, self._archive.durable if self._archive else 0
        for position, number, count, raws in self._flying:
            if position > acknowledged or number > durable:
                break
            done += raws
            batches += 1
            records += count
        if not batches:
            return
        self._collector.commit(done)
        for _ in range(batches):
            self._flying.popleft()
        self._note(in_flight=self.health.in_flight - records, committed=self.health.committed + records)

    def _back_off(self, error: Unavailable) -> None:
        first, longest = self._bounds.backoff
        if str(error) != self.health.last_error:
            self._log.warning("system unavailable; will try again", error=str(error))
        pause = self._chance() * min(longest, first * 2 ** min(self.health.failures, 20))
        self._note(
            state="unavailable",
            failures=self.health.failures + 1,
            errors=self.health.errors + 1,
            last_error=str(error),
        )
        self._stopping.wait(pause)

    def _finish(self, grace: float) -> None:
        failed, until = self.health.state == "failed", time.monotonic() + grace
        try:
            if self._flying or self._emitter.sources:  # else there is nothing that the tracker could say yes to
                self._emitter.flush(grace)
            if self._archive and self._flying and not failed:
                newest = max(number for _, number, *_ in self._flying)
                self._archive.wait(newest, max(0.0, until - time.monotonic()))
            self._commit()
        except CollectorError as error:
            self._log.warning("last commit failed: these records come again", error=str(error))
        finally:
            self._emitter.close(timeout=0.1)
            if self._archive:
                self._archive.close()
            self._collector.close()
            if not failed:
                self._note(state="stopped")

    def _note(self, **changes: object) -> None:
        self.health = replace(self.health, **changes)  # type: ignore[arg-type]
