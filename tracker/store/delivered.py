"""The quickest of all judgements, by the engine itself: everything required was seen in time, and nothing is odd.

Most messages of most passes end here and never leave the engine. What the condition leaves out says nothing about a
message: the columns of `tracker.reconcile.plain`, or the reference, judge it, and a property test holds this condition
against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracker.model.flags import SKEW
from tracker.model.units import SECOND
from tracker.store.shape import MAX_DELIVERIES, NEVER, Shape


def delivered(shape: Shape) -> str:
    """SQL over a row of `merged`: the verdict is `delivered`, without a flag, and time alone will not change it.

    The parameter `in_force_from` (Int64, µs) is the earliest origin that the newest version of the spec judges.
    """
    if any(point.quorum > 1 for point in shape.spec.checkpoints):
        return "false"  # counting nodes is for the columns
    return " AND ".join(f"({condition})" for condition in _conditions(shape))


def _conditions(shape: Shape) -> Iterator[str]:
    points, paths = shape.spec.checkpoints, shape.spec.paths
    known_hops = sum(1 << shape.hop_bits[hop] for hop in {hop for point in points for hop in point.hop})
    longest = max(paths.longest, SECOND)
    yield "NOT found AND marks = 0 AND ranged = 0 AND length(digests) < 2"
    yield f"length(deliveries) < {MAX_DELIVERIES} AND bitAnd(hops, bitNot(toUInt64({known_hops}))) = 0"
    yield "origin_at >= {in_force_from:Int64} AND first_received >= {in_force_from:Int64}"
    yield f"bitAnd(seen, {_mask(shape, paths.roots)}) != 0"
    yield f"NOT (produced_last > 0 AND produced_first < {NEVER} AND produced_last - produced_first > {longest})"
    for i, point in enumerate(points):
        if paths.required[i]:
            yield f"bitAnd(seen, {_mask(shape, [i])}) != 0"
        if point.at_most:
            bits = ", ".join(map(str, shape.bits(i)))
            yield f"arrayCount(d -> bitShiftRight(d, 58) IN ({bits}), deliveries) <= {point.at_most}"
        for p in paths.before[i]:
            yield f"{_observed(shape, i)} >= {_observed(shape, p)} - {SKEW}"
        within = paths.within[i]
        if paths.required[i] and paths.before[i] and within is not None:
            latest = _of("greatest", [_observed(shape, p) for p in paths.before[i]])
            yield f"{_observed(shape, i)} <= {latest} + {within}"


def _mask(shape: Shape, checkpoints: Iterable[int]) -> int:
    return sum(1 << bit for bit in {bit for i in checkpoints for bit in shape.bits(i)})


def _observed(shape: Shape, i: int) -> str:
    """When checkpoint `i` was passed; a time that never came when it was not."""
    return _of("least", [f"observed[{bit + 1}]" for bit in shape.bits(i)])


def _of(function: str, values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{function}({', '.join(values)})"
