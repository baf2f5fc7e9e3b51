"""The books of one flow, compared: produced and orphans from the events, verdicts from the states, blind spots from
coverage. All of them as the last finished pass left them, so that they can be held against each other at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from tracker.control import Control
from tracker.control.flows import LeftOut
from tracker.model.coverage import GRACE, Coverage
from tracker.model.errors import Invalid, Unavailable
from tracker.model.spec import FlowSpec, load_spec
from tracker.store import Store
from tracker.store.answers import Window
from tracker.store.bounds import Bounds, from_json

MAX_WINDOWS = 1000
TRIES = 5
"""How often the books are asked for as of one pass."""


class BlindSpot(msgspec.Struct, frozen=True):
    """A span, µs, in which nobody vouches for (hop, stage), and why."""

    hop: str
    stage: str
    start: int
    end: int
    cause: str
    source: str = ""


class Reconciliation(msgspec.Struct, frozen=True):
    """Counts over the messages whose origin lies in [start, end), and per window. `as_of` is the last pass's `now`,
    `number` its number; both 0 before the first."""

    flow: str
    produced: int
    orphans: int
    verdicts: dict[str, int]
    conserved: bool
    as_of: int
    blind_spots: list[BlindSpot]
    windows: list[Window]
    number: int = 0


def reconcile(
    store: Store, control: Control, spec: FlowSpec, start: int, end: int, step: int | None = None
) -> Reconciliation:
    """The reconciliation of a flow. `step` (µs) cuts windows, at most 1,000; without it there is one.

    Raises Invalid when the span is empty or would need more windows.
    """
    if end <= start:
        raise Invalid("`to` must lie after `from`")
    if step is not None and (step <= 0 or -(-(end - start) // step) > MAX_WINDOWS):
        raise Invalid(f"at most {MAX_WINDOWS} windows: use a longer `step` or a shorter span")
    number, as_of, rows = _as_one_pass_left_them(store, control, spec, start, end, step or max(end, 1))
    produced, orphans = sum(r.produced for r in rows), sum(r.orphans for r in rows)
    return Reconciliation(
        flow=spec.flow,
        produced=produced,
        orphans=orphans,
        verdicts=_together(rows),
        conserved=all(r.produced + r.orphans == sum(r.verdicts.values()) for r in rows),
        as_of=as_of,
        blind_spots=blind_spots(spec, store.coverage(spec), start, min(end, as_of), as_of),
        windows=rows if step else [],
        number=number,
    )


def differences(
    store: Store, control: Control, specs: Sequence[FlowSpec], start: int, end: int
) -> tuple[dict[str, int], dict[str, list[BlindSpot]]]:
    """What `reconcile` finds of several flows, in a few questions for all of them: by flow, produced + orphans less the
    sum over verdicts, and blind spots. Raises Unavailable like it."""
    flows = [spec.flow for spec in specs]
    number, as_of = 0, 0
    for _ in range(TRIES):
        last = control.passes.last_finished()
        bounds, number, as_of = (from_json(last.bounds), last.number, last.started_at) if last else (Bounds(), 0, 0)
        hops, left = control.flows.hops(), control.flows.to_fold_again()
        if control.passes.last_finished() != last:
            continue
        taken = {flow: there for flow in flows if (there := _taken(hops.get(flow, []), left.get(flow)))}
        found = store.conservation(taken, bounds, number, start, end)
        if found is None:
            continue
        coverages, until = store.coverages(specs), min(end, as_of)
        spots = {spec.flow: blind_spots(spec, coverages[spec.flow], start, until, as_of) for spec in specs}
        return dict.fromkeys(flows, 0) | found, spots
    raise overtaken(", ".join(flows[:3]), number)


def verdicts(store: Store, control: Control, spec: FlowSpec, start: int, end: int) -> tuple[dict[str, int], int]:
    """(messages whose origin lies in [start, end) by verdict, `now` of the pass that left them so); reads no event."""
    _, as_of, rows = _as_one_pass_left_them(store, control, spec, start, end, max(end, 1), events=False)
    return _together(rows), as_of


def _together(rows: Iterable[Window]) -> dict[str, int]:
    """Messages by verdict, of all windows."""
    verdicts: dict[str, int] = {}
    for row in rows:
        for verdict, count in row.verdicts.items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
    return verdicts


def _as_one_pass_left_them(
    store: Store, control: Control, spec: FlowSpec, start: int, end: int, step: int, events: bool = True
) -> tuple[int, int, list[Window]]:
    """(number and `now` of the pass, windows; without `events`, of verdicts alone). A state remembers one pass back:
    asked again when two went by between looking up the pass and asking. Raises Unavailable when that goes on."""
    versions = [v for v in control.flows.versions(spec.flow) if v.deleted_at is None]
    roots = frozenset(root for version in versions for root in _roots(version.text))
    number = 0
    for _ in range(TRIES):
        last = control.passes.last_finished()
        bounds, number, as_of = (from_json(last.bounds), last.number, last.started_at) if last else (Bounds(), 0, 0)
        hops = _hops(control, spec.flow)
        if control.passes.last_finished() != last:
            continue
        if not hops:
            return number, as_of, []
        begun = [root for root in roots if root[0] in hops] if events else []
        rows = store.reconciliation(spec.flow, hops if events else [], begun, bounds, number, start, end, step)
        if rows is not None:
            return number, as_of, rows
    raise overtaken(spec.flow, number)


def _hops(control: Control, flow: str) -> list[str]:
    """The hops of all versions of a flow at which passes so far have taken note of messages: none of a flow that was
    put, or put again, since the last one."""
    hops = list(control.flows.bits(flow).hops)  # first: what is put from now on, no pass so far has seen
    return _taken(hops, control.flows.to_fold_again().get(flow))


def _taken(hops: list[str], left: LeftOut | None) -> list[str]:
    return hops if left is None else [hop for hop in hops if left.hops and hop not in left.hops]


@lru_cache(maxsize=1000)
def _roots(text: str) -> frozenset[tuple[str, str]]:
    """The (hop, stage) at which messages of this version begin."""
    spec = load_spec(text)
    points = [spec.checkpoints[i] for i in spec.paths.roots]
    return frozenset((hop, point.stage.value) for point in points for hop in point.hop)


def overtaken(flow: str, number: int) -> Unavailable:
    """Pass after pass went by while something was asked as of pass `number`."""
    return Unavailable(
        f"the books of flow {flow} are no longer those of pass {number}, the last in the control database: passes are "
        "quicker than this question (ask again), or that database is not the one of this ledger"
    )


def blind_spots(spec: FlowSpec, coverage: Coverage, start: int, end: int, now: int) -> list[BlindSpot]:
    """Every hole of every checkpoint's coverage in [start, end]. The last moments are no blind spot yet."""
    end = min(end, now - GRACE)
    places = {(hop, c.stage.value) for c in spec.checkpoints for hop in c.hop}
    return [spot for hop, stage in sorted(places) for spot in _holes(coverage, hop, stage, start, end, now)]


def _holes(coverage: Coverage, hop: str, stage: str, start: int, end: int, now: int) -> Iterable[BlindSpot]:
    while start < end:
        hole = coverage.hole(hop, stage, start, end, now)
        if hole is None or hole.end <= hole.start:
            return
        yield BlindSpot(hop, stage, hole.start, hole.end, hole.cause, hole.source)
        start = max(hole.end, start + 1)
