"""How long messages took, as SQL over their states: from origin to end, and from hop to hop; and which hops they were
due to reach, and reached.

Names go as query parameters; flows whose checkpoints are joined in the same way share their expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tracker.store.handful import MOST, bytes_named
from tracker.store.shape import NEVER, Shape

UNKNOWN = -1
"""A time that is not known, µs: a checkpoint of the two was not seen, or only implied."""


def expressions(shape: Shape) -> tuple[str, ...]:
    """SQL over a state, µs or `UNKNOWN`: from its origin to the last required checkpoint that has a time, then to each
    checkpoint from the latest of those before it; clocks that differ make nothing shorter than 0."""
    points, paths = shape.spec.checkpoints, shape.spec.paths
    required = (_observed(shape, i) for i in range(len(points)) if paths.required[i])
    last = _of("greatest", [f"if({at} = {NEVER}, toInt64({UNKNOWN}), {at})" for at in required])
    return (_since(last, "toUnixTimestamp64Micro(origin_at)"), *(_hop(shape, i) for i in range(len(points))))


def passages(shape: Shape) -> tuple[str, ...]:
    """SQL over a state, beside each of `expressions`: bit 0 when the checkpoint was due to see the message, for it is
    required, and one before it saw it, or none is before it; bit 1 when it saw it then. Both 0 for the whole way."""
    return ("toUInt8(0)", *(_passage(shape, i) for i in range(len(shape.spec.checkpoints))))


def _passage(shape: Shape, i: int) -> str:
    paths = shape.spec.paths
    if not paths.required[i]:
        return "toUInt8(0)"
    before = [bit for p in paths.before[i] for bit in shape.bits(p)]
    due, here = (f"bitAnd(seen, {sum(1 << bit for bit in bits)}) != 0" for bits in (before, shape.bits(i)))
    return f"toUInt8(if({due if before else 'true'}, 1 + 2 * ({here}), 0))"


def _hop(shape: Shape, i: int) -> str:
    before = [_observed(shape, p) for p in shape.spec.paths.before[i]]
    if not before:
        return f"toInt64({UNKNOWN})"
    return _since(_observed(shape, i), _of("greatest", before))


def _since(end: str, start: str) -> str:
    # An older spec may have left a shorter array of times, of which the engine gives 0 for what it does not hold.
    known = " AND ".join(f"({at}) > 0 AND ({at}) < {NEVER}" for at in (end, start))
    return f"if({known}, greatest(({end}) - ({start}), toInt64(0)), toInt64({UNKNOWN}))"


def _observed(shape: Shape, i: int) -> str:
    """When checkpoint `i` was seen, at whichever alternative first; `NEVER` where it was not."""
    return _of("least", [f"observed[{bit + 1}]" for bit in shape.bits(i)])


def _of(function: str, values: Sequence[str]) -> str:
    """Of several values, without an array of them for each message: that took a third of the question's time."""
    if len(values) < 2:
        return values[0] if values else f"toInt64({UNKNOWN})"
    return f"{function}({', '.join(values)})"


def together(shapes: Iterable[Shape]) -> Iterator[list[Shape]]:
    """In groups that one question can name."""
    group: list[Shape] = []
    names = 0
    for shape in shapes:
        if group and names + bytes_named(shape) > MOST // 2:
            yield group
            group, names = [], 0
        group.append(shape)
        names += bytes_named(shape)
    if group:
        yield group


def _ways(shape: Shape) -> tuple[str, ...]:
    return tuple(f"({took}, {passed})" for took, passed in zip(expressions(shape), passages(shape), strict=True))


def asked(shapes: Sequence[Shape]) -> tuple[str, Mapping[str, Any]]:
    """(SQL of an array over a state, parameters) for `queries/keep_latencies.sql`. The array has an entry per
    expression; the parameters name hop and stage of each, both empty for the first."""
    alike: dict[tuple[str, ...], list[str]] = {}
    places: dict[str, tuple[str, str]] = {}
    for shape in shapes:
        flow = shape.spec.flow
        alike.setdefault(_ways(shape), []).append(flow)
        for i, point in enumerate(shape.spec.checkpoints):
            places[f"{flow} {i + 2}"] = "|".join(point.hop), point.stage.value
    cases = [f"flow IN {{like{n}:Array(String)}}, [{', '.join(made)}]" for n, made in enumerate(alike)]
    named = {f"like{n}": flows for n, flows in enumerate(alike.values())}
    return f"multiIf({', '.join(cases)}, [])", named | {
        "flows": [flow for flows in alike.values() for flow in flows],
        "places": list(places),
        "hops": [hop for hop, _ in places.values()],
        "stages": [stage for _, stage in places.values()],
    }
