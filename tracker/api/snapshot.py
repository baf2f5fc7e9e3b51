"""Gauges that are read from the books when somebody looks, at most every few seconds whoever looks how often.

Findings are counted each time, for somebody is woken by them. Counting all messages, and working out the burn rates of
all flows, takes longer the more there are: each is done aside, no more often than that it takes a small share of the
time. Who looks waits for it for a moment, and else is shown what was there before.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import structlog

from tracker.api.aside import Aside
from tracker.api.recovery import recovery
from tracker.api.routes.slos import promised
from tracker.api.service import Service
from tracker.api.together import Failed, asked
from tracker.control.errors import ControlError
from tracker.model.errors import TrackerError
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Verdict
from tracker.reconcile.books import differences
from tracker.replay.breaker import State
from tracker.slo import gauges, metrics
from tracker.slo.recovery import PERIOD
from tracker.store.findings import ABANDONED, OPEN, PARKED

log = structlog.get_logger()

FRESH = 5 * SECOND
"""A snapshot serves for so long."""
PATIENCE = 0.3
"""Seconds that somebody who looks waits for what is worked out aside."""
RECENT = 3600 * SECOND
"""The span of origins over which the books are compared."""
CLOSING = 20.0
"""Seconds that it gets to finish at the end."""
CLOCKS = 20
"""So many nodes are shown by name: a collector's name is a label, so they must stay few."""
GIVEN_UP = (PARKED, ABANDONED)
"""Statuses of findings that nobody tries to bring back."""
LIVING = ("planned", "awaiting_approval", "approved", "running", "paused")
"""Statuses of replays that have not ended."""

Labels = dict[tuple[str, ...], float]


