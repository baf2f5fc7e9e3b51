"""The checkpoints of a flow as a directed graph, in numbers: checkpoint `i` is the i-th of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.model.event import Stage


@dataclass(frozen=True, slots=True)
class Paths:
    """Who comes before whom.

    `order`: a topological order. `before[i]`: the nearest *required* predecessors. `ancestors[i]`, `descendants[i]`:
    all of them, optional ones too. `hops_behind[i]`: hops that only a message that passed `i` can reach.
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
        """Of (hops, stage, after, required, within) per checkpoint. ValueError says what is wrong with the graph."""
        hops = tuple(p[0] for p in points)
        stages = tuple(p[1] for p in points)
        required = tuple(p[3] for p in points)
        within = tuple(p[4] for p in points)
        _distinct(hops, stages)
        after = tuple(tuple(_resolve(name, i, hops, stages) for name in p[2]) for i, p in enumerate(points))
        order = _sort(after, hops, stages)
        roots = tuple(i for i in range(len(points)) if not after[i])
        if sum(1 for i in roots if required[i] and within[i] is None) > 1:
            raise ValueError("only one checkpoint may begin the flow; give each other one `after` or `within`")
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
        hops_behind = tuple(
            frozenset(h for d in descendants[i] for h in hops[d])
            - {h for a in (*ancestors[i], i) for h in hops[a]}
            for i in everyone
        )
        return cls(hops, stages, required, within, order, tuple(before), tuple(ancestors), descendants, hops_behind,
                   roots, tuple(reach))  # fmt: skip

    @property
    def longest(self) -> int:
        """The longest deadline of the flow from origin to the last checkpoint, microseconds."""
        return max(self.reach)


def _distinct(hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]) -> None:
    seen: set[tuple[str, Stage]] = set()
    for alternatives, stage in zip(hops, stages, strict=True):
        for hop in alternatives:
            if (hop, stage) in seen:
                raise ValueError(f"checkpoint {hop}:{stage} appears twice")
            seen.add((hop, stage))


def _resolve(name: str, own: int, hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]) -> int:
    hop, _, stage = name.partition(":")
    found = [i for i, h in enumerate(hops) if hop in h and (not stage or stages[i] == stage)]
    if own in found and len(found) > 1 and not stage:
        found.remove(own)
    if not found:
        known = ", ".join(sorted({h for group in hops for h in group}))
        raise ValueError(f"`after: {name}` names no checkpoint; the hops of this flow are {known}")
    if len(found) > 1:
        choices = " or ".join(f"{hop}:{stages[i]}" for i in found)
        raise ValueError(f"`after: {name}` could mean {choices}; name the stage")
    return found[0]


def _sort(after: Sequence[tuple[int, ...]], hops: Sequence[tuple[str, ...]], stages: Sequence[Stage]) -> tuple[int, ...]:
    done: list[int] = []
    left = list(range(len(after)))
    while left:
        ready = [i for i in left if all(p in done for p in after[i])]
        if not ready:
            circle = " -> ".join(f"{hops[i][0]}:{stages[i]}" for i in left)
            raise ValueError(f"`after` goes in a circle: {circle}")
        done += ready
        left = [i for i in left if i not in ready]
    return tuple(done)
