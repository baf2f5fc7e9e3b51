"""The background side of an emitter: one report at a time, in order, until the tracker says yes."""

from __future__ import annotations

import math
import statistics
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import tenacity

from collectors.batch import Batch, Bounds, next_batch, payload
from collectors.clock import Clock, now_micros
from collectors.dating import Asks, Dating
from collectors.delivery import Answer, Outcome
from collectors.logs import logger
from collectors.node_clock import NodeClock
from collectors.rejects import Rejects
from collectors.sources import Sources
from collectors.spool import Spool
from collectors.standing import STANDING, Pending, Standing, save
from tracker.model.coverage import Report, SourceRef

SLACK = 0.02
"""Seconds; see `Sender.lag`."""
TIDY = 0.1
"""Seconds, at most, between two looks after the spool's files while the tracker does not say yes."""
SMALLEST = 16 * 1024
"""Bytes below which a refused batch (413) is not halved any further."""


@dataclass
class Counts:
    """What an emitter did, in lines unless said otherwise. `retries` and `reports` are requests. `answered_at`: when
    the tracker last said yes, by the wall clock (epoch µs); before the first time, when the emitter was made."""

    emitted: int = 0
    sent: int = 0
    acknowledged: int = 0
    dropped: int = 0
    quarantined: int = 0
    retries: int = 0
    reports: int = 0
    backlog: int = 0
    spool_bytes: int = 0
    spool_limit: int = 0
    answered_at: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class Pace:
    """Seconds: `linger` how long lines wait for company, `heartbeat` the longest silence, `backoff` the first and
    the longest pause after a failure (full jitter), `slow` the pause when only a person can help."""

    linger: float = 0.1
    heartbeat: float = 1.0
    backoff: tuple[float, float] = (0.1, 10.0)
    slow: float = 30.0


class Delivers(Asks, Protocol):
    """What a sender needs of `collectors.delivery.Delivery`."""

    @property
    def round_trip(self) -> float:
        """Seconds that the last request took."""
        ...

    def send(self, lines: bytes, report: Report) -> Answer:
        """Post lines and report, once."""
        ...


