"""The laws of DESIGN's verdicts, of the reference on random flows, messages, ranges and coverage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.properties import cases
from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import DESIGNED_DROPS, RETRY, Event, Range, Stage, delivery_of
from tracker.model.judge import judge
from tracker.model.places import Places
from tracker.model.ranges import range_drops
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import CheckpointState, Status, Verdict

FULL = ((-1000 * SECOND, 1000 * SECOND),)
REACHED = (Verdict.delivered, Verdict.late)
EVER = 1 << 62
OPEN = (Verdict.in_flight, Verdict.blind)


def everywhere(spec: FlowSpec) -> Coverage:
    """All is vouched for, by those who see single messages."""
    return Coverage({(hop, c.stage.value): [SourceCover("s", FULL)] for c in spec.checkpoints for hop in c.hop})


law: Callable[..., Any] = settings(max_examples=60, deadline=None)


@law
@given(st.data())
def test_idempotent(data: st.DataObject) -> None:
    """The same events and ranges in any order, any number of times, give the same judgement to the last word."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec), max_size=3))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    again = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=4))))
    moved_again = data.draw(st.permutations(moved + moved))
    assert judge(spec, again, coverage, now, moved_again) == judge(spec, events, coverage, now, moved)


@law
@given(st.data())
def test_the_ranges_over_its_places_say_all_there_is_to_say(data: st.DataObject) -> None:
    """Judged by these alone a message is judged as by all, to the last word; so are the drops that are told of it."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec), max_size=6))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    over = Places(moved).over(events)
    assert judge(spec, events, coverage, now, over) == judge(spec, events, coverage, now, moved)
    assert range_drops(spec, events, over) == range_drops(spec, events, moved)


@law
@given(st.data())
def test_more_events_never_undo_a_delivery(data: st.DataObject) -> None:
    """From delivered or late only to these, divergent or dead-lettered, at the same moment and later."""
    spec = data.draw(cases.specs())
    steps = st.lists(st.sampled_from(range(len(spec.checkpoints))), max_size=2)
    skipped = data.draw(steps)
    events = [_reached(spec, i) for i in range(len(spec.checkpoints)) if i not in skipped]
    events += data.draw(st.lists(cases.events(spec), max_size=2))
    if not any(e.hop in spec.hops for e in events):
        return
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    gone = data.draw(st.lists(cases.ranges(spec, (Stage.drop,)), max_size=2))
    before = judge(spec, events, coverage, now, gone)
    if before.verdict not in REACHED:
        return
    more = events + data.draw(st.lists(cases.events(spec), min_size=1, max_size=4))
    later = now + data.draw(st.sampled_from([0, 5, 100])) * SECOND
    gone += data.draw(st.lists(cases.ranges(spec, (Stage.drop,)), max_size=2))
    after = judge(spec, more, data.draw(cases.grown(coverage)), later, gone)
    note(f"{before.why} -> {after.why}")
    assert after.verdict in (*REACHED, Verdict.divergent, Verdict.dead_lettered)


def _reached(spec: FlowSpec, i: int) -> Event:
    point = spec.checkpoints[i]
    at = spec.paths.order.index(i) * SECOND
    return Event(flow="f", message_id="m", hop=point.hop[0], stage=point.stage, observed_at=at, received_at=at,
                 digest="aa", delivery=f"d{i % 2}", node="n1")  # fmt: skip


@law
@given(st.data())
def test_a_dropped_range_is_a_drop_of_each(data: st.DataObject) -> None:
    """Told as a range or message by message, with the place that it lay at: the same judgement."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec, (Stage.drop,)), max_size=3))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    singly = [_drop(r, e) for r in moved for e in events if e.hop in spec.hops and _lies_in(r, e)]
    assert judge(spec, events, coverage, now, moved) == judge(spec, [*events, *singly], coverage, now)


