"""The reconciler: pass after pass, what is new and what is due becomes states, verdicts, findings, incidents.

The order of writes in a pass is findings, states, counts, incidents, coverage, and last the pass row. A pass that was
cut short is done again with the same number, `now` and bounds, and then leaves the same rows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import msgspec
import structlog
from msgspec import structs
from opentelemetry import trace

from tracker.control import Control
from tracker.control.errors import ControlError
from tracker.control.flows import LeftOut
from tracker.control.passes import Pass
from tracker.model.coverage import ASSUME_FOR
from tracker.model.errors import TrackerError
from tracker.model.event import Stage
from tracker.model.units import SECOND
from tracker.reconcile.cover import Cover, columns
from tracker.reconcile.drafts import Drafts
from tracker.reconcile.hearing import Hearing, PassResult, Sitting
from tracker.reconcile.incidents import Incidents
from tracker.reconcile.judged import Judged
from tracker.reconcile.known import Known, known_flows
from tracker.reconcile.lead import Lead, finish
from tracker.reconcile.order import judge_order
from tracker.reconcile.rulings import carry_out
from tracker.store import Store
from tracker.store.bounds import Bounds, from_json
from tracker.store.reach import Reach
from tracker.store.vouched import Heard, Place

log = structlog.get_logger()
tracer = trace.get_tracer("tracker")

LIMIT = 50_000_000
"""About how many new rows a pass takes on at most, a minute of work or so. What bounds memory are portions."""
STANDBY_S = 1.0
"""How often a tracker that does not lead looks whether it has to."""
REST = 0.6
"""How long to rest after a pass, in passes: what comes meanwhile costs the next one less than a pass of its own, most
of which is the same for a thousand events and for a hundred thousand. What is overdue is found after two passes and a
rest at the latest, so the rest is no longer than the interval where passes are `QUICK`."""
QUICK = 2.0
"""Seconds that a pass takes which keeps up with what comes."""
LONGEST_REST = 10.0
"""However long a pass took, seconds; and while more comes than is taken in, for that goes first."""
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND


def now_us() -> int:
    """The tracker's clock: epoch microseconds."""
    return time.time_ns() // 1000


def rest_after(took: float, interval: float) -> float:
    """How many seconds to rest after a pass that took so many."""
    quickly, slowly = min(took * REST, interval), (took - QUICK) * REST
    return max(interval - took, quickly, min(slowly, LONGEST_REST))


class _Why(msgspec.Struct, frozen=True):
    """Why a flow is looked at in a pass: it has new events, new range evidence of some (hop, stage), its coverage has
    grown from a moment on (µs), it was away, and all there is of it counts as new, or only what was seen at hops that
    were `added`. None of these: messages are due."""

    events: bool
    moved: Set[tuple[str, str]]
    grown: int | None
    again: bool
    added: Sequence[str]


Finish = Callable[[int, Mapping[str, LeftOut]], None]
"""Records that a pass is stored, and what it took in that had been left out before."""


