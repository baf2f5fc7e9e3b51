"""The messages that need the reference judge: something is due, dropped, dead-lettered, divergent or was found before.

They are few where all goes well. Their findings open, recover, are superseded or withdrawn here; all of it is a
function of the stored events, what is vouched for, the findings before this pass, and the pass's own `now`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import xxhash
from msgspec import structs

from tracker.model.coverage import Coverage
from tracker.model.event import DESIGNED_DROPS, Event, Range, Stage, natural_key
from tracker.model.facts import evidence_of, parks, passage, received
from tracker.model.judge import joined_payloads, judge
from tracker.model.places import Places
from tracker.model.ranges import range_drops
from tracker.model.spec import Checkpoint, FlowSpec
from tracker.model.verdict import CheckpointState, Judgement, Status, Verdict
from tracker.store.findings import OPEN, RECOVERED, SETTLED, SUPERSEDED, WITHDRAWN, Finding

Key = tuple[str, str, str]


@dataclass
class Judged:
    """What came of one batch: a row of state columns per message, the findings that changed, and the incidents that
    these belonged to before."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    opened: int = 0
    recovered: int = 0
    withdrawn: int = 0
    incidents: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Bench:
    """What the judge needs for every message of one flow in one pass.

    `spec_at` gives the spec in force at an origin time, `newest`, or one of `others`, judges what was seen only at hops
    which that one does not name. `incident_for(hop, stage, kind)` gives the incident to belong to.
    """

    now: int
    spec_at: Callable[[int], FlowSpec]
    newest: FlowSpec
    coverage: Coverage
    ranges: Sequence[Range]
    incident_for: Callable[[str, str, str], str]
    others: Sequence[FlowSpec] = ()

    @cached_property
    def places(self) -> Places:
        """Where `ranges` lie."""
        return Places(self.ranges)


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
        hops = {event.hop for event in mine}
        if hops.isdisjoint(spec.hops):
            known = next((one for one in (bench.newest, *bench.others) if not hops.isdisjoint(one.hops)), None)
            if known is None:
                _strange(judged, state, before.get(message_id, ()), bench.now)
                continue
            spec = known
        ranges = bench.places.over(mine)
        judgement = judge(spec, mine, bench.coverage, bench.now, ranges)
        told = [*mine, *range_drops(spec, mine, ranges)]
        changes = transitions(bench, spec, told, judgement, before.get(message_id, ()))
        judged.incidents |= {f.incident for f in before.get(message_id, ()) if f.key in {c.key for c in changes}}
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


def _strange(judged: Judged, state: Mapping[str, Any], before: Sequence[Finding], now: int) -> None:
    """Seen only at hops of a spec that was deleted: nothing is expected of the message, whatever was said of it."""
    gone = [_settled(f, WITHDRAWN, "", now) for f in before if f.status not in SETTLED]
    judged.findings += gone
    judged.withdrawn += len(gone)
    judged.rows.append(
        {
            "verdict": Verdict.explained.value,
            "flags": [],
            "found": bool(state["found"] or before),
            "look_again": 0,
            "timer_at": state["timer_at"],
            "origin_at": state["origin_at"],
        }
    )


def transitions(
    bench: Bench, spec: FlowSpec, events: Sequence[Event], judgement: Judgement, before: Sequence[Finding]
) -> list[Finding]:
    """The findings of one message that this judgement opens or resolves. One that followed from another finding, and
    now stands for itself, or the other way round, is opened anew: it belongs to another incident. One that comes again
    returns to its own, whatever else is going on by then."""
    standing = {f.key: f for f in before}
    changed: list[Finding] = []
    found = {finding_key(spec, state): state for state in judgement.findings}
    absent = {key[:2]: key[2] for key in found if key[2] != Verdict.divergent}
    for key, state in found.items():
        old = standing.get(key)
        if old is None or old.status in SETTLED or (old.status == OPEN and old.cause != _cause(spec, state)):
            changed.append(_opened(bench, spec, events, judgement, state, standing))
    for key, finding in standing.items():
        if key in found or finding.status in SETTLED:
            continue
        if key[:2] in absent and finding.kind != Verdict.divergent:
            changed.append(_settled(finding, SUPERSEDED, absent[key[:2]], bench.now))
        elif not _has_its_turn(spec, events, judgement, finding):
            changed.append(_resolved(bench.now, spec, events, judgement, finding))
    return changed


def finding_key(spec: FlowSpec, state: CheckpointState) -> Key:
    """(hop, stage, kind) of a finding; alternatives joined by `|`."""
    point = spec.checkpoints[state.index]
    return ("|".join(point.hop), point.stage.value, str(state.kind))


def _cause(spec: FlowSpec, state: CheckpointState) -> str:
    return "" if state.cause is None else spec.checkpoints[state.cause].name


def _opened(
    bench: Bench,
    spec: FlowSpec,
    events: Sequence[Event],
    judgement: Judgement,
    state: CheckpointState,
    standing: Mapping[Key, Finding],
) -> Finding:
    hop, stage, kind = finding_key(spec, state)
    root = finding_key(spec, next((s for s in judgement.checkpoints if s.index == state.cause), state))
    known = standing.get(root)
    message = events[0]
    return Finding(
        finding_id=finding_id(message.flow, message.message_id, hop, stage, kind),
        flow=message.flow,
        message_id=message.message_id,
        hop=hop,
        stage=stage,
        kind=kind,
        status=OPEN,
        incident=bench.incident_for(*root) if known is None or known.cause else known.incident,
        opened_at=bench.now,
        known_at=min(_known_at(spec, events, state), bench.now),
        deadline=state.deadline or 0,
        origin_at=judgement.origin_at,
        cause=_cause(spec, state),
        held_by=list(judgement.held_by),
        why=judgement.why,
    )