def _lies_in(told: Range, e: Event) -> bool:
    placed = e.stage in (Stage.persist, Stage.replicate) and (e.hop, e.partition) == (told.log, told.partition)
    return placed and e.offset in range(told.offset, told.offset_to)


def _drop(told: Range, e: Event) -> Event:
    at, got = max(told.observed_at, e.observed_at), max(told.received_at or told.observed_at, _got(e))
    return Event(flow="f", message_id="m", hop=told.hop, stage=Stage.drop, reason=told.reason, observed_at=at,
                 received_at=got, partition=e.partition, offset=e.offset, group=told.group,
                 delivery=delivery_of(e) if told.hop == told.log else "")  # fmt: skip


@law
@given(st.data())
def test_time_and_coverage_never_lead_back(data: st.DataObject) -> None:
    """What was known stays known: never again in flight or blind by waiting, or because more is vouched for."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec), max_size=2))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    before = judge(spec, events, coverage, now, moved)
    later = now + data.draw(st.sampled_from([0, 1, 20, 100])) * SECOND
    after = judge(spec, events, data.draw(cases.grown(coverage)), later, moved)
    note(f"{before.why} -> {after.why}")
    if before.verdict not in OPEN:
        assert after.verdict not in OPEN


@law
@given(st.data())
def test_nothing_is_guessed(data: st.DataObject) -> None:
    """What is overdue by its deadline was vouched for by every open source, at every moment of its span."""
    spec = data.draw(cases.specs())
    events = data.draw(cases.histories(spec))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    judgement = judge(spec, events, coverage, now)
    for state in judgement.checkpoints:
        if state.due == Status.overdue and state.by == "deadline":
            assert state.deadline is not None
            assert state.deadline <= now
            start = _last_passage(spec, events, state)
            end = max(state.deadline, start)
            for hop in spec.checkpoints[state.index].hop:
                there = coverage.of(hop, spec.checkpoints[state.index].stage.value)
                assert all(_vouched(there, t) for t in _moments(there, start, end)), (state, hop, there)


def _last_passage(spec: FlowSpec, events: list[Event], state: CheckpointState) -> int:
    known = [e for e in events if e.hop in spec.hops]
    parked = {(e.hop, delivery_of(e)) for e in known if e.stage == Stage.dead_letter and e.reason != RETRY}
    times = []
    for i in spec.paths.ancestors[state.index]:
        point = spec.checkpoints[i]
        here = [e for e in known if e.hop in point.hop and e.stage == point.stage
                and not (e.stage == Stage.ack and (e.hop, delivery_of(e)) in parked)]  # fmt: skip
        if here:
            times.append(min(min(_got(e), e.observed_at if e.observed_from is None else e.observed_from) for e in here))
    return max(times) if times else min(min(e.observed_at, _got(e)) for e in known)


def _got(event: Event) -> int:
    assert event.received_at is not None
    return event.observed_at if event.backfill else event.received_at


def _moments(there: Sequence[SourceCover], start: int, end: int) -> list[int]:
    edges = {start, end, (start + end) // 2}
    for cover in there:
        for edge in [*(t for span in cover.intervals for t in span), cover.closed or 0]:
            edges |= {edge - 1, edge + 1}
    return [t for t in edges if start <= t <= end]


def _vouched(there: Sequence[SourceCover], moment: int) -> bool:
    """Somebody had announced itself by then, and every source open then has an interval around it. Where none is open
    any more, the last of them signed off."""
    groups = {name: [c for c in there if c.source == name] for name in {c.source for c in there}}
    announced = {name: group for name, group in groups.items() if min(c.opened for c in group) <= moment}
    ends = {name: max(EVER if c.closed is None else c.closed for c in group) for name, group in groups.items()}
    if not announced:
        return False
    holding = {
        name for name, group in announced.items() if any(a <= moment <= b for c in group for a, b in c.intervals)
    }
    if any(moment < ends[name] for name in announced.keys() - holding):
        return False
    if holding or any(moment < ends[name] for name in announced):
        return True
    last = max(ends[name] for name in announced)
    return moment == last or any(c.intervals[-1][1] == last for group in announced.values() for c in group)


@law
@given(st.data())
def test_the_answer_is_consistent(data: st.DataObject) -> None:
    """One verdict; nothing missing iff reached (or divergent); an explanation, a dead letter and a drop need an event
    that says so; every wrong checkpoint is a finding, and a wrong verdict has one of its kind."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec), max_size=2))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    judgement = judge(spec, events, coverage, now, moved)
    verdict, kinds = judgement.verdict, {f.kind for f in judgement.findings}
    said = {(e.stage, e.reason) for e in events if e.hop in spec.hops} | {(r.stage, r.reason) for r in moved}
    if verdict in REACHED:
        assert not judgement.missing
        assert not kinds
    if not judgement.missing:
        assert verdict in (*REACHED, Verdict.divergent)
    if verdict == Verdict.explained:
        assert any((Stage.drop, reason) in said for reason in DESIGNED_DROPS)
    if verdict == Verdict.dead_lettered:
        assert any(stage == Stage.dead_letter and reason != RETRY for stage, reason in said)
    if any(s.by == "drop" for s in judgement.checkpoints):
        assert any(stage == Stage.drop and reason not in DESIGNED_DROPS for stage, reason in said)
    if verdict in (Verdict.divergent, Verdict.lost, Verdict.unacknowledged, Verdict.under_replicated):
        assert verdict in kinds
    if verdict == Verdict.lost:
        first = next(f for f in judgement.findings if f.kind == Verdict.lost and f.cause is None)
        before = {hop for a in spec.paths.ancestors[first.index] for hop in spec.checkpoints[a].hop}
        assert not before & set(judgement.held_by)
    if verdict == Verdict.under_replicated:
        overdue = [s for s in judgement.checkpoints if s.status == Status.overdue]
        assert all(spec.checkpoints[s.index].stage == Stage.replicate for s in overdue)
    assert {s.index for s in judgement.checkpoints if s.due == Status.overdue} <= {f.index for f in judgement.findings}
    assert judgement.why.endswith((".", ")."))