class Snapshot:
    """What is in the books, as gauges."""

    def __init__(self, service: Service, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._at = 0
        self._asides = (Aside("slo", self._judge, stopwatch), Aside("count", self._count, stopwatch))
        self._ending = False
        self._shown: dict[str, Labels] = {}
        self._sizes: dict[str, int] = {}

    @cached_property
    def _aside(self) -> Service:
        """The service, over a store that gives way to what others ask of it."""
        return replace(self._service, store=self._service.store.yielding())

    def refresh(self, now: int) -> None:
        """Read the books unless that was done just now. What cannot be read keeps its last value, but is said."""
        with self._lock:
            if now - self._at < FRESH:
                return
            self._at = now
            up = self._read(now, self._ping)
            self._service.metrics.set(metrics.STORE_UP, float(up))
            stored = (self._findings, self._store, self._clocks) if up else ()
            if self._read(now, self._threads, self._owners, self._control, *stored) and up:
                self._service.metrics.set(metrics.READ, now / SECOND)
        if up:
            patience = time.monotonic() + PATIENCE
            for wait in [aside.begin(now) for aside in self._asides]:
                wait(max(patience - time.monotonic(), 0))

    def close(self) -> None:
        """Wait for what is worked out aside to stop: it asks the store."""
        self._ending = True
        for aside in self._asides:
            aside.close(CLOSING)
        if "_aside" in self.__dict__:
            self._aside.store.close()

    def _judge(self, now: int) -> bool:
        judged = self._read(now, self._burning)
        if judged:
            self._service.metrics.set(metrics.JUDGED, now / SECOND)
        return judged

    def _count(self, now: int) -> bool:
        counted = self._read(now, self._messages, self._flows, self._objectives, self._recovery)
        if counted:
            self._service.metrics.set(metrics.COUNTED, now / SECOND)
        return counted

    def _read(self, now: int, *parts: Callable[[int], None]) -> bool:
        """Whether all of it could be read."""
        read = True
        for part in parts:
            try:
                part(now)
            except (TrackerError, ControlError) as error:
                read = False
                log.warning("metrics_incomplete", part=part.__name__, reason=str(error))
        return read

    def _ping(self, now: int) -> None:
        self._service.store.ping()

    def _threads(self, now: int) -> None:
        threads: Labels = {(name,): float(alive()) for name, alive in self._service.threads.items()}
        self._service.metrics.replace(metrics.THREAD_UP, threads)
        committer = self._service.intake.committer
        self._service.metrics.set(metrics.PENDING, committer.held)
        self._service.metrics.set(metrics.PENDING_LIMIT, committer.bounds.memory)
        spool = committer.spool
        if spool:
            self._service.metrics.set(metrics.SPOOL_BYTES, spool.size)
            self._service.metrics.set(metrics.SPOOL_LIMIT, spool.limit)
            self._service.metrics.set(metrics.SPOOL_OLDEST, (now - (spool.oldest() or now)) / SECOND)
            self._service.metrics.set(metrics.SPOOL_ASIDE, spool.set_aside)

    def _owners(self, now: int) -> None:
        specs = ((flow, known.spec, known.newest.version) for flow, known in self._service.specs.known().items())
        told: Labels = {(flow, spec.owner, spec.severity): version for flow, spec, version in specs}
        self._service.metrics.replace(metrics.FLOW_INFO, told)

    def _messages(self, now: int) -> None:
        shown, known = self._service.metrics, self._service.specs.known()
        counts = {flow: verdicts for flow, verdicts in self._aside.store.counts().items() if flow in known}
        self._sizes = {flow: sum(verdicts.values()) for flow, verdicts in counts.items()}
        shown.replace(metrics.MESSAGES, {(f, v): n for f, verdicts in counts.items() for v, n in verdicts.items()})

    def _findings(self, now: int) -> None:
        store, shown, known = self._service.store, self._service.metrics, self._service.specs.known()
        rows = store.finding_counts()
        found: Labels = {(r["flow"], r["hop"], r["kind"], r["status"]): r["n"] for r in rows if r["flow"] in known}
        shown.replace(metrics.FINDINGS, found)
        lost = Counter[tuple[str, ...]]()
        for r in rows:
            if r["flow"] in known and (r["status"] in GIVEN_UP or (r["status"], r["kind"]) == (OPEN, Verdict.lost)):
                lost[r["flow"], r["kind"]] += r["n"]
        shown.replace(metrics.LOST_FOR_GOOD, dict(lost))
        hops = {flow: frozenset(one.spec.hops) for flow, one in known.items()}
        marks = store.watermarks().items()
        shown.replace(metrics.WATERMARK, {at: end / SECOND for at, end in marks if at[1] in hops.get(at[0], ())})

    def _recovery(self, now: int) -> None:
        service, shown = self._service, self._service.metrics
        known, found = service.specs.known(), recovery(self._aside, now - PERIOD, now + 1, 2 * PERIOD)
        spans, ended, back, targets = Labels(), Labels(), Labels(), Labels()
        for one in (item for item in found.items if item.flow in known):
            for name, pair in one.spans.items():
                given = {"p50": pair.p50_s, "p90": pair.p90_s}.items()
                spans |= {(one.flow, one.kind, name, at): value for at, value in given if value is not None}
            ended |= {(one.flow, one.kind, outcome): n for outcome, n in one.outcomes.items()}
        for flow in found.flows:
            for said in flow.objectives:
                back[flow.flow, said.percentile] = math.inf if said.stands_s is None else said.stands_s
        for name, one_known in known.items():
            promised = one_known.spec.objectives.recovery
            for at in ("p50", "p90") if promised else ():
                if (target := getattr(promised, at)) is not None:
                    targets[name, at] = target / SECOND
        shown.replace(metrics.RECOVERY_SECONDS, spans)
        shown.replace(metrics.RECOVERY_FINDINGS, ended)
        shown.replace(metrics.RECOVERY_BACK, back)
        shown.replace(metrics.RECOVERY_TARGET, targets)

    def _store(self, now: int) -> None:
        tables = self._service.store.stats()
        for metric, what in (
            (metrics.STORE_ROWS, "rows"),
            (metrics.STORE_BYTES, "bytes"),
            (metrics.STORE_PARTS, "parts"),
        ):
            self._service.metrics.replace(metric, {(table,): size[what] for table, size in tables.items()})

    def _control(self, now: int) -> None:
        control, shown = self._service.control, self._service.metrics
        last = control.passes.last_finished()
        if last is not None and last.finished_at is not None:
            shown.set(metrics.PASS_NUMBER, last.number)
            shown.set(metrics.PASS_FINISHED, last.finished_at / SECOND)
            shown.set(metrics.PASS_SECONDS, (last.finished_at - last.started_at) / SECOND)
        open_ = control.incidents.page(status=("open", "acknowledged"), limit=1000).items
        shown.replace(metrics.INCIDENTS, dict(Counter((one.flow, one.status) for one in open_)))
        living = control.replays.page(status=LIVING, limit=1000).items
        shown.replace(metrics.REPLAYS, dict(Counter((one.status,) for one in living)))
        states: Counter[tuple[str, ...]] = Counter()
        for one in living:
            states.update({(state,): n for state, n in control.messages.counts(one.id).items()})
        shown.replace(metrics.REPLAY_MESSAGES, dict(states))
        targets = self._service.replays.targets() if self._service.replays else {}
        circuits: Labels = {(hop, one): float(to.circuit is one) for hop, to in targets.items() for one in State}
        shown.replace(metrics.REPLAY_CIRCUIT, circuits)
        shown.replace(metrics.REPLAY_IN_FLIGHT, {(hop,): to.in_flight for hop, to in targets.items()})

    def _clocks(self, now: int) -> None:
        offsets = self._service.store.node_clocks(now - RECENT, CLOCKS)
        self._service.metrics.replace(metrics.NODE_CLOCK, {(name,): off / SECOND for name, off in offsets.items()})

    def _flows(self, now: int) -> None:
        service, found, spots = self._aside, Labels(), Counter[tuple[str, ...]]()

        def of(specs: Sequence[FlowSpec]) -> None:
            differ, blind = differences(service.store, service.control, specs, now - RECENT, now)
            found.update({(flow,): difference for flow, difference in differ.items()})
            spots.update((flow, spot.hop, spot.stage, spot.cause) for flow, some in blind.items() for spot in some)

        failed = self._each(of)
        self._replace(metrics.CONSERVATION, found, failed)
        self._replace(metrics.BLIND_SPOTS, spots, failed)
        failed.told()

    def _burning(self, now: int) -> None:
        specs = [known.spec for known in self._service.specs.known().values()]
        for metric, values in gauges.deliveries(self._aside.store, specs, now).items():
            self._service.metrics.replace(metric, values)

    def _objectives(self, now: int) -> None:
        service = self._aside
        latency, lag = gauges.took(service.store, service.specs.known(), now)
        service.metrics.replace(metrics.LATENCY, latency)
        service.metrics.replace(metrics.REPLICATION_LAG, lag)
        met: Labels = {}

        def of(specs: Sequence[FlowSpec]) -> None:
            standing = [one for some in promised(service, specs, now) for one in some]
            met.update({(one.flow, one.objective): float(one.met) for one in standing if one.met is not None})

        failed = self._each(of)
        self._replace(metrics.OBJECTIVE_MET, met, failed)
        failed.told()

    def _each(self, work: Callable[[Sequence[FlowSpec]], None]) -> Failed:
        specs = [known.spec for known in self._service.specs.known().values()]
        return asked(specs, self._sizes, work, lambda: self._ending)

    def _replace(self, metric: metrics.Metric, found: Mapping[tuple[str, ...], float], failed: Failed) -> None:
        """Show what was found; flows that failed keep what is shown of them."""
        kept = {labels: value for labels, value in self._shown.get(metric.name, {}).items() if labels[0] in failed}
        self._shown[metric.name] = {**kept, **found}
        self._service.metrics.replace(metric, self._shown[metric.name])
