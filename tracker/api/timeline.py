"""A message judged at this moment from its stored events: the answer behind the API and the console's page."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.api import shapes
from tracker.api.service import Service
from tracker.control.errors import NotFound
from tracker.model.event import Event, Stage, delivery_of
from tracker.model.judge import judge
from tracker.model.origin import origin_of
from tracker.model.ranges import range_drops
from tracker.model.spec import FlowSpec
from tracker.model.verdict import CheckpointState, Flag, Judgement
from tracker.model.why import CAUSES
from tracker.store.decode import distinct
from tracker.store.findings import Finding


def timeline(service: Service, flow: str, message_id: str) -> shapes.Message:
    """Judged by the spec in force at its origin, where that knows it.

    Raises NotFound when the flow is unknown or nothing was observed.
    """
    known = service.specs.of(flow)
    vouched = service.evidence.of(known.spec)  # before the events
    events = service.store.timeline(flow, message_id)
    if not events:
        raise NotFound(f"no event of message {message_id!r} in flow {flow!r}; is the id complete, is it this flow?")
    origin = origin_of(message_id, events)
    spec = known.spec_for(origin, {event.hop for event in events})
    now = service.clock()
    findings = service.store.findings(flow=flow, message_id=message_id, limit=1000)
    if spec is None:
        return _unjudged(flow, message_id, events, origin, now, findings)
    places = [(e.hop, e.partition, e.offset, e.offset) for e in events if e.offset is not None]
    ranges = service.store.ranges_over(flow, dict.fromkeys(places)) if vouched.ranged else []
    judgement = judge(spec, events, vouched.coverage, now, ranges)
    shown = distinct([*events, *range_drops(spec, events, ranges)])
    overtaken = service.store.overtaken(flow, message_id) if known.ordered else []
    flags = judgement.flags | {Flag.reordered} if overtaken else judgement.flags
    return shapes.Message(
        flow=flow,
        message_id=message_id,
        verdict=judgement.verdict.value,
        flags=sorted(flag.value for flag in flags),
        held_by=list(judgement.held_by),
        missing=_missing(spec, judgement),
        timeline=[observation(event, created(events, judgement.origin_at), spec.hops) for event in shown],
        why=judgement.why,
        origin_at=judgement.origin_at,
        as_of=now,
        findings=[finding(one) for one in findings],
        overtaken=[shapes.Overtaken.model_validate(one) for one in overtaken],
    )


def _unjudged(
    flow: str, message_id: str, events: Sequence[Event], origin: int, now: int, findings: Sequence[Finding]
) -> shapes.Message:
    return shapes.Message(
        flow=flow,
        message_id=message_id,
        verdict=None,
        flags=[],
        held_by=[],
        missing=[],
        timeline=[observation(event, created(events, origin), ()) for event in events],
        why="It was seen only at hops that the flow's spec does not name, so there is nothing to judge it by.",
        origin_at=origin,
        as_of=now,
        findings=[finding(one) for one in findings],
    )


def _missing(spec: FlowSpec, judgement: Judgement) -> list[shapes.Missing]:
    return [_absent(spec, state) for state in judgement.missing]


def _absent(spec: FlowSpec, state: CheckpointState) -> shapes.Missing:
    point = spec.checkpoints[state.index]
    return shapes.Missing(
        hop="|".join(point.hop),
        stage=point.stage.value,
        status=state.status.value,
        deadline=state.deadline,
        covered=state.hole is None,
        blind=CAUSES[state.hole.cause] if state.hole else None,
    )


def created(events: Sequence[Event], origin: int) -> int:
    """The origin as the tracker's clock would have shown it: whoever produced the message stamped it by the clock that
    also dated the produce. Only latencies count from here; what is kept and judged is the origin as it was carried."""
    stamped = [e for e in events if e.stage == Stage.produce and e.origin_at == origin]
    return origin + (min(stamped, key=lambda e: e.observed_at).clock_offset if stamped else 0)


def observation(event: Event, origin: int, hops: Sequence[str]) -> shapes.Observation:
    """An event as shown; latencies count from `origin`; `hops` are those that the spec knows."""
    return shapes.Observation(
        hop=event.hop,
        stage=event.stage.value,
        observed_at=event.observed_at,
        observed_from=event.observed_from,
        received_at=event.received_at,
        clock_offset_ms=event.clock_offset / 1000,
        clock_error_ms=None if event.clock_error is None else event.clock_error / 1000,
        latency_ms=(event.observed_at - origin) / 1000,
        reason=event.reason,
        delivery=delivery_of(event),
        digest=event.digest,
        size=event.size,
        node=event.node,
        region=event.region,
        partition=event.partition,
        offset=event.offset,
        group=event.group,
        attempt=event.attempt,
        trace_id=event.trace_id,
        span_id=event.span_id,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        replay_id=event.replay_id,
        attributes=event.attributes,
        known=event.hop in hops,
    )


def finding(one: Finding) -> shapes.Finding:
    """A finding as shown: no time is null."""
    shown = {name: getattr(one, name) for name in shapes.Finding.model_fields}
    for name in ("resolved_at", "deadline", "origin_at"):
        shown[name] = shown[name] or None
    return shapes.Finding(**shown)
