"""The messages that need the reference judge: something is due, dropped, dead-lettered, divergent or was found before.

They are few where all goes well. Their findings open, recover and are withdrawn here; all of it is a function of the
stored events, what is vouched for, the findings before this pass, and the pass's own `now`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash
from msgspec import structs

from tracker.model.coverage import Coverage
from tracker.model.event import Event, Range, Stage, delivery_of
from tracker.model.facts import passage, received
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec
from tracker.model.verdict import CheckpointState, Judgement, Status, Verdict
from tracker.store.findings import OPEN, RECOVERED, WITHDRAWN, Finding

Key = tuple[str, str, str]


@dataclass
class Judged:
    """What came of one batch: a row of state columns per message, and the findings that changed."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    opened: int = 0
    recovered: int = 0
    withdrawn: int = 0


@dataclass(frozen=True)
class Bench:
    """What the judge needs for every message of one flow in one pass.

    `spec_at` gives the spec in force at an origin time, `incident_for(hop, stage, kind)` the incident to belong to.
    """

    now: int
    spec_at: Callable[[int], FlowSpec]
    coverage: Coverage
    ranges: Sequence[Range]
    incident_for: Callable[[str, str, str], str]


def judge_batch(
    bench: Bench,
    states: Iterable[Mapping[str, Any]],
    events: Mapping[str, Sequence[Event]],
    before: Mapping[str, Sequence[Finding]],
) -> Judged:
    """Judge each of `states` (rows of `Passing.fold`) by its events; `before` are its findings before this pass."""
    judged = Judged()
    for state in states:
        message_id = state["message_id"]
        mine = events[message_id]
        spec = bench.spec_at(state["origin_at"])
        judgement = judge(spec, mine, bench.coverage, bench.now, bench.ranges)
        changes = transitions(bench, spec, mine, judgement, before.get(message_id, ()))
        judged.findings += changes
        judged.opened += sum(1 for f in changes if f.status == OPEN)
        judged.recovered += sum(1 for f in changes if f.status == RECOVERED)
        judged.withdrawn += sum(1 for f in changes if f.status == WITHDRAWN)
        timer = state["timer_at"]
        look = judgement.look_again or 0
        if look and (timer <= bench.now or look < timer):
            timer = look
        judged.rows.append(
            {
                "verdict": judgement.verdict.value,
                "flags": sorted(flag.value for flag in judgement.flags),
                "found": bool(state["found"] or judgement.findings or message_id in before),
                "look_again": look,
                "timer_at": timer,
                "origin_at": judgement.origin_at,
            }
        )
    return judged


def transitions(
    bench: Bench, spec: FlowSpec, events: Sequence[Event], judgement: Judgement, before: Sequence[Finding]
) -> list[Finding]:
    """The findings of one message that this judgement opens or resolves."""
    standing = {f.key: f for f in before}
    changed: list[Finding] = []
    found: set[Key] = set()
    for state in judgement.findings:
        key = finding_key(spec, state)
        found.add(key)
        if key not in standing or standing[key].status in (RECOVERED, WITHDRAWN):
            changed.append(_opened(bench, spec, events, judgement, state))
    for key, finding in standing.items():
        if key not in found and finding.status not in (RECOVERED, WITHDRAWN):
            changed.append(_resolved(bench.now, spec, events, judgement, finding))
    return changed


def finding_key(spec: FlowSpec, state: CheckpointState) -> Key:
    """(hop, stage, kind) of a finding; alternatives joined by `|`."""
    point = spec.checkpoints[state.index]
    return ("|".join(point.hop), point.stage.value, str(state.kind))


def _opened(
    bench: Bench, spec: FlowSpec, events: Sequence[Event], judgement: Judgement, state: CheckpointState
) -> Finding:
    hop, stage, kind = finding_key(spec, state)
    cause = "" if state.cause is None else spec.checkpoints[state.cause].name
    root = spec.checkpoints[state.index if state.cause is None else state.cause]
    message = events[0]
    return Finding(
        finding_id=finding_id(message.flow, message.message_id, hop, stage, kind),
        flow=message.flow,
        message_id=message.message_id,
        hop=hop,
        stage=stage,
        kind=kind,
        status=OPEN,
        incident=bench.incident_for("|".join(root.hop), root.stage.value, kind),
        opened_at=bench.now,
        known_at=min(_known_at(spec, events, state), bench.now),
        deadline=state.deadline or 0,
        origin_at=judgement.origin_at,
        cause=cause,
        held_by=list(judgement.held_by),
        why=judgement.why,
    )


def finding_id(*parts: str) -> str:
    """The same for the same message, hop, stage and kind, whoever computes it."""
    return xxhash.xxh3_64_hexdigest("\0".join(parts).encode())


def _known_at(spec: FlowSpec, events: Sequence[Event], state: CheckpointState) -> int:
    """When it could first be known: its deadline, or the receipt of the event that says so."""
    telling: tuple[Stage, ...] = ()
    if state.by == "drop":
        telling = (Stage.drop,)
    elif state.kind == Verdict.dead_lettered:
        telling = (Stage.dead_letter,)
    elif state.kind == Verdict.divergent:
        telling = (Stage(spec.checkpoints[state.index].stage),)
    times = [received(e) for e in events if e.stage in telling]
    return min(times) if times else state.deadline or min(received(e) for e in events)


def _resolved(now: int, spec: FlowSpec, events: Sequence[Event], judgement: Judgement, finding: Finding) -> Finding:
    """Recovered when what was missing was observed after the finding was opened; else it was wrong, and withdrawn."""
    status, by, at = WITHDRAWN, "", now
    index = next((i for i, c in enumerate(spec.checkpoints)
                  if "|".join(c.hop) == finding.hop and c.stage == finding.stage), None)  # fmt: skip
    state = next((s for s in judgement.checkpoints if s.index == index), None)
    if state is not None and state.status in (Status.seen, Status.short):
        point = spec.checkpoints[state.index]
        evidence = [e for e in events if e.hop in point.hop and e.stage == point.stage]
        later = [e for e in evidence if passage([e]).at > finding.opened_at]
        if finding.kind == Verdict.divergent or not evidence:
            status, by = RECOVERED, "replay" if any(e.replay_id for e in evidence) else "itself"
        elif len(later) == len(evidence) or _parked_before(events, finding, later):
            at = min(received(e) for e in later)
            status, by = RECOVERED, "replay" if any(e.replay_id for e in later) else "itself"
    return structs.replace(finding, status=status, by=by, resolved_at=max(at, finding.opened_at))


def _parked_before(events: Sequence[Event], finding: Finding, later: Sequence[Event]) -> bool:
    """A dead-lettered delivery's own ack is no evidence, so earlier acks do not make the finding wrong."""
    if finding.kind != Verdict.dead_lettered or not later:
        return False
    parked = {(e.hop, delivery_of(e)) for e in events if e.stage == Stage.dead_letter}
    return any((e.hop, delivery_of(e)) not in parked for e in later)
