"""`judge`: the reference for every verdict. Pure: one message, its events, what is vouched for, and now.

Absence and lateness are two questions with two clocks. Whether a checkpoint is overdue is decided by the tracker's
clock alone (receipts); whether it was late by observed times. See docs/concepts.md for the meaning of each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracker.model.coverage import Coverage, Hole
from tracker.model.event import Event, Range, Stage
from tracker.model.facts import Facts, Passage, received
from tracker.model.flags import flags_of, gap_may_come
from tracker.model.origin import origin_of
from tracker.model.ranges import range_drops, range_over, told_by_range
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import CheckpointState, Judgement, Status, Verdict
from tracker.model.why import explain

RECHECK, RECHECK_MAX = SECOND, 24 * 3600 * SECOND
"""What is not known is looked at again after a second at the soonest, after a day at the latest. Coverage that grows
brings it back at once (`tracker.reconcile.cover`): this is for what that overlooks, and costs little for what stays
unknown for good."""


def judge(
    spec: FlowSpec, events: Sequence[Event], coverage: Coverage, now: int, ranges: Sequence[Range] = ()
) -> Judgement:
    """The verdict on one message at `now` (µs), from its events in any order and number, and the ranges of its flow.

    Raises ValueError when there is no event at a hop of the spec: there is nothing to judge then.
    """
    facts = Facts.of(spec, [*events, *range_drops(spec, events, ranges)])
    if not facts.events:
        raise ValueError("no event at a hop of this flow")
    case = _Case(spec, facts, coverage, now, ranges)
    states = tuple(state for i in spec.paths.order if (state := case.counting(i)))
    states = _with_kinds(case, states)
    verdict = _verdict(states)
    return Judgement(
        verdict=verdict,
        flags=flags_of(spec, facts, states, coverage, now),
        checkpoints=states,
        held_by=tuple(h for h in spec.hops if h in facts.holding),
        origin_at=origin_of(events[0].message_id, facts.events),
        as_of=now,
        why=explain(verdict, states, facts, spec, now),
        look_again=_look_again(case, states),
    )


class _Case:
    """One message before the judge: fills `states` in path order, each from those before it."""

    def __init__(self, spec: FlowSpec, facts: Facts, coverage: Coverage, now: int, ranges: Sequence[Range]) -> None:
        self.spec, self.paths, self.facts, self.coverage, self.now = spec, spec.paths, facts, coverage, now
        self.first_receipt = min(received(e) for e in facts.events)
        self.first_seen = min(min(e.observed_at, received(e)) for e in facts.events)
        self.deadline: dict[int, int | None] = {}
        self.observed_deadline: dict[int, int | None] = {}
        self.states: dict[int, CheckpointState] = {}
        self.seen: dict[int, Passage] = dict(facts.seen)
        self.came_to = {e.hop for e in facts.events if not told_by_range(e)}
        for i in self.paths.order:
            self.deadline[i] = self._deadline(i)
            by_range = None if i in self.seen else self._by_range(i, ranges)
            if by_range:
                self.seen[i] = by_range
            self.observed_deadline[i] = self._observed_deadline(i)
        for i in self.paths.order:  # what ranges prove, too, implies what comes before it
            self.states[i] = self._state(i)

    def counting(self, i: int) -> CheckpointState | None:
        """The state of `i` where it counts: a required one always, an optional one only when its payload differs."""
        if self.paths.required[i]:
            return self.states[i]
        if i not in self.facts.seen or not divergent(self.spec, self.facts.events, i):
            return None
        return replace(self.states[i], status=Status.seen, due=Status.seen, late=False)

    # --- the two clocks -------------------------------------------------------------------------------------------

    def _deadline(self, i: int) -> int | None:
        """For absence: the latest receipt of what comes before (a missing one's own deadline) + within."""
        within = self.paths.within[i]
        before = self.paths.before[i]
        if not before:
            return None if within is None else self.first_receipt + within
        if within is None:
            return None
        starts = [self.seen[p].received_at if p in self.seen else self.deadline[p] for p in before]
        return max(self.first_receipt if s is None else s for s in starts) + within

    def _observed_deadline(self, i: int) -> int | None:
        """For lateness: the same by observed times; what has no time counts at its own deadline."""
        within = self.paths.within[i]
        before = self.paths.before[i]
        if within is None:
            return None
        starts = [self.seen[p].observed_at if p in self.seen else self.observed_deadline[p] for p in before]
        known = [s for s in starts if s is not None]
        return max(known) + within if known else None

    # --- one status -----------------------------------------------------------------------------------------------

    def _state(self, i: int) -> CheckpointState:
        name = self.spec.checkpoints[i].name
        passed = self.seen.get(i)
        if passed:
            limit = self.observed_deadline[i]
            late = limit is not None and passed.since > limit
            seen = CheckpointState(i, name, Status.seen, Status.seen, self.deadline[i], passed.observed_at, late)
            return self._short(seen, max(len(self.facts.nodes.get(i, ())), 1))
        if self._implied(i):
            return self._short(CheckpointState(i, name, Status.implied, Status.implied, self.deadline[i]), 1)
        reason = self._closed(i)
        if reason:
            return CheckpointState(i, name, Status.closed, Status.closed, self.deadline[i], by=reason)
        return self._absent(CheckpointState(i, name, Status.pending, Status.pending, self.deadline[i]))

    def _short(self, state: CheckpointState, nodes: int) -> CheckpointState:
        if nodes >= self.spec.checkpoints[state.index].quorum:
            return state
        return replace(self._absent(replace(state, due=Status.pending)), status=Status.short)

    def _absent(self, state: CheckpointState) -> CheckpointState:
        """Overdue, unknown or pending, for a checkpoint that is not (fully) seen."""
        i, deadline = state.index, state.deadline
        if self._dropped(i):
            return replace(state, status=Status.overdue, due=Status.overdue, by="drop")
        if deadline is None or self.now < deadline:
            return state
        hole = self._hole(i, deadline)
        if hole:
            return replace(state, status=Status.unknown, due=Status.unknown, hole=hole)
        return replace(state, status=Status.overdue, due=Status.overdue, by="deadline")

    def _implied(self, i: int) -> bool:
        behind = self.paths.descendants[i]
        return any(d in self.seen for d in behind) or bool(self.came_to & self.paths.hops_behind[i])

    def _closed(self, i: int) -> str:
        """`dead_letter` or `design` when its own hop, or one before it on its path, says so; else empty."""
        places = [self._touched(a) for a in (i, *self.paths.ancestors[i])]
        if any(hops and hops <= self.facts.dead for hops in places):
            return "dead_letter"
        ended = self.facts.dead | self.facts.designed
        return "design" if any(hops and hops <= ended for hops in places) else ""

    def _touched(self, i: int) -> frozenset[str]:
        """Of alternatives, those that had the message; they alone can close the checkpoint."""
        return self.facts.hops & frozenset(self.paths.hops[i])

    def _dropped(self, i: int) -> bool:
        """A drop that nobody asked for took every copy that could still reach it."""
        if self._emptied(i):
            return True
        return any(
            (self._emptied(p) and not self._acked(p))
            or (p not in self.seen and not self._implied(p) and self._dropped(p))
            for p in self.paths.before[i]
        )

    def _acked(self, i: int) -> bool:
        """Its hop has processed one delivery, and passed on what comes after it, whatever became of others."""
        return i in self.seen and self.paths.stages[i] == Stage.ack

    def _emptied(self, i: int) -> bool:
        touched = self._touched(i)
        return bool(touched) and touched <= self.facts.emptied

    def _hole(self, i: int, deadline: int) -> Hole | None:
        """Where coverage has a hole between the last passage before the checkpoint and its deadline."""
        start = self.passed_before(i)
        stage = self.paths.stages[i]
        for hop in self.paths.hops[i]:
            hole = self.coverage.hole(hop, stage, start, max(deadline, start), self.now)
            if hole:
                return hole
        return None

    def passed_before(self, i: int) -> int:
        """When the last seen checkpoint before `i` was passed, on the tracker's clock; else when it was first seen."""
        return max((self.seen[a].at for a in self.paths.ancestors[i] if a in self.seen), default=self.first_seen)

    # --- range evidence -------------------------------------------------------------------------------------------

    def _by_range(self, i: int, ranges: Sequence[Range]) -> Passage | None:
        """The passage that a range proves, where nothing that sees single messages vouches for the checkpoint, nor will
        once it has caught up: what is behind today may tell tomorrow that a message was passed over."""
        hit = range_over(self.facts.events, self.paths.hops[i], self.paths.stages[i], ranges)
        return None if hit is None or self._better_seen(i, hit.received_at) else hit

    def _better_seen(self, i: int, receipt: int) -> bool:
        """Somebody sees, or will have seen, single messages there. What a range proved before anybody did stays so."""
        stage, deadline = self.paths.stages[i], self.deadline[i]
        opened = [at for hop in self.paths.hops[i] if (at := self.coverage.announced(hop, stage)) is not None]
        if not opened or receipt < min(opened):
            return False
        if deadline is None or self.now < deadline:
            return True
        hole = self._hole(i, deadline)
        if hole is not None:
            return hole.cause == "behind"
        return max(opened) <= self.passed_before(i)  # else it is covered, but by less than they tell


def _with_kinds(case: _Case, states: tuple[CheckpointState, ...]) -> tuple[CheckpointState, ...]:
    """Each overdue or dead-lettered checkpoint named as a kind of finding, each divergent one marked; what follows from
    an overdue one before it names that as its cause, and mostly takes its kind."""
    overdue = {s.index for s in states if s.due == Status.overdue and s.status != Status.short}
    kinds: dict[int, Verdict] = {}
    named = []
    for state in states:
        first = next((a for a in case.paths.order if a in overdue and a in case.paths.ancestors[state.index]), None)
        kind = _kind(case, state, None if first is None else kinds[first])
        if kind:
            kinds[state.index] = kind
        cause = first if state.index in overdue else None
        differs = divergent(case.spec, case.facts.events, state.index)
        named.append(replace(state, kind=kind, cause=cause, divergent=differs))
    return tuple(named)


def _kind(case: _Case, state: CheckpointState, cause: Verdict | None) -> Verdict | None:
    """`cause` is the kind of the first overdue checkpoint before this one."""
    i = state.index
    replica = case.paths.stages[i] == Stage.replicate
    if state.status == Status.closed and state.by == "dead_letter":
        return Verdict.dead_lettered if case._touched(i) & case.facts.dead or not _closed_before(case, i) else None
    if state.due != Status.overdue:
        return None
    if state.status == Status.short:
        return Verdict.under_replicated
    if cause is not None:  # a consumer behind a late replica lacks the message itself, not a copy
        return Verdict.unacknowledged if cause == Verdict.under_replicated and not replica else cause
    held = any(h in case.facts.holding for a in case.paths.ancestors[i] for h in case.paths.hops[a])
    if (case.paths.stages[i] in (Stage.produce, Stage.persist) or state.by == "drop") and not held:
        return Verdict.lost
    return Verdict.under_replicated if replica else Verdict.unacknowledged


def _closed_before(case: _Case, i: int) -> bool:
    """A required checkpoint before `i` is closed already: the finding is there, not here."""
    return any(case.states[a].status == Status.closed for a in case.paths.ancestors[i] if case.paths.required[a])


def divergent(spec: FlowSpec, events: Sequence[Event], i: int) -> bool:
    """True when checkpoint `i` asks for the same payload and carries another digest than one before it.

    Per (hop, node) the newest digest counts, so a repair heals.
    """
    newest: dict[tuple[str, str, str], tuple[int, str]] = {}
    for event in joined_payloads(spec, events, i):
        place = (event.hop, event.stage, event.node)
        carried = (event.observed_at, event.digest)
        newest[place] = max(newest.get(place, carried), carried)
    return len({digest for _, digest in newest.values()}) > 1


def joined_payloads(spec: FlowSpec, events: Sequence[Event], i: int) -> list[Event]:
    """The events whose digests have to agree for checkpoint `i`: its own and those of what comes before it."""
    point = spec.checkpoints[i]
    if not point.same_payload:
        return []
    joined = [point, *(spec.checkpoints[p] for p in spec.paths.before[i])]
    return [e for e in events if e.digest and any(e.hop in c.hop and e.stage == c.stage for c in joined)]


def _verdict(states: Sequence[CheckpointState]) -> Verdict:
    """The first line of the table that matches: what is known to be wrong is never hidden by what is not yet known."""
    if any(s.divergent for s in states):
        return Verdict.divergent
    kinds = {s.kind for s in states}
    for kind in (Verdict.lost, Verdict.unacknowledged, Verdict.under_replicated):
        if kind in kinds:
            return kind
    if any(s.status == Status.closed and s.by == "dead_letter" for s in states):
        return Verdict.dead_lettered
    due = {s.due for s in states}
    if Status.unknown in due:
        return Verdict.blind
    if Status.pending in due:
        return Verdict.in_flight
    if Status.closed in due:
        return Verdict.explained
    return Verdict.late if any(s.late for s in states) else Verdict.delivered


def _look_again(case: _Case, states: Sequence[CheckpointState]) -> int | None:
    now = case.now
    times = [s.deadline for s in states if s.due == Status.pending and s.deadline is not None]
    for state in states:
        if state.due == Status.unknown and state.deadline is not None:
            point = case.spec.checkpoints[state.index]
            behind = state.deadline - case.coverage.reach(point.hop, point.stage.value, now)
            times.append(now + patience(behind, now - state.deadline))
    if gap_may_come(case.spec, case.facts, states, case.coverage, now):
        times.append(now + patience(0, now - case.first_receipt))
    return min(times, default=None)


def patience(behind: int, since: int) -> int:
    """After how long to look at what is not known again, when coverage is so far behind and it was due so long ago.

    At growing distances: after a quarter of the time since. Sooner when whoever lags should have caught up, and some
    more as nobody lags quite steadily; but not so soon that one that will never catch up is asked all the time.
    """
    longest = max(since // 4, RECHECK)
    if behind > 0:
        longest = min(longest, max(behind + behind // 20 + RECHECK, since // 16))
    return min(longest, RECHECK_MAX)
