"""The flags of a message: what else is to be known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracker.model.coverage import Coverage, Hole
from tracker.model.event import Stage, delivery_of
from tracker.model.facts import Facts, received
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import CheckpointState, Flag, Status

SKEW = SECOND
"""Observed times that contradict the path by more than this are skewed."""


def flags_of(
    spec: FlowSpec, facts: Facts, states: Sequence[CheckpointState], coverage: Coverage, now: int
) -> frozenset[Flag]:
    """Every flag but `reordered`, which needs the neighbours and is judged apart."""
    found = {
        Flag.orphan: not any(i in facts.seen for i in spec.paths.roots),
        Flag.replayed: any(e.replay_id for e in facts.events),
        Flag.duplicated: any(_deliveries(facts, c.hop, c.stage) > (c.at_most or 1 << 30) for c in spec.checkpoints),
        Flag.skewed: _skewed(spec, facts),
        Flag.reused_id: _reused(spec, facts),
        Flag.gap: any(hole is None for hole in _gaps(spec, facts, states, coverage, now)),
    }
    return frozenset(flag for flag, holds in found.items() if holds)


def gap_may_come(spec: FlowSpec, facts: Facts, states: Sequence[CheckpointState], coverage: Coverage, now: int) -> bool:
    """No gap is known, and somebody who has not caught up yet will tell whether there is one."""
    holes = list(_gaps(spec, facts, states, coverage, now))
    return None not in holes and any(hole.cause == "behind" for hole in holes if hole)


def _deliveries(facts: Facts, hops: Sequence[str], stage: Stage) -> int:
    """Original deliveries that reached (hops, stage); replays are known by their id and counted apart."""
    mine = (e for e in facts.events if e.hop in hops and e.stage == stage and not e.replay_id)
    return len({(e.hop, delivery_of(e) or f"node {e.node}") for e in mine})


def _skewed(spec: FlowSpec, facts: Facts) -> bool:
    times = {i: facts.seen[i] for i in facts.seen}
    return any(times[i].observed_at + SKEW < times[p].since for i in times for p in spec.paths.before[i] if p in times)


def _reused(spec: FlowSpec, facts: Facts) -> bool:
    """Two produces whose origins lie further apart than the longest deadline."""
    origins = [
        e.observed_at if e.origin_at is None else e.origin_at
        for e in facts.events
        if e.stage == Stage.produce and not e.replay_id
    ]
    return bool(origins) and max(origins) - min(origins) > max(spec.paths.longest, SECOND)


def _implied(state: CheckpointState) -> bool:
    """Passed without having been seen; a short one that was seen somewhere has a time."""
    return state.status == Status.implied or (state.status == Status.short and state.observed_at is None)


def _gaps(
    spec: FlowSpec, facts: Facts, states: Sequence[CheckpointState], coverage: Coverage, now: int
) -> Iterator[Hole | None]:
    """What keeps us from knowing, wherever a checkpoint must have been passed and was not reported; None is a gap: the
    collector vouched for the whole span, and yet reported nothing."""
    paths = spec.paths
    for i in (s.index for s in states if _implied(s)):
        start = max((facts.seen[a].at for a in paths.ancestors[i] if a in facts.seen), default=None)
        behind = {(hop, paths.stages[d]) for d in paths.descendants[i] for hop in paths.hops[d]}
        implying = [e for e in facts.events if (e.hop, e.stage) in behind or e.hop in paths.hops_behind[i]]
        end = min((received(e) for e in implying), default=now)
        if start is None:
            start = min(min(e.observed_at, received(e)) for e in facts.events)
        for hop in paths.hops[i]:
            announced = coverage.announced(hop, paths.stages[i])
            if announced is not None and announced <= start:
                yield coverage.hole(hop, paths.stages[i], start, max(start, end), now)
