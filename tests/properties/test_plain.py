"""Verdicts on columns against the reference judge, over whatever may come."""

from typing import Any

from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.properties import cases
from tests.unit.reconcile.folding import shape_of, states
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Range, Stage
from tracker.model.judge import RECHECK, judge
from tracker.model.spec import FlowSpec
from tracker.model.verdict import Flag, Verdict
from tracker.reconcile.exceptions import Bench, transitions
from tracker.reconcile.openings import openings
from tracker.reconcile.plain import FLAGS, VERDICTS, Court, Plain, judge_plain

FINDING = ("message_id", "hop", "stage", "kind", "status", "incident", "opened_at", "known_at", "resolved_at",
           "deadline", "origin_at", "by", "cause", "held_by", "why")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equal_to_the_reference(data: st.DataObject) -> None:
    """Whatever is judged on columns has the reference's verdict and flags, opens the same findings, word for word, and
    is looked at again no later."""
    spec = data.draw(cases.specs())
    messages = {f"m{n}": [structs.replace(e, message_id=f"m{n}") for e in data.draw(_quiet(spec))] for n in range(3)}
    ranges = data.draw(st.lists(cases.ranges(spec), max_size=2))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    assume(now + RECHECK)  # in states a time of 0 stands for never
    targets = {(r.hop, r.stage.value) for r in ranges if not coverage.vouches(r.hop, r.stage.value)}
    shape = shape_of(spec)
    targets &= set(shape.checkpoint_bits)
    court = Court.of(shape, now, coverage, 0, frozenset((r.hop, r.stage.value) for r in ranges))
    judged = judge_plain(court, states(shape, messages, ranges, targets))
    table = openings(court, judged, _incident)
    found = table.to_pylist() if table else []
    for row, (ident, events) in enumerate(messages.items()):
        if judged.codes[row]:
            mine = [r for r in ranges if (r.hop, r.stage.value) in targets or r.stage == Stage.drop]
            _same(judged, row, spec, events, coverage, now, mine)
            bench = Bench(now, lambda _: spec, spec, coverage, mine, _incident)
            expected = transitions(bench, spec, events, judge(spec, events, coverage, now, mine), ())
            told = [one for one in found if one["message_id"] == ident]
            wanted = _opened([structs.asdict(finding) for finding in expected])
            assert _opened(told) == wanted, (_opened(told), wanted)
        note(f"{ident} is {'plain' if judged.codes[row] else 'special'}")


def _incident(*key: str) -> str:
    return "/".join(key)


def _opened(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(str(one[name]) for name in FINDING) for one in found)


def _quiet(spec: FlowSpec) -> st.SearchStrategy[list[Event]]:
    """Mostly what happens where all goes well."""
    stages = (Stage.produce, Stage.persist, Stage.replicate, Stage.deliver, Stage.ack, Stage.nack)
    quiet = st.lists(cases.events(spec, stages=stages), min_size=1, max_size=7)
    return quiet.map(
        lambda some: [structs.replace(e, observed_from=None, backfill=False, digest="aa") for e in some]
    ).filter(
        lambda some: any(e.hop in spec.hops for e in some) and all(e.observed_at and e.origin_at != 0 for e in some)
    )


def _same(judged: Plain, row: int, spec: FlowSpec, events: list[Event], coverage: Coverage, now: int,
          ranges: list[Range]) -> None:  # fmt: skip
    reference = judge(spec, events, coverage, now, ranges)
    look = int(judged.look_again[row])
    kinds = {i: int(kind[row]) for i, kind in judged.kinds.items()}
    assert VERDICTS[judged.codes[row]] == reference.verdict, (kinds, reference)
    undecided = {Flag.gap} if look else set()
    flags = {flag for n, flag in enumerate(FLAGS) if judged.flags[row] >> n & 1}
    assert flags == set(reference.flags) - undecided, (flags, look, kinds, reference)
    if reference.look_again is not None:
        assert now < look <= reference.look_again
    if reference.verdict == Verdict.in_flight:
        assert look or reference.look_again is None
