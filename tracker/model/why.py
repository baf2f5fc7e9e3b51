"""One sentence that somebody on call understands."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from tracker.model.event import DESIGNED_DROPS, RETRY, Stage
from tracker.model.facts import Facts
from tracker.model.spec import FlowSpec
from tracker.model.units import say
from tracker.model.verdict import CheckpointState, Status, Verdict

CAUSES = {
    "never_seen": "nothing ever came from there",
    "silent": "it has been silent too long to vouch",
    "not_announced": "nobody vouched for it yet at that time",
    "behind": "its collector has not reported that far",
    "hole": "its collector missed a span",
    "refused": "a line from there could not be used",
    "deaf": "the tracker itself took nothing at that time",
}


def explain(verdict: Verdict, states: Sequence[CheckpointState], facts: Facts, spec: FlowSpec, now: int) -> str:
    """Why the message has this verdict: where it stopped, what holds it, what was not seen."""
    match verdict:
        case Verdict.delivered:
            return "Every checkpoint was reached in time."
        case Verdict.late:
            late = ", ".join(s.name for s in states if s.late)
            return f"Every checkpoint was reached, but {late} after its deadline."
        case Verdict.in_flight:
            waiting = ", ".join(s.name for s in states if s.due == Status.pending)
            return f"Still on its way, in time: waiting for {waiting}."
        case Verdict.blind:
            return _blind(states)
        case Verdict.explained:
            return f"It ended by design at {_hops(facts.designed, spec)} ({_drops(facts, DESIGNED_DROPS)})."
        case Verdict.dead_lettered:
            given = {e.reason for e in facts.events if e.stage == Stage.dead_letter} - {"", RETRY}
            reasons = ", ".join(sorted(given)) or "no reason given"
            return f"{_hops(facts.dead, spec)} gave up and dead-lettered it ({reasons})."
        case Verdict.divergent:
            where = ", ".join(s.name for s in states if s.divergent)
            return f"The payload at {where} differs from the payload before it."
        case _:
            return _missing(verdict, states, facts, spec, now)


def _hops(hops: frozenset[str], spec: FlowSpec) -> str:
    return ", ".join(h for h in spec.hops if h in hops)


def _drops(facts: Facts, among: AbstractSet[str]) -> str:
    """The reasons of the drops, of those named."""
    reasons = {e.reason for e in facts.events if e.stage == Stage.drop} & among - {""}
    return ", ".join(sorted(reasons)) or "no reason given"


def _blind(states: Sequence[CheckpointState]) -> str:
    state = next(s for s in states if s.due == Status.unknown)
    cause = CAUSES[state.hole.cause] if state.hole else "coverage has a hole"
    seen = "on enough nodes by its deadline" if state.status == Status.short else "by its deadline"
    return f"Unknown: {state.name} was not seen {seen}, but {cause}, so it may have happened."


def _missing(verdict: Verdict, states: Sequence[CheckpointState], facts: Facts, spec: FlowSpec, now: int) -> str:
    first = next(s for s in states if s.kind == verdict)
    held = [h for h in spec.hops if h in facts.holding]
    if first.by == "drop":
        reasons = _drops(facts, {e.reason for e in facts.events} - DESIGNED_DROPS)
        return f"{_hops(facts.lossy, spec)} dropped it ({reasons}), so {first.name} cannot happen; {_copy(held)}"
    before = [i for i in facts.seen if i in spec.paths.ancestors[first.index]]
    last = max(before, key=spec.paths.order.index, default=None)
    passed = "" if last is None else spec.checkpoints[last].name
    past = None if first.deadline is None else max(now - first.deadline, 0)
    return stopped(first.name, passed, held, past, first.status == Status.short)


def stopped(first: str, passed: str, held: Sequence[str], past: int | None, short: bool) -> str:
    """Where a message stopped: it passed the checkpoint `passed` (empty: none) and not `first`, `past` µs ago; `short`:
    it did, on too few nodes. `held` are the hops with a copy."""
    after = "without a deadline" if past is None else f"{say(past)} past its deadline"
    begin = f"It passed {passed} and then" if passed else "It"
    missed = f"reached fewer nodes at {first} than its quorum" if short else f"never reached {first}"
    return f"{begin} {missed}, {after}; {_copy(held)}"


def _copy(held: Sequence[str]) -> str:
    return f"{', '.join(held)} still hold{'' if len(held) > 1 else 's'} a copy." if held else "no hop holds a copy."