def finding_id(*parts: str) -> str:
    """The same for the same message, hop, stage and kind, whoever computes it."""
    return xxhash.xxh3_64_hexdigest("\0".join(parts).encode())


def _known_at(spec: FlowSpec, events: Sequence[Event], state: CheckpointState) -> int:
    """When it could first be known: its deadline, or the receipt of the event that says so."""
    path = {hop for i in (state.index, *spec.paths.ancestors[state.index]) for hop in spec.checkpoints[i].hop}
    times: list[int] = []
    if state.kind == Verdict.divergent:
        times = [_differing(spec, events, state.index)]
    elif state.kind == Verdict.dead_lettered:
        times = [min(received(e) for e in events if parks(e) and e.hop in path)]
    elif state.by == "drop":  # the copies went one by one: known with the last of them
        drops = [e for e in events if e.stage == Stage.drop and e.hop in path and e.reason not in DESIGNED_DROPS]
        first: dict[tuple[str, ...], int] = {}
        for drop in drops:
            key = natural_key(drop)
            first[key] = min(first.get(key, received(drop)), received(drop))
        times = [max(first.values())] if first else []
    if times:
        return times[0]
    return min(received(e) for e in events) if state.deadline is None else state.deadline


def _differing(spec: FlowSpec, events: Sequence[Event], index: int) -> int:
    """The receipt of the first payload that differed from one known before it."""
    joined = sorted(joined_payloads(spec, events, index), key=received)
    return next((received(e) for e in joined if e.digest != joined[0].digest), received(joined[0]))


def _has_its_turn(spec: FlowSpec, events: Sequence[Event], judgement: Judgement, finding: Finding) -> bool:
    """It followed from another finding, that one has recovered since, and so its own checkpoint has a deadline ahead:
    neither wrong nor recovered yet."""
    state = _state_of(spec, judgement, finding)
    cause = next((i for i, c in enumerate(spec.checkpoints) if c.name == finding.cause), None)
    if cause is None or state is None or state.status not in (Status.pending, Status.unknown):
        return False
    point, since = spec.checkpoints[cause], _true_from(finding)
    there = next((s for s in judgement.checkpoints if s.index == cause), None)
    return _moved_past(point, events, there, since) or _brought(point, events, since) is not None


def _resolved(now: int, spec: FlowSpec, events: Sequence[Event], judgement: Judgement, finding: Finding) -> Finding:
    """Recovered when what was missing was observed after the finding had become true; else it never was: withdrawn."""
    status, by, at = WITHDRAWN, "", now
    proof, moved_past = _proof(spec, events, judgement, finding)
    if proof is not None:
        status, by, at = RECOVERED, "replay" if proof.replay_id else "itself", received(proof)
    elif moved_past:
        status, by = RECOVERED, "itself"
    return _settled(finding, status, by, at)


def _settled(finding: Finding, status: str, by: str, at: int) -> Finding:
    return structs.replace(finding, status=status, by=by, resolved_at=max(at, finding.opened_at))


def _proof(
    spec: FlowSpec, events: Sequence[Event], judgement: Judgement, finding: Finding
) -> tuple[Event | None, bool]:
    """(the event that brought what the finding lacked, whether a range did), both after it had become true."""
    index = next((i for i, c in enumerate(spec.checkpoints) if ("|".join(c.hop), c.stage) == finding.key[:2]), None)
    if index is None:
        return None, False
    if finding.kind == Verdict.divergent:
        repairs = joined_payloads(spec, events, index)
        newest = max(repairs, key=lambda e: (e.observed_at, received(e), e.replay_id), default=None)
        return (newest if newest and passage([newest]).at > finding.opened_at else None), False
    state = _state_of(spec, judgement, finding)
    if state is None or state.status not in (Status.seen, Status.short):
        return None, False
    point = spec.checkpoints[index]
    nodes = point.quorum if finding.kind == Verdict.under_replicated else 1
    since = _true_from(finding)
    return _brought(point, events, since, nodes), _moved_past(point, events, state, since)


def _true_from(finding: Finding) -> int:
    """Its deadline, if it had one: what came after that, but before the pass that said so, was late, and the finding
    was right (docs/adr/0009)."""
    return min(finding.opened_at, finding.deadline) if finding.deadline else finding.opened_at


def _state_of(spec: FlowSpec, judgement: Judgement, finding: Finding) -> CheckpointState | None:
    """The state of the checkpoint that a finding is about; None when the spec has none such now."""
    return next((s for s in judgement.checkpoints if finding_key(spec, s)[:2] == finding.key[:2]), None)


def _moved_past(point: Checkpoint, events: Sequence[Event], state: CheckpointState | None, since: int) -> bool:
    """A range, and no event, says that the checkpoint was passed after `since`."""
    return state is not None and not evidence_of(point, events) and (state.observed_at or 0) > since


def _brought(point: Checkpoint, events: Sequence[Event], since: int, nodes: int = 1) -> Event | None:
    """The event that made a checkpoint seen on so many nodes after `since`; None when it had been, or is not."""
    evidence = sorted(evidence_of(point, events), key=lambda e: (received(e), e.observed_at, e.replay_id))
    seen = {e.node for e in evidence if passage([e]).at <= since}
    if len(seen) >= nodes:
        return None
    for event in evidence:
        seen.add(event.node)
        if len(seen) >= nodes:
            return event
    return None
