"""The checkpoints of a flow as a directed graph, in numbers: checkpoint `i` is the i-th of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.model.event import Stage


class GraphError(ValueError):
    """The checkpoints make no graph; `place` is where in the spec: which checkpoint, and which of its keys."""

    def __init__(self, reason: str, checkpoint: int, key: str = "after") -> None:
        super().__init__(reason)
        self.place = ("checkpoints", checkpoint, key)


@dataclass(frozen=True, slots=True)
class Paths:
    """Who comes before whom.

    `order`: a topological order. `before[i]`: the nearest *required* predecessors. `ancestors[i]`, `descendants[i]`:
    all of them, optional ones too. `hops_behind[i]`: hops that only a message that passed `i` can reach, because every
    checkpoint that names them lies behind it.
    `roots`: checkpoints without `after`. `reach[i]`: the longest sum of `within` from a root to `i`, microseconds.
    """

    hops: tuple[tuple[str, ...], ...]
    stages: tuple[Stage, ...]
    required: tuple[bool, ...]
    within: tuple[int | None, ...]
    order: tuple[int, ...]
    before: tuple[tuple[int, ...], ...]
    ancestors: tuple[frozenset[int], ...]
    descendants: tuple[frozenset[int], ...]
    hops_behind: tuple[frozenset[str], ...]
    roots: tuple[int, ...]
    reach: tuple[int, ...]

    @classmethod
    def of(cls, points: Sequence[tuple[tuple[str, ...], Stage, tuple[str, ...], bool, int | None]]) -> Paths:
        """Of (hops, stage, after, required, within) per checkpoint. GraphError says what is wrong."""
        hops = tuple(p[0] for p in points)
        stages = tuple(p[1] for p in points)
        required = tuple(p[3] for p in points)
        within = tuple(p[4] for p in points)
        _distinct(hops, stages)
        after = tuple(tuple(_resolve(name, i, hops, stages) for name in p[2]) for i, p in enumerate(points))
        order = _sort(after, hops, stages)
        roots = tuple(i for i in range(len(points)) if not after[i])
        beginnings = [i for i in roots if required[i] and within[i] is None]
        if len(beginnings) > 1:
            reason = "only one checkpoint may begin the flow; give each other one `after` or `within`"
            raise GraphError(reason, beginnings[1], "hop")
        ancestors: list[frozenset[int]] = [frozenset()] * len(points)
        before: list[tuple[int, ...]] = [()] * len(points)
        reach = [0] * len(points)
        for i in order:
            ancestors[i] = frozenset(after[i]).union(*(ancestors[p] for p in after[i]))
            nearest = [q for p in after[i] for q in ((p,) if required[p] else before[p])]
            before[i] = tuple(dict.fromkeys(nearest))
            reach[i] = max((reach[p] for p in after[i]), default=0) + (within[i] or 0)
        everyone = range(len(points))
        descendants = tuple(frozenset(d for d in everyone if i in ancestors[d]) for i in everyone)
        hops_behind = tuple(_only_behind(hops, behind) for behind in descendants)
        return cls(hops, stages, required, within, order, tuple(before), tuple(ancestors), descendants, hops_behind,
                   roots, tuple(reach))  # fmt: skip

    @property
    def longest(self) -> int:
        """The longest deadline of the flow from origin to the last checkpoint, microseconds."""
        return max(self.reach)


def _only_behind(hops: Sequence[tuple[str, ...]], behind: frozenset[int]) -> frozenset[str]:
    """Hops of the checkpoints `behind` that no other checkpoint names."""
    elsewhere = {hop for i, alternatives in enumerate(hops) if i not in behind for hop in alternatives}
    return frozenset(hop for i in behind for hop in hops[i]) - elsewhere


def _distinct(hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]) -> None:
    seen: set[tuple[str, Stage]] = set()
    for i, (alternatives, stage) in enumerate(zip(hops, stages, strict=True)):
        for hop in alternatives:
            if (hop, stage) in seen:
                raise GraphError(f"checkpoint {hop}:{stage} appears twice", i, "hop")
            seen.add((hop, stage))


def _resolve(name: str, own: int, hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]) -> int:
    hop, _, stage = name.partition(":")
    found = [i for i, h in enumerate(hops) if hop in h and (not stage or stages[i] == stage)]
    if own in found and len(found) > 1 and not stage:
        found.remove(own)
    if not found:
        known = ", ".join(sorted({h for group in hops for h in group}))
        raise GraphError(f"`after: {name}` names no checkpoint; the hops of this flow are {known}", own)
    if len(found) > 1:
        choices = " or ".join(f"{hop}:{stages[i]}" for i in found)
        raise GraphError(f"`after: {name}` could mean {choices}; name the stage", own)
    return found[0]


def _sort(
    after: Sequence[tuple[int, ...]], hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]
) -> tuple[int, ...]:
    done: list[int] = []
    left = list(range(len(after)))
    while left:
        ready = [i for i in left if all(p in done for p in after[i])]
        if not ready:
            circle = _circle(left, after)
            names = " -> ".join(f"{hops[i][0]}:{stages[i]}" for i in circle)
            raise GraphError(f"`after` goes in a circle: {names}", circle[0])
        done += ready
        left = [i for i in left if i not in ready]
    return tuple(done)


def _circle(left: Sequence[int], after: Sequence[tuple[int, ...]]) -> list[int]:
    """One circle among `left`, its first checkpoint repeated at the end, in the order in which messages would go."""
    trail = [left[0]]
    while trail[-1] not in trail[:-1]:
        trail.append(next(p for p in after[trail[-1]] if p in left))
    return trail[trail.index(trail[-1]) :][::-1]