class Reconciler:
    """Runs passes. One at a time per installation; `run` is for a thread of its own. No pass is begun while `behind`
    says that the store lacks events that were received: they must not be called missing. While it is `pressed`, passes
    are as far apart as they may be."""

    def __init__(
        self,
        store: Store,
        control: Control,
        clock: Callable[[], int] = now_us,
        behind: Callable[[], bool] = lambda: False,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._control, self._clock = store, control, clock
        self._behind, self._pressed = behind, pressed
        self._cover: Cover | None = None
        self._heard: dict[str, dict[Place, Heard]] = {}
        self._ranged: dict[str, set[tuple[str, str]]] = {}
        self._flows: dict[str, Known] = {}
        self._revision = self._swept = -1
        self._judged_until = self._summed_up = 0
        self._incidents: Incidents | None = None
        self._judged = Judged(store, control)

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
                log.info("reconciler.pass", **structs.asdict(result))
            self._sum_up()
            self._sweep()
            if result.number:
                self._rest(stop, rest_after(result.seconds, interval))
            else:
                stop.wait(interval)

    def _sum_up(self) -> None:
        """Once an hour, what was counted in the hours before that of the last pass, which no pass adds to any more."""
        hour = self._judged_until // HOUR
        if hour == self._summed_up:
            return
        try:
            self._store.keep_hours(self._judged_until)
            self._summed_up = hour
        except TrackerError as error:
            log.warning("hours_not_summed_up", error=str(error), next="tried again; until then it is read pass by pass")

    def _sweep(self) -> None:
        """Once a day, timers and counts of days that are over go. That they stay costs nothing but space."""
        today = self._clock() // DAY
        if today == self._swept:
            return
        self._swept = today
        try:
            last = self._control.passes.last_finished()
            if last is not None:
                self._store.drop_fired(from_json(last.bounds).due_after)
                self._store.drop_settled(last.started_at)
        except (TrackerError, ControlError) as error:
            log.warning("timers_kept", error=str(error), next="tried again tomorrow; they take space, nothing else")

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        end = time.monotonic() + LONGEST_REST
        stop.wait(seconds)
        while self._pressed() and (left := end - time.monotonic()) > 0 and not stop.is_set():
            stop.wait(min(seconds, left))

    def run_pass(self, finish: Finish | None = None) -> PassResult:
        """One pass, or first the one that a crash left. Does nothing when nothing is new and nothing is due.

        `finish` records that a pass is stored; without it nobody else may be running passes.
        """
        started = time.monotonic()
        try:
            result = self._pass(finish or self._finish)
        except BaseException:
            self._forget()  # half of the pass is in it
            raise
        return structs.replace(result, seconds=time.monotonic() - started)

    def _pass(self, finish: Finish) -> PassResult:
        _, incidents = self._load()
        cut_short = self._control.passes.unfinished()
        work = cut_short or self._begin()
        if work is None:
            return PassResult()
        if cut_short:
            incidents.touched.update(self._store.incidents_of_pass(work.number))
        left_out = self._left_out()
        with tracer.start_as_current_span("reconcile.pass") as span:
            result = self._carry_out(work, from_json(work.bounds), left_out, bool(cut_short))
            self._judged.passed(work.started_at)
            finish(work.number, left_out)
            span.set_attributes({"tracker.pass": result.number, "tracker.messages": result.messages})
        self._judged_until = work.started_at
        return result

    def _finish(self, number: int, taken_in: Mapping[str, LeftOut]) -> None:
        with self._control.transaction() as books:
            finish(books, number, taken_in, self._clock())

    def _left_out(self) -> dict[str, LeftOut]:
        """What passes have left out so far of flows as they are known now."""
        self._load()
        found = self._control.flows.to_fold_again().items()
        return {f: out for f, out in found if f in self._flows and out.version <= self._flows[f].newest.version}

    def _forget(self) -> None:
        """What is known is read from the stores again."""
        self._cover = self._incidents = None
        self._judged.forget()

    def _begin(self) -> Pass | None:
        clock = self._clock()  # before all else: what is received while it is asked what there is, is of the next pass
        if self._behind():
            return None
        last = self._control.passes.last_finished()
        before = from_json(last.bounds) if last else Bounds()
        bounds = before.next(self._store.stored_since(before), last.started_at if last else 0, LIMIT)
        now = max(clock, last.started_at + 1 if last else 0)
        waits = self._control.flows.to_fold_again() or self._control.rulings.waiting()
        if bounds.empty and not waits and not self._store.due_flows(bounds, now):
            self._judged.idle(clock)
            return None
        return self._control.passes.begin(now, msgspec.to_builtins(bounds, str_keys=True))

    # --- one pass -------------------------------------------------------------------------------------------------

    def _carry_out(self, work: Pass, bounds: Bounds, left_out: Mapping[str, LeftOut], done_again: bool) -> PassResult:
        cover, incidents = self._load()
        heard, back = self._hear(cover, bounds)
        rows = Counter[str]()
        for h in heard:
            rows[h.flow] += h.events
        with_events = set(rows)
        rows.update(self._store.due_flows(bounds, work.started_at))
        ranged = self._store.ranged(bounds)
        self._know_ranged(ranged)
        moved: dict[str, set[tuple[str, str]]] = {}
        for flow, hop, stage in ranged:
            moved.setdefault(flow, set()).add((hop, stage))
        leapt = cover.take_leapt()
        for flow, since in back.items():
            leapt[flow] = min(leapt.get(flow, since), since)
        again = {f for f, out in left_out.items()
                 if not out.hops and (out.came_back or self._store.had("events", f, bounds))}  # fmt: skip
        added = {f: out.hops for f, out in left_out.items() if self._store.had("events", f, bounds, out.hops)}
        total, drafts = PassResult(work.number), Drafts(self._store, work.started_at)
        self._store.begin_folding()
        grown = {flow: since for flow, since in leapt.items() if flow in self._flows}
        rows.update(self._store.unclear(grown, {flow: self._flows[flow].longest for flow in grown}))
        sitting = Sitting(self._store, work, bounds, cover, incidents, drafts)
        reaches = []
        for flow in sorted((set(rows) | set(moved) | set(leapt) | again | set(added)) & set(self._flows)):
            why = _Why(flow in with_events, moved.get(flow, set()), leapt.get(flow), flow in again, added.get(flow, ()))
            reaches.append(self._reach(sitting, flow, rows[flow], why))
        total += self._few(sitting, [reach for reach in reaches if reach.few])
        for reach in reaches:
            if not reach.few:
                total += self._flow(sitting, reach)
        drafts.store()
        touched = self._store.flows_of_pass(work.number) if done_again else [reach.shape.spec.flow for reach in reaches]
        if touched:
            shapes = [self._flows[flow].shape for flow in touched if flow in self._flows]
            self._store.keep_settled(work.number, work.started_at, shapes, done_again)
        for flow in sorted((with_events | again | set(added)) & set(self._flows)):
            judge_order(self._store, self._flows[flow].spec, bounds, work.number, flow in again or flow in added)
        carry_out(self._store, self._control, incidents, work)
        self._settle(incidents, work.started_at)
        self._store.remember_heard(heard)
        runs = cover.take_changed()
        self._store.keep("coverage", columns(runs, work.number))
        return total

    def _hear(self, cover: Cover, bounds: Bounds) -> tuple[list[Heard], dict[str, int]]:
        """(what is new from each place, the flows that passes had assumed to be silent somewhere, and were not: from
        when on). Takes in the new reports, too: what came before the first one from a place stays assumed."""
        heard, watched = self._store.heard(bounds), set(cover.announced)
        cover.fold(self._store.new_reports(bounds))
        announced = {place: at for place, at in cover.announced.items() if place not in watched}
        before = self._store.heard_before(bounds, announced)
        back: dict[str, int] = {}
        for n, new in enumerate(heard):
            mine = self._heard.setdefault(new.flow, {})
            old = mine.get(new.place, Heard(*new.place, 0, 0))
            unannounced = before.get(new.place, 0) if new.place in cover.announced else new.received_at
            heard[n] = structs.replace(new, unannounced_at=unannounced)
            mine[new.place] = structs.replace(
                new,
                received_at=max(old.received_at, new.received_at),
                unannounced_at=max(old.unannounced_at, unannounced),
            )
            assumed = old.received_at + ASSUME_FOR if old.received_at else 0
            if bounds.due_after > assumed:
                back[new.flow] = min(back.get(new.flow, assumed), assumed)
        return heard, back

    def _reach(self, sitting: Sitting, flow: str, rows: int, why: _Why) -> Reach:
        """What of a flow is taken in this pass. `rows`: how many new events, due and unclear messages it has."""
        known, ranged, bounds = self._flows[flow], self._ranged.get(flow, set()), sitting.bounds
        if ranged:
            fresh = why.again or bool(why.moved and not self._store.had("ranges", flow, bounds))
            self._store.keep_positions(flow, bounds, fresh)
        targets = sorted(ranged & set(known.checkpoint_bits))
        if targets:
            coverage = sitting.cover.coverage(known.spec, self._heard_of(flow))
            targets = [place for place in targets if not coverage.vouches(*place)]
        drops = sorted(hop for hop, stage in ranged if stage == Stage.drop and hop in known.shape.hop_bits)
        new = not why.moved.isdisjoint([*targets, *((hop, Stage.drop.value) for hop in drops)])
        return Reach(
            known.shape, bounds, sitting.work.number, sitting.work.started_at, rows, why.events, targets, drops,
            new, why.grown, why.again, known.in_force_from, why.added, known.longest,
        )  # fmt: skip

    def _hearing(self, sitting: Sitting, flow: str) -> Hearing:
        return Hearing.of(sitting, self._flows[flow], self._heard_of(flow), self._ranged.get(flow, frozenset()))

    def _few(self, sitting: Sitting, reaches: Sequence[Reach]) -> PassResult:
        """Fold, judge and keep the parts of flows with little to do."""
        total = PassResult()
        for flow, states in self._store.fold_few(reaches):
            total += PassResult(messages=states.num_rows) + self._hearing(sitting, flow).judge(states)
        return total

    def _flow(self, sitting: Sitting, reach: Reach) -> PassResult:
        """Fold, judge and keep one flow's part of the pass, portion by portion."""
        total, hearing = PassResult(), self._hearing(sitting, reach.shape.spec.flow)
        portions = self._store.portions(reach)
        with self._store.unmerged(portions):
            for portion in portions:
                touched, states = self._store.fold(reach, portion)
                total += PassResult(messages=touched)
                if states.num_rows:
                    total += hearing.judge(states)
        return total

    def _settle(self, incidents: Incidents, now: int) -> None:
        if incidents.touched:
            owners = {flow: known.spec.owner for flow, known in self._flows.items()}
            incidents.settle(self._store.incident_counts(sorted(incidents.touched)), owners, now)

    # --- what is known --------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Cover, Incidents]:
        """Coverage, receipts and incidents as stored, once; specs whenever one changed."""
        if self._cover is None or self._incidents is None:
            self._cover = Cover(self._store.runs(), self._store.refusals())
            self._heard = {}
            for heard in self._store.last_heard():
                self._heard.setdefault(heard.flow, {})[heard.place] = heard
            self._ranged = {}
            self._know_ranged(self._store.ever_ranged())
            self._incidents = Incidents(self._control)
        revision = self._control.flows.revision()
        if revision != self._revision:
            self._flows = known_flows(self._control, self._flows)
            self._revision = revision
        return self._cover, self._incidents

    def _heard_of(self, flow: str) -> Iterable[Heard]:
        return self._heard.get(flow, {}).values()

    def _know_ranged(self, places: Iterable[tuple[str, str, str]]) -> None:
        """Range evidence was stored of these."""
        for flow, hop, stage in places:
            self._ranged.setdefault(flow, set()).add((hop, stage))
