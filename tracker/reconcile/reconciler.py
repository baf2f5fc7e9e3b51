"""The reconciler: pass after pass, what is new and what is due becomes states, verdicts, findings, incidents.

The order of writes in a pass is findings, states, incidents, coverage, and last the pass row. A pass that was cut
short is done again with the same number, `now` and bounds, and then leaves the same rows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import pyarrow as pa
import structlog

from tracker.control import Control
from tracker.control.errors import ControlError
from tracker.control.flows import FlowVersion, in_force
from tracker.control.passes import Pass
from tracker.model.coverage import ASSUME_FOR, Coverage
from tracker.model.errors import TrackerError
from tracker.model.event import Event, Range
from tracker.model.spec import FlowSpec, load_spec
from tracker.reconcile import rows as filled
from tracker.reconcile.cover import Cover, columns
from tracker.reconcile.drafts import Drafts
from tracker.reconcile.exceptions import Bench, judge_batch
from tracker.reconcile.incidents import Incidents
from tracker.reconcile.lead import Lead
from tracker.reconcile.openings import openings
from tracker.reconcile.order import judge_order
from tracker.reconcile.plain import Court, judge_plain
from tracker.store import Store
from tracker.store.bounds import Bounds, from_json
from tracker.store.folding import Reach
from tracker.store.shape import Shape

log = structlog.get_logger()

LIMIT = 50_000_000
"""About how many new rows a pass takes on at most, a minute of work or so. What bounds memory are portions."""
STANDBY_S = 1.0
"""How often a tracker that does not lead looks whether it has to."""
REST = 0.6
"""How long to rest after a pass, in passes, and at most the interval: what comes meanwhile costs the next one less than
a pass of its own, and the engine merges. What is overdue is found after two passes and a rest at the latest."""
BATCH = 5_000
"""How many messages are handed to the reference judge at once."""


def now_us() -> int:
    """The tracker's clock: epoch microseconds."""
    return time.time_ns() // 1000


class PassResult(msgspec.Struct, frozen=True):
    """What one pass did. `number` is 0 when there was nothing to do."""

    number: int = 0
    messages: int = 0
    opened: int = 0
    recovered: int = 0
    withdrawn: int = 0
    seconds: float = 0.0

    def __add__(self, other: PassResult) -> PassResult:
        """Both together; the number is this one's."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__[1:]}
        return PassResult(self.number, **sums)


class Known(msgspec.Struct, frozen=True):
    """One flow as the reconciler knows it: every version of its spec, and its bits."""

    versions: list[FlowVersion]
    specs: dict[int, FlowSpec]
    checkpoint_bits: dict[tuple[str, str], int]
    hop_bits: dict[str, int]

    @property
    def newest(self) -> FlowVersion:
        """The version that new messages are judged by."""
        return self.versions[-1]

    @property
    def others(self) -> list[FlowSpec]:
        """All versions, the newest first."""
        return [self.specs[version.version] for version in reversed(self.versions)]

    def spec_at(self, origin: int) -> FlowSpec:
        """The spec in force at this origin time; the first version reaches back without limit."""
        version = in_force(self.versions, origin) or self.versions[0]
        return self.specs[version.version]


class _Hearing(msgspec.Struct, frozen=True):
    """What one flow's messages are judged by in one pass."""

    work: Pass
    known: Known
    spec: FlowSpec
    coverage: Coverage
    court: Court
    bounds: Bounds
    incidents: Incidents
    drafts: Drafts

    def incident_for(self, hop: str, stage: str, kind: str) -> str:
        """The incident that a finding of this pass belongs to."""
        return self.incidents.belongs_to(self.spec.flow, hop, stage, kind, self.work.number, self.court.now)


class _Why(msgspec.Struct, frozen=True):
    """Why a flow is looked at in a pass: it has new events, new range evidence, its coverage grew, or it was away, and
    all there is of it counts as new. None of these: messages are due."""

    events: bool
    moved: bool
    leapt: bool
    again: bool