class Sender:
    """Takes batches from the spool to the tracker. `run` is the thread's body; `step` does one report."""

    def __init__(
        self,
        spool: Spool,
        standing: Standing,
        sources: Sources,
        delivery: Delivers,
        *,
        reader: bool,
        pace: Pace,
        bounds: Bounds,
        clock: Clock,
        node: NodeClock | None = None,
    ) -> None:
        self.counts = Counts(spool_limit=spool.limit, answered_at=now_micros())
        self.acknowledged = threading.Condition()
        """Notified whenever the tracker said yes."""
        self.behind = 0
        """How many records a reader has not read yet, for the report's `backlog`."""
        self.over = False
        """Whether all that was watched ends once everything is delivered."""
        self._dark = False
        self._spool, self._standing, self._sources, self._delivery = spool, standing, sources, delivery
        self._reader, self._pace, self._bounds, self._clock = reader, pace, bounds, clock
        self._dating = Dating(node, standing, spool, delivery, clock)
        self._path = spool.folder / STANDING
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._trips: list[float] = []
        self._reported_at = -float("inf")
        self._log = logger("collectors.emitter").bind(collector=standing.collector)
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda answer: answer.outcome in (Outcome.again, Outcome.refused)),
            wait=self._pause,
            stop=tenacity.stop_when_event_set(self._stopping),
            sleep=self._rest,
            before_sleep=self._failed,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )

    @property
    def position(self) -> int:
        """The spool position up to which the tracker has everything."""
        return self._standing.acknowledged

    def run(self) -> None:
        """Until `stop`: send what there is, then wait for more or for the heartbeat."""
        while not self._stopping.is_set():
            if not self._safe_step():
                self._wake.wait(self._pace.linger)
                self._wake.clear()

    def wake(self) -> None:
        """Do not wait for company."""
        self._wake.set()

    def stop(self) -> None:
        """Give up after the request under way. What was not acknowledged stays in the spool."""
        self._stopping.set()
        self._wake.set()

    def leave(self) -> None:
        """An orderly end: everything is on disk, whatever becomes of the host."""
        self._standing.boot = ""
        self._keep(self._standing.pending, self._standing.sources)

    def step(self) -> bool:
        """Send one report if one is due; True when the tracker said yes to it (or asked for a smaller one)."""
        due = self._resumed(self._standing.pending) if self._standing.pending else self._prepared()
        if due is None:
            return False
        pending, lines = due
        answer: Answer = self._retrying(self._attempt, pending, lines)
        if answer.outcome is Outcome.too_large:
            self._shrink(pending, lines, answer)
            return True
        if answer.outcome is not Outcome.stored:
            return False
        self._settle(pending, answer)
        return True

    def _safe_step(self) -> bool:
        try:
            self._spool.prepare()
            return self.step()
        except Exception:  # noqa: BLE001 - the top of a thread: were it to end here, nothing would be sent any more
            self._log.exception("sending failed: a defect of the emitter; the spool keeps the lines")
            self._stopping.wait(self._pace.slow)
            return False

    def lag(self, reached: int | None) -> int:
        """Milliseconds for a report that vouches up to `reached`.

        The tracker dates the report at its receipt minus this, and the receipt comes after this moment by the time of
        the way there. That time is not known, only bounded by the round trip, so the usual round trip (the median of
        the last ones, at least 20 ms) is added: a coverage that is a little late is safe, one that runs ahead of the
        events is not. What remains: a request that is held up on its way for longer than a usual round trip claims
        too much by as much, until the batch behind it arrives, which is sent at once.
        """
        if reached is None:
            return 0
        slack = max(SLACK, statistics.median(self._trips)) if self._trips else SLACK
        return -(-max(0, self._clock() - reached) // 1000) + math.ceil(slack * 1000)

    def _resumed(self, pending: Pending) -> tuple[Pending, bytes]:
        """A report of before and its lines, from the spool."""
        return pending, payload(self._spool, pending.start, pending.end) if pending.report.events else b""

    def _prepared(self) -> tuple[Pending, bytes] | None:
        """The next report and its lines, put on disk before it is sent; None when none is due."""
        batch = next_batch(self._spool, self._standing, self._bounds, self._reader)
        if self.over and batch.end == self._standing.acknowledged and batch.drained and not batch.declared:
            return self._last(batch.drained)
        ending = self._sources.still_ending(batch.signed_off) + self._orphaned(batch)
        listed = self._sources.listed()
        due = self.over or time.monotonic() >= self._reported_at + self._pace.heartbeat
        news = batch.events or batch.declared or ending or batch.let_go
        if not (news or (due and listed)):
            return None
        silent = {*ending, *batch.let_go}
        report = Report(
            collector=self._standing.collector,
            epoch=self._standing.epoch,
            sequence=self._standing.sequence + 1,
            events=batch.events,
            dropped=batch.declared,
            sources=[source for source in listed if source not in silent],
            signed_off=ending,
        )
        pending = Pending(
            report=report, start=self._standing.acknowledged, end=batch.end,
            reached=batch.reached, blind_until=batch.blind_until, settles=batch.settles, let_go=batch.let_go,
        )  # fmt: skip
        self._dating.say(pending)
        self._keep(pending, listed)
        self._spool.settle(batch.settles)
        return pending, batch.payload

    def _orphaned(self, batch: Batch) -> list[SourceRef]:
        """Client processes that are gone: whatever they saw was in the spool, so they end once it is drained, and once
        a report may say so."""
        if self._reader or batch.end < self._spool.opened_end:
            return []
        return [] if self._is_dark(batch.reached, batch.blind_until) else self._sources.inherited()

    def _last(self, now: int) -> tuple[Pending, bytes] | None:
        """A reader's sources are over, and all that it read is delivered: they end `now`. Nobody read since its last
        mark, so this report has an epoch of its own: it vouches for none of that time."""
        ending, standing = self._sources.listed(), self._standing
        if not ending or now <= standing.blind_until:
            return None
        standing.epoch, standing.sequence = max(standing.epoch + 1, now // 1000), 0
        report = Report(collector=standing.collector, epoch=standing.epoch, sequence=1, signed_off=ending)
        pending = Pending(
            report=report, start=standing.acknowledged, end=standing.acknowledged,
            reached=now, blind_until=standing.blind_until, clocked=True, last=True,
        )  # fmt: skip
        self._keep(pending, ending)
        return pending, b""

    def _keep(self, pending: Pending | None, listed: list[SourceRef]) -> None:
        """On disk before the request and after the answer. Where the disk takes no more, going on is the lesser evil:
        after a SIGKILL lines may come twice, which counts once."""
        self._standing.pending = pending
        self._standing.sources, self._standing.begins = listed, self._sources.begins(self._standing.reached)
        try:
            save(self._path, self._standing)
        except OSError as error:
            self._log.error("cannot write the collector's standing", file=str(self._path), error=str(error))

    def _attempt(self, pending: Pending, lines: bytes) -> Answer:
        if not pending.clocked:
            unreachable = self._dating.ask(pending)
            if unreachable:
                return unreachable
            self._keep(pending, self._standing.sources)
        lag = self.lag(pending.reached)
        self._dark = self._is_dark(pending.reached, pending.blind_until)
        if pending.last:  # ends that are dated a little late claim nothing, those that are dated early do
            lag, self._dark = max(0, self._clock() - (pending.reached or self._clock())) // 1000, False
        dated = self._clock() - lag * 1000  # the tracker dates it here, or a little later
        report = msgspec.structs.replace(
            pending.report,
            lag_ms=lag,
            backlog=max(0, self._spool.backlog - pending.report.events) + self.behind,
            sources=[] if self._dark else self._sources.begun(pending.report.sources, dated),
            signed_off=[] if self._dark else pending.report.signed_off,
        )
        self.counts.sent += report.events
        answer = self._delivery.send(lines, report)
        self._trips = [*self._trips[-8:], self._delivery.round_trip]
        self._dating.heard()
        return answer

    def _is_dark(self, reached: int | None, blind_until: int) -> bool:
        """Whether a report that reaches so far may say nothing of any source: neither that it is vouched for, nor that
        it ends."""
        return reached is None or self._clock() - self.lag(reached) * 1000 <= blind_until

    def _settle(self, pending: Pending, answer: Answer) -> None:
        report, standing = pending.report, self._standing
        if self._dark:
            self._sources.unsaid(report.signed_off)
        else:
            self._sources.forget(report.signed_off)
        self._sources.let_go(pending.let_go, self._clock())
        standing.sequence, standing.acknowledged = report.sequence, pending.end
        standing.reached, standing.blind_until = pending.reached, pending.blind_until
        if pending.last:
            standing.epoch, standing.sequence, standing.reached = report.epoch + 1, 0, None
        self._keep(None, self._sources.listed())
        self._spool.release(pending.end, report.events)
        self._reported_at = time.monotonic()
        self._count(report, answer)
        with self.acknowledged:
            self.acknowledged.notify_all()

    def _count(self, report: Report, answer: Answer) -> None:
        counts = self.counts
        counts.acknowledged += report.events
        counts.reports += 1
        counts.answered_at = now_micros()
        if answer.quarantined:
            counts.quarantined += answer.quarantined
            self._log.warning(
                "tracker put lines in quarantine: it keeps them, they are not counted until they are resubmitted",
                lines=answer.quarantined, errors=answer.errors,
            )  # fmt: skip
        if counts.last_error:
            self._log.info("tracker takes reports again", backlog=self._spool.backlog)
            counts.last_error = ""

    def _shrink(self, pending: Pending, lines: bytes, answer: Answer) -> None:
        """The tracker (or a proxy) wants fewer bytes: halve, or set aside what cannot be halved."""
        self._trips = self._trips[:-1]
        if len(lines) > SMALLEST and pending.report.events > 1:
            self._bounds = Bounds(max(1, pending.report.events // 2), max(SMALLEST, len(lines) // 2))
            self._log.warning("batch too large for the tracker: halved", bytes=len(lines), reason=answer.reason)
            self._keep(None, self._standing.sources)
            self._spool.settle(-pending.settles)
            return
        self._log.error("lines too large for the tracker: given up, see rejected.ndjson", reason=answer.reason)
        Rejects(self._spool.folder / "rejected.ndjson").keep_lines(lines)
        lost = pending.report.events
        report = msgspec.structs.replace(pending.report, events=0, dropped=pending.report.dropped + lost)
        self._keep(msgspec.structs.replace(pending, report=report, blind_until=self._clock()), self._standing.sources)
        self._spool.give_up(lost)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        answer: Answer = state.outcome.result() if state.outcome else Answer(Outcome.again)
        if answer.outcome is Outcome.refused:
            return self._pace.slow
        first, longest = self._pace.backoff
        return max(answer.wait, tenacity.wait_random_exponential(multiplier=first, max=longest)(state))

    def _rest(self, seconds: float) -> None:
        """Between two attempts. Who writes meanwhile finds the spool's next segment ready."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, TIDY)):
            self._spool.prepare()

    def _failed(self, state: Any) -> None:
        answer: Answer = state.outcome.result()
        self.counts.retries += 1
        if answer.reason == self.counts.last_error:
            return
        self.counts.last_error = answer.reason
        advice = "check URL and token" if answer.outcome is Outcome.refused else "will try again"
        self._log.warning("tracker does not take reports; the spool keeps them", reason=answer.reason, advice=advice)
