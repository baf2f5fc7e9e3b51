"""How soon what was missing was found, seen to and brought back: of a span of time, from the store and the books."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from tracker.api import recovered as shapes
from tracker.api.service import Service
from tracker.control.errors import Invalid
from tracker.control.incidents import Opened
from tracker.model.units import SECOND
from tracker.slo.recovery import Pair, percentiles, promises
from tracker.store.recovery import Recovered

MOST_STEPS = 1000
"""Steps of one trend."""


def recovery(service: Service, start: int, end: int, step: int, flow: str = "", kind: str = "") -> shapes.Recovery:
    """Findings and incidents that were opened in [start, end), and what was promised. Raises Invalid for a span or step
    that cannot be meant."""
    if end <= start:
        raise Invalid("`to` must lie after `from`")
    if step <= 0 or (end - start) / step > MOST_STEPS:
        raise Invalid(f"`step` must be longer than 0, and at most {MOST_STEPS} of them fit between `from` and `to`")
    now = service.clock()
    opened = service.control.incidents.opened(start, end, flow or None, kind or None)
    kinds = service.store.recovery("flow, kind", start, end, now, flow=flow, kind=kind)
    flows = service.store.recovery("flow", start, end, now, flow=flow, kind=kind)
    slices = service.store.recovery("slice", start, end, now, step, flow, kind)
    acts = _acts(opened, lambda one: (one.flow, one.kind))
    of_flow = _acts(opened, lambda one: one.flow)
    at = _acts(opened, lambda one: (one.opened_at - start) // step)
    return shapes.Recovery(
        start=start,
        end=end,
        as_of=now,
        items=[shapes.OfKind(flow=r.flow, kind=r.kind, **_times(r, acts.get((r.flow, r.kind), []))) for r in kinds],
        flows=[
            shapes.OfFlow(flow=r.flow, objectives=_promised(service, r), **_times(r, of_flow.get(r.flow, [])))
            for r in flows
        ],
        trend=[
            shapes.Step(start=start + r.slice * step, **_times(r, at.get(r.slice, []))) for r in slices
        ],
    )  # fmt: skip


def _acts(opened: Iterable[Opened], key: Callable[[Opened], Hashable]) -> dict[Hashable, list[Opened]]:
    found: dict[Hashable, list[Opened]] = {}
    for one in opened:
        found.setdefault(key(one), []).append(one)
    return found


def _times(row: Recovered, opened: Iterable[Opened]) -> dict[str, object]:
    incidents = list(opened)
    spans = [one.acted_at - one.opened_at for one in incidents if one.acted_at is not None]
    return {
        "findings": row.findings, "open": row.open, "recovered": row.by_replay + row.by_itself,
        "recovered_by_replay": row.by_replay, "recovered_by_itself": row.by_itself, "withdrawn": row.withdrawn,
        "superseded": row.superseded, "parked": row.parked, "abandoned": row.abandoned, "lost": row.lost,
        "incidents": len(incidents), "acted": len(spans),
        "detect": pair(row.detect), "act": pair(percentiles(spans)), "recover": pair(row.recover),
        "recover_by_replay": pair(row.replay), "recover_by_itself": pair(row.itself), "back": pair(row.back),
    }  # fmt: skip


def pair(spans: Pair) -> shapes.Spans:
    """Two percentiles as answered, in seconds."""
    p50, p90 = (None if span is None else span / SECOND for span in spans)
    return shapes.Spans(p50_s=p50, p90_s=p90)


def _promised(service: Service, row: Recovered) -> list[shapes.Promised]:
    known = service.specs.known().get(row.flow)
    kept = promises(known.spec.objectives.recovery if known else None, row.back, row.counted)
    return [
        shapes.Promised(
            percentile=one.name, target_s=one.target / SECOND,
            stands_s=None if one.stands is None else one.stands / SECOND, met=one.met,
        )
        for one in kept
    ]  # fmt: skip
