"""Order: which messages were overtaken. The reference that the SQL of passes is tested against. Pure.

A message stands in a *line* with those of the same key (or partition) that were produced into the same partition. It is
reordered at a checkpoint when one that was produced after it was observed there before it. What was produced later is
told by the produce's offset; where there is none, by the time of the produce, among those that have none either. Times
of one node are compared as they are; those of two nodes only beyond what both clocks may be wrong by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND

UNMEASURED = SECOND // 2
"""How wrong the clock of a node is taken to be where nobody measured it: two such nodes are compared beyond a second,
which is what `skewed` allows, too."""


class Ordered(NamedTuple):
    """A checkpoint at one hop whose order matters; `by` is `key` or `partition`."""

    hop: str
    stage: Stage
    by: str


class Standing(NamedTuple):
    """Where a message stands. `made`: offset, or µs with `made_error` by the clock of `maker`. It was observed in
    [since, seen] (µs) by the clock of `node`, wrong by at most `seen_error`."""

    line: tuple[str, str]
    made: int
    made_error: int
    maker: str
    since: int
    seen: int
    seen_error: int
    node: str


def ordered(spec: FlowSpec) -> list[Ordered]:
    """The checkpoints for which the spec asks, one for each hop."""
    return [Ordered(hop, c.stage, c.order) for c in spec.checkpoints if c.order for hop in c.hop]


def reordered(spec: FlowSpec, point: Ordered, messages: Mapping[str, Iterable[Event]]) -> frozenset[str]:
    """The ids, of these messages with all their events, that were overtaken at `point`."""
    standing = {i: found for i, events in messages.items() if (found := standing_of(spec, point, list(events)))}
    lines: dict[tuple[str, str], list[str]] = {}
    for ident, found in standing.items():
        lines.setdefault(found.line, []).append(ident)
    return frozenset(m for line in lines.values() for m in line if any(_passed(standing[m], standing[n]) for n in line))


def standing_of(spec: FlowSpec, point: Ordered, events: Sequence[Event]) -> Standing | None:
    """Where a message stands at `point`; None when its produce or its passage there was not seen, or it has no key."""
    roots = {(hop, spec.checkpoints[i].stage) for i in spec.paths.roots for hop in spec.checkpoints[i].hop}
    begun = [e for e in events if (e.hop, e.stage) in roots and not e.replay_id]
    here = [e for e in events if (e.hop, e.stage) == (point.hop, point.stage)]
    if not begun or not here:
        return None
    placed = min(((e.partition, e.offset) for e in begun if e.partition and e.offset is not None), default=None)
    keys = [e.key for e in (*begun, *here) if e.key]
    partition = placed[0] if placed else min((e.partition for e in here if e.partition), default="")
    group = min(keys, default="") if point.by == "key" else partition
    if not group:
        return None
    made, maker, made_error = min((_made(e), e.node, _error(e)) for e in begun)
    seen, since, node, seen_error = min((e.observed_at, _since(e), e.node, _error(e)) for e in here)
    if placed:
        return Standing((group, placed[0]), placed[1], 0, "", since, seen, seen_error, node)
    return Standing((group, ""), made, made_error, maker, since, seen, seen_error, node)


def _passed(m: Standing, n: Standing) -> bool:
    """n, which was produced after m, was observed before it, and both beyond doubt."""
    after = 0 if m.maker == n.maker else m.made_error + n.made_error
    before = 0 if m.node == n.node else m.seen_error + n.seen_error
    return n.made - m.made > after and m.since - n.seen > before


def _made(event: Event) -> int:
    """When it was produced, by the tracker's clock: the origin time was stamped by the producer's."""
    return event.observed_at if event.origin_at is None else event.origin_at + event.clock_offset


def _error(event: Event) -> int:
    return UNMEASURED if event.clock_error is None else event.clock_error


def _since(event: Event) -> int:
    return event.observed_at if event.observed_from is None else event.observed_from
