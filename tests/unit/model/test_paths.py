"""The checkpoints as a graph: who comes before whom, and what follows from having been seen somewhere."""

from __future__ import annotations

from tests.unit.model.case import flow
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND


def names(spec: FlowSpec, which: tuple[int, ...] | frozenset[int]) -> set[str]:
    """Checkpoints by name."""
    return {spec.checkpoints[i].name for i in which}


def test_predecessors_are_the_nearest_required_ones() -> None:
    """An optional checkpoint never blocks: what comes after it waits for what came before it."""
    spec = flow(
        "hop: a, stage: produce",
        "hop: b, stage: persist, after: a, within: 1s, required: false",
        "hop: c, stage: deliver, after: b, within: 2s, required: false",
        "hop: d, stage: ack, after: [c, a], within: 3s",
    )
    assert names(spec, spec.paths.before[3]) == {"a:produce"}
    assert names(spec, spec.paths.ancestors[3]) == {"a:produce", "b:persist", "c:deliver"}
    assert names(spec, spec.paths.descendants[0]) == {"b:persist", "c:deliver", "d:ack"}


def test_the_order_of_the_text_does_not_matter() -> None:
    """Checkpoints are ordered by their paths, wherever they stand."""
    spec = flow(
        "hop: c, stage: ack, after: b, within: 2s",
        "hop: b, stage: persist, after: a, within: 1s",
        "hop: a, stage: produce",
    )
    assert [spec.checkpoints[i].name for i in spec.paths.order] == ["a:produce", "b:persist", "c:ack"]
    assert spec.paths.reach == (3 * SECOND, SECOND, 0)
    assert spec.paths.longest == 3 * SECOND


def test_a_path_is_as_long_as_its_longest_way() -> None:
    """Of several ways to a checkpoint the slowest counts."""
    spec = flow(
        "hop: a, stage: produce",
        "hop: b, stage: persist, after: a, within: 10s",
        "hop: c, stage: persist, after: a, within: 1s",
        "hop: d, stage: ack, after: [b, c], within: 5s",
    )
    assert spec.paths.longest == 15 * SECOND
    assert names(spec, spec.paths.before[3]) == {"b:persist", "c:persist"}


def test_hops_behind_are_those_that_nothing_else_names() -> None:
    """`billing` delivers beside `fraud` and acks behind it: having been there says nothing of `fraud`."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: shop, within: 5s",
        "hop: fraud, stage: ack, after: log, within: 9s",
        "hop: billing, stage: deliver, after: log, within: 9s",
        "hop: billing, stage: ack, after: ['billing:deliver', fraud], within: 9s",
    )
    assert spec.paths.hops_behind == (
        frozenset({"log", "fraud", "billing"}),
        frozenset({"fraud", "billing"}),
        frozenset(),
        frozenset(),
        frozenset(),
    )


def test_a_hop_is_not_behind_itself() -> None:
    """A shop that produces and later acks the answer was at the beginning, too."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: 'shop:produce', within: 5s",
        "hop: shop, stage: ack, after: log, within: 9s",
    )
    assert spec.paths.hops_behind[1] == frozenset()


def test_several_beginnings_with_a_deadline_each() -> None:
    """Beside the one beginning, a checkpoint without `after` needs `within`; both are roots."""
    spec = flow("hop: a, stage: produce", "hop: b, stage: produce, within: 5s")
    assert spec.paths.roots == (0, 1)
