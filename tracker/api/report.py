"""How objectives were kept in a period: one flow's, or those of all flows of an owner; as values and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

from tracker.api import shapes
from tracker.api.markdown import Safe, render
from tracker.api.service import Service
from tracker.control.errors import Invalid, NotFound
from tracker.model.coverage import Coverage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND, say
from tracker.reconcile.books import blind_spots
from tracker.slo.burn import DAY, HOUR, budget_left, ratio
from tracker.slo.standing import share
from tracker.store.settled import COUNTS, KEPT, Counts

MOST = 200
"""Flows in one report."""
LONGEST = 400 * DAY


def report(service: Service, flow: str | None, owner: str | None, start: int, end: int) -> shapes.SloReport:
    """What was counted in [start, end), µs; an end that lies further back than rows of passes are kept is taken by full
    hours. Raises Invalid for a period that means nothing, NotFound for a flow, or an owner, that is not there."""
    now = service.clock()
    if (flow is None) == (owner is None):
        raise Invalid("a report is about one `flow`, or about one `owner`'s flows: name one of the two")
    first, last = (_cut(moment // SECOND, now // SECOND) for moment in (start, min(end, now)))
    if not 0 < last - first <= LONGEST:
        raise Invalid(f"`to` must lie after `from`, and at most {LONGEST // DAY} days after it")
    until = last + (end >= now)  # counts are kept by the second: a pass of this one is known, too
    specs = _specs(service, flow, owner)
    counted: dict[str, list[Counts]] = {}
    for one in service.store.settled_between([spec.flow for spec in specs], first, until, DAY):
        counted.setdefault(one.flow, []).append(one)
    took: dict[str, list[shapes.SloTook]] = {}
    for t in service.store.took(first, until, [spec.flow for spec in specs]):
        p50, p95, p99 = t.took
        took.setdefault(t.flow, []).append(shapes.SloTook(hop=t.hop, stage=t.stage, p50=p50, p95=p95, p99=p99))
    flows = [_flow(service, spec, counted.get(spec.flow, []), took.get(spec.flow, []), first, last) for spec in specs]
    return shapes.SloReport(
        owner=owner if owner is not None else specs[0].owner,
        start=first * SECOND,
        end=last * SECOND,
        as_of=now,
        flows=flows,
    )


def markdown(told: shapes.SloReport) -> str:
    """The report as Markdown; names in it are code, so nothing in them is markup."""
    return render(
        "slo.md", {"report": told, "percent": percent, "took": seconds, "length": Safe(say(told.end - told.start))}
    )


def percent(value: float | None) -> Safe:
    """A share as people read it, without rounding a bad message away."""
    if value is None:
        return Safe("-")
    shown = f"{value * 100:.4f}".rstrip("0").rstrip(".")
    return Safe(f"{shown} %")


def seconds(value: float) -> Safe:
    """Three digits of it."""
    return Safe(f"{value:.3g} s")


def _cut(moment: int, now: int) -> int:
    return moment // HOUR * HOUR if moment < now - KEPT + HOUR else moment


def _specs(service: Service, flow: str | None, owner: str | None) -> list[FlowSpec]:
    if flow is not None:
        return [service.specs.of(flow).spec]
    found = [known.spec for _, known in sorted(service.specs.known().items()) if known.spec.owner == owner]
    if not found:
        raise NotFound(f"no flow has the owner {owner!r}; `tracker flows list` shows the owners")
    if len(found) > MOST:
        raise Invalid(f"{owner!r} has {len(found)} flows, and a report takes {MOST} at most: ask flow by flow")
    return found


def _flow(
    service: Service, spec: FlowSpec, counted: Sequence[Counts], took: Sequence[shapes.SloTook], first: int, last: int
) -> shapes.SloFlow:
    total = reduce(add, counted, Counts(spec.flow, first, 0, **dict.fromkeys(COUNTS, 0)))
    promise = spec.objectives.delivery
    target = promise.target if promise else None
    kept = ratio(total.good, total.bad)
    return shapes.SloFlow(
        flow=spec.flow,
        owner=spec.owner,
        target=target,
        ratio=kept,
        met=None if kept is None or target is None else kept >= target,
        budget_left=None if target is None else budget_left(total.good, total.bad, target),
        counts={name: getattr(total, name) for name in COUNTS},
        good=total.good,
        bad=total.bad,
        duplication=share(total, "duplication"),
        divergence=share(total, "divergence"),
        throughput=total.begun / (last - first),
        coverage=covered(service, spec, first * SECOND, last * SECOND),
        latency=list(took),
        incidents=_incidents(service, spec.flow, first * SECOND, last * SECOND),
        days=[shapes.SloDay(start=one.start * SECOND, good=one.good, bad=one.bad, ratio=ratio(one.good, one.bad))
              for one in counted],
    )  # fmt: skip


def covered(service: Service, spec: FlowSpec, start: int, end: int) -> float | None:
    """The share of the time, over all checkpoints, that is vouched for in [start, end), µs, from the flow's first
    version on; None where nothing of it lies within."""
    last = service.control.passes.last_finished()
    end = min(end, last.started_at if last else 0)
    return share_of(service, spec, service.store.coverage(spec), start, end)


def share_of(service: Service, spec: FlowSpec, coverage: Coverage, start: int, end: int) -> float | None:
    """The same by a coverage that was asked for; `end` is no later than the last pass."""
    start = max(start, service.specs.of(spec.flow).versions[0].created_at)
    if end <= start:
        return None
    spots = blind_spots(spec, coverage, start, end, end)
    places = {(hop, point.stage) for point in spec.checkpoints for hop in point.hop}
    return 1 - sum(spot.end - spot.start for spot in spots) / (len(places) * (end - start))


def _incidents(service: Service, flow: str, start: int, end: int) -> list[str]:
    """Those that were opened in the period, the newest first; at most a hundred."""
    found: Iterable[str] = (one.id for one in service.control.incidents.page(flow=flow, limit=500).items
                            if start <= one.opened_at < end)  # fmt: skip
    return list(found)[:100]