class Reconciler:
    """Runs passes. One at a time per installation; `run` is for a thread of its own. No pass is begun while `behind`
    says that the store lacks events that were received: they must not be called missing."""

    def __init__(
        self,
        store: Store,
        control: Control,
        clock: Callable[[], int] = now_us,
        behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._control, self._clock, self._behind = store, control, clock, behind
        self._cover: Cover | None = None
        self._heard: dict[tuple[str, str, str], int] = {}
        self._flows: dict[str, Known] = {}
        self._revision = -1
        self._incidents: Incidents | None = None

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event, interval: float = 0.5) -> None:
        """Pass after pass until `stop`, while this process holds the lease; what fails is logged and tried again, with
        more patience each time."""
        lead = Lead(self._control, self._store.engine.embedded, now_us)
        try:
            self._run(lead, stop, interval)
        finally:
            lead.close()

    def _run(self, lead: Lead, stop: threading.Event, interval: float) -> None:
        patience = interval
        while not stop.is_set():
            try:
                if not lead.take():
                    self._forget()  # what is known now, the one that leads will have changed
                    stop.wait(STANDBY_S)
                    continue
                result = self.run_pass(lead.finish)
            except (TrackerError, ControlError) as error:
                log.error("reconciler.pass_failed", error=str(error), again_in_s=patience)
                stop.wait(patience)
                patience = min(patience * 2, 30.0)
                continue
            patience = interval
            if result.opened or result.recovered or result.withdrawn:
                log.info("reconciler.pass", **msgspec.structs.asdict(result))
            stop.wait(max(interval - result.seconds, min(result.seconds * REST, interval)))

    def run_pass(self, finish: Callable[[int], None] | None = None) -> PassResult:
        """One pass, or first the one that a crash left. Does nothing when nothing is new and nothing is due.

        `finish` records that a pass is stored; without it nobody else may be running passes.
        """
        started = time.monotonic()
        try:
            result = self._pass(finish or self._finish)
        except BaseException:
            self._forget()  # half of the pass is in it
            raise
        return msgspec.structs.replace(result, seconds=time.monotonic() - started)

    def _pass(self, finish: Callable[[int], None]) -> PassResult:
        _, incidents = self._load()
        cut_short = self._control.passes.unfinished()
        work = cut_short or self._begin()
        if work is None:
            return PassResult()
        if cut_short:
            incidents.touched.update(self._store.incidents_of_pass(work.number))
        result = self._carry_out(work, from_json(work.bounds))
        finish(work.number)
        return result

    def _finish(self, number: int) -> None:
        self._control.passes.finish(number, self._clock())

    def _forget(self) -> None:
        """What is known is read from the stores again."""
        self._cover = self._incidents = None

    def _begin(self) -> Pass | None:
        if self._behind():
            return None
        last = self._control.passes.last_finished()
        before = from_json(last.bounds) if last else Bounds()
        bounds = before.next(self._store.stored_since(before), last.started_at if last else 0, LIMIT)
        now = max(self._clock(), last.started_at + 1 if last else 0)
        if bounds.empty and not self._store.due_flows(bounds, now) and not self._control.flows.to_fold_again():
            return None
        return self._control.passes.begin(now, msgspec.to_builtins(bounds, str_keys=True))

    # --- one pass -------------------------------------------------------------------------------------------------

    def _carry_out(self, work: Pass, bounds: Bounds) -> PassResult:
        cover, incidents = self._load()
        heard = self._store.heard(bounds)
        rows, back = Counter[str](), set[str]()
        for h in heard:
            before = self._heard.get((h.flow, h.hop, h.stage), 0)
            self._heard[h.flow, h.hop, h.stage] = max(before, h.received_at)
            rows[h.flow] += h.events
            if h.received_at > before + ASSUME_FOR:  # what was assumed to be silent there was none
                back.add(h.flow)
        cover.fold(self._store.new_reports(bounds))
        with_events = set(rows)
        rows.update(self._store.due_flows(bounds, work.started_at))
        ranged = {flow for flow, _, _ in self._store.ranged(bounds)}
        leapt = cover.take_leapt() | back
        left = {flow: out for flow, out in self._control.flows.to_fold_again().items()
                if flow in self._flows and out.version <= self._flows[flow].newest.version}  # fmt: skip
        again = {flow for flow, out in left.items() if out.came_back or self._store.left_out(flow, bounds)}
        total, drafts = PassResult(work.number), Drafts(self._store, work.started_at)
        self._store.begin_folding()
        for flow in sorted((set(rows) | ranged | leapt | again) & set(self._flows)):
            why = _Why(flow in with_events, flow in ranged, flow in leapt, flow in again)
            total += self._flow(work, bounds, flow, rows[flow], why, drafts)
        drafts.store()
        for flow in sorted(with_events & set(self._flows)):
            judge_order(self._store, self._flows[flow].specs[self._flows[flow].newest.version], bounds, work.number)
        self._settle(incidents, work.started_at)
        self._store.remember_heard(heard)
        runs = cover.take_changed()
        self._store.keep("coverage", columns(runs, work.number))
        for flow, out in left.items():
            self._control.flows.folded_again(flow, out)
        return total

    def _flow(self, work: Pass, bounds: Bounds, flow: str, rows: int, why: _Why, drafts: Drafts) -> PassResult:
        """Fold, judge and keep one flow's part of the pass, portion by portion. `rows`: how many new events and due
        messages it has."""
        cover, incidents = self._load()
        known = self._flows.get(flow)
        if known is None:
            return PassResult()  # it was deleted meanwhile
        spec = known.specs[known.newest.version]
        coverage = cover.coverage(spec, self._heard)
        shape = Shape(spec, known.checkpoint_bits, known.hop_bits)
        ranged = self._store.range_targets(flow)
        targets = [place for place in ranged if place in known.checkpoint_bits and not coverage.vouches(*place)]
        reach = Reach(
            shape, bounds, work.number, work.started_at, rows, why.events, targets, why.moved and bool(targets),
            why.leapt, why.again, _in_force(known),
        )  # fmt: skip
        court = Court.of(shape, work.started_at, coverage, reach.in_force_from, frozenset(ranged))
        hearing = _Hearing(work, known, spec, coverage, court, bounds, incidents, drafts)
        total = PassResult()
        portions = self._store.portions(reach)
        with self._store.unmerged(portions):
            for portion in portions:
                touched, states = self._store.fold(reach, portion)
                total += PassResult(messages=touched)
                if states.num_rows:
                    total += self._judge(hearing, states)
        return total

    def _judge(self, hearing: _Hearing, states: pa.Table) -> PassResult:
        """Judge merged states by their columns, and those with something odd about them by the reference.

        Findings are kept first: a message whose state is kept may not be looked at again when this pass is done again.
        """
        plain = judge_plain(hearing.court, states)
        opened = openings(hearing.court, plain, hearing.incident_for)
        if opened is not None:
            numbers = pa.repeat(hearing.work.number, opened.num_rows)
            self._store.keep("findings", opened.append_column("pass", numbers))
        hearing.drafts.add(filled.of_plain(states, plain, hearing.court.now))
        total = PassResult(opened=opened.num_rows if opened is not None else 0)
        odd = states.filter(pa.array(plain.codes == 0))
        for start in range(0, odd.num_rows, BATCH):
            total += self._refer(hearing, odd.slice(start, BATCH))
        return total

    def _refer(self, hearing: _Hearing, states: pa.Table) -> PassResult:
        """Judge some messages by the reference, from their events."""
        number, flow, now = hearing.work.number, hearing.spec.flow, hearing.court.now
        ids = states["message_id"].to_pylist()
        observed = self._store.events_of(flow, ids, hearing.bounds)
        known = hearing.known
        ranges = self._ranges(flow, observed)
        bench = Bench(now, known.spec_at, hearing.spec, hearing.coverage, ranges, hearing.incident_for, known.others)
        judged = judge_batch(bench, states.to_pylist(), observed, self._store.findings_of(flow, ids, number))
        self._store.keep_findings(judged.findings, number)
        hearing.drafts.add(filled.of_judged(states, judged.rows))
        hearing.incidents.touched.update(judged.incidents, (f.incident for f in judged.findings))
        return PassResult(opened=judged.opened, recovered=judged.recovered, withdrawn=judged.withdrawn)

    def _ranges(self, flow: str, observed: dict[str, list[Event]]) -> list[Range]:
        """Ranges that touch the places at which these messages lie."""
        if not self._store.range_targets(flow):
            return []
        places: dict[tuple[str, str], tuple[int, int]] = {}
        for event in (e for events in observed.values() for e in events):
            if event.offset is not None:
                low, high = places.get((event.hop, event.partition), (event.offset, event.offset))
                places[event.hop, event.partition] = (min(low, event.offset), max(high, event.offset))
        return self._store.ranges_over(flow, [(h, p, low, high) for (h, p), (low, high) in places.items()])

    def _settle(self, incidents: Incidents, now: int) -> None:
        if incidents.touched:
            owners = {flow: known.specs[known.newest.version].owner for flow, known in self._flows.items()}
            incidents.settle(self._store.incident_counts(sorted(incidents.touched)), owners, now)

    # --- what is known --------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Cover, Incidents]:
        """Coverage, receipts and incidents as stored, once; specs whenever one changed."""
        if self._cover is None or self._incidents is None:
            self._cover = Cover(self._store.runs())
            self._heard = self._store.last_heard()
            self._incidents = Incidents(self._control)
        revision = self._control.flows.revision()
        if revision != self._revision:
            self._flows = self._load_flows()
            self._revision = revision
        return self._cover, self._incidents

    def _load_flows(self) -> dict[str, Known]:
        by_flow: dict[str, list[FlowVersion]] = {}
        for version in self._control.flows.versions():
            if version.deleted_at is None:
                by_flow.setdefault(version.flow, []).append(version)
        known = {}
        for flow, versions in by_flow.items():
            bits = self._control.flows.bits(flow)
            old = self._flows.get(flow)
            specs = {v.version: (old.specs.get(v.version) if old else None) or load_spec(v.text) for v in versions}
            known[flow] = Known(versions, specs, bits.checkpoints, bits.hops)
        return known


def _in_force(known: Known) -> int:
    """From when on the newest version judges; the only version reaches back without limit."""
    return known.newest.in_force_from if len(known.versions) > 1 else 0