@law
@given(st.data())
def test_nothing_changes_before_it_is_looked_at_again(data: st.DataObject) -> None:
    """Without new events or coverage the verdict holds until `look_again`, and for ever without one."""
    spec = data.draw(cases.specs())
    events, moved = data.draw(cases.histories(spec)), data.draw(st.lists(cases.ranges(spec), max_size=2))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    judgement = judge(spec, events, coverage, now, moved)
    assert judgement.look_again is None or judgement.look_again > now
    end = now + 10_000 * SECOND if judgement.look_again is None else judgement.look_again
    for moment in {now + (end - now) * part // 7 for part in range(7)} | {end - 1}:
        later = judge(spec, events, coverage, moment, moved)
        assert (later.verdict, later.findings) == (judgement.verdict, judgement.findings)


@law
@given(st.data())
def test_no_hops_clock_decides_what_is_missing(data: st.DataObject) -> None:
    """Where all is vouched for, observed times may be anything: statuses and deadlines stay the same."""
    spec = data.draw(cases.specs())
    events = [structs.replace(e, backfill=False) for e in data.draw(cases.histories(spec))]
    now = data.draw(cases.instants)
    shift = {node: data.draw(st.integers(-500, 500)) * SECOND for node in ("", "n1", "n2")}
    wrong = [structs.replace(e, observed_at=e.observed_at + shift[e.node], observed_from=None) for e in events]
    right, other = (judge(spec, some, everywhere(spec), now) for some in (events, wrong))
    assert [(s.status, s.due, s.deadline) for s in right.checkpoints if spec.paths.required[s.index]] == [
        (s.status, s.due, s.deadline) for s in other.checkpoints if spec.paths.required[s.index]]  # fmt: skip
