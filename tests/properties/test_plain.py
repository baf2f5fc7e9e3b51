"""Verdicts on columns against the reference judge, over whatever may come."""

from hypothesis import given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.properties import cases
from tests.unit.reconcile.folding import shape_of, states
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Range, Stage
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec
from tracker.model.verdict import Flag, Verdict
from tracker.reconcile.plain import FLAGS, VERDICTS, Court, Plain, judge_plain
from tracker.reconcile.reconciler import _watermarks


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equal_to_the_reference(data: st.DataObject) -> None:
    """Whatever is judged on columns has the reference's verdict and flags, and is looked at again no later."""
    spec = data.draw(cases.specs())
    messages = {f"m{n}": [structs.replace(e, message_id=f"m{n}") for e in data.draw(_quiet(spec))] for n in range(3)}
    ranges = data.draw(st.lists(cases.ranges(spec), max_size=2))
    coverage, now = data.draw(cases.coverages(spec)), data.draw(cases.instants)
    targets = {(r.hop, r.stage.value) for r in ranges if not coverage.vouches(r.hop, r.stage.value)}
    shape = shape_of(spec)
    targets &= set(shape.checkpoint_bits)
    judged = judge_plain(
        Court(shape, now, 0, _watermarks(spec, coverage, now)), states(shape, messages, ranges, targets)
    )
    for row, (ident, events) in enumerate(messages.items()):
        if judged.codes[row]:
            _same(judged, row, spec, events, coverage, now, [r for r in ranges if (r.hop, r.stage.value) in targets])
        note(f"{ident} is {'plain' if judged.codes[row] else 'special'}")


def _quiet(spec: FlowSpec) -> st.SearchStrategy[list[Event]]:
    """Mostly what happens where all goes well."""
    stages = (Stage.produce, Stage.persist, Stage.replicate, Stage.deliver, Stage.ack, Stage.nack)
    quiet = st.lists(cases.events(spec, stages=stages), min_size=1, max_size=7)
    return quiet.map(
        lambda some: [structs.replace(e, observed_from=None, backfill=False, digest="aa") for e in some]
    ).filter(lambda some: any(e.hop in spec.hops for e in some))


def _same(judged: Plain, row: int, spec: FlowSpec, events: list[Event], coverage: Coverage, now: int,
          ranges: list[Range]) -> None:  # fmt: skip
    reference = judge(spec, events, coverage, now, ranges)
    look = int(judged.look_again[row])
    assert VERDICTS[judged.codes[row]] == reference.verdict
    undecided = {Flag.gap} if look else set()
    assert {flag for n, flag in enumerate(FLAGS) if judged.flags[row] >> n & 1} == set(reference.flags) - undecided
    if reference.look_again is not None:
        assert now < look <= reference.look_again
    if reference.verdict == Verdict.in_flight:
        assert look or reference.look_again is None
