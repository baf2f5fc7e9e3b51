"""The flags that messages ought to have, by what the tracker was told of them."""

from __future__ import annotations

import numpy as np

from tracker.simulate.case import SECOND, Case, either
from tracker.simulate.world import NEVER, Bools, Ints


def flags_of(case: Case) -> dict[str, Bools]:
    """Each flag, by message."""
    roots = [p for p in case.places if not p.after]
    return {
        "gap": _gap(case),
        "orphan": case.heard & ~either((case.seen[p.index] for p in roots), case.count),
        "duplicated": _duplicated(case),
        "replayed": case.any_of(t for t in case.told if t.chunk.replay),
        "skewed": _skewed(case),
        "reordered": _reordered(case),
        "reused_id": _reused(case),
    }


def _gap(case: Case) -> Bools:
    result = np.zeros(case.count, dtype=bool)
    for place in case.places:
        if not place.required:
            continue
        behind = case.world.route.descendants(place.index)
        hops = case.world.route.only_behind(place.index)
        points = {(hop, d.stage) for d in behind for hop in d.hops}
        telling = [t for t in case.told if t.chunk.hop in hops or (t.chunk.hop, t.chunk.stage) in points]
        end = np.minimum(case.least((t.message, t.receipt) for t in telling), case.now)
        start = case.passed_before(place)
        result |= case.implied[place.index] & case.covered(place, start, np.maximum(start, end))
    return result & case.heard


def _duplicated(case: Case) -> Bools:
    result = np.zeros(case.count, dtype=bool)
    for place in case.places:
        if place.at_most:
            pairs = [np.stack([t.message, t.delivery]) for t in case.told if not t.chunk.replay
                     and t.chunk.hop in place.hops and t.chunk.stage == place.stage]  # fmt: skip
            if pairs:
                distinct = np.unique(np.concatenate(pairs, axis=1), axis=1)
                result |= np.bincount(distinct[0], minlength=case.count) > place.at_most
    return result


def _skewed(case: Case) -> Bools:
    both = ((p.index, b) for p in case.places for b in p.before)
    return either((case.seen[i] & case.seen[b] & (case.observed[i] + SECOND < case.observed[b]) for i, b in both),
               case.count)  # fmt: skip


def _reused(case: Case) -> Bools:
    made = [t for t in case.told if t.chunk.stage == "produce" and not t.chunk.replay]
    low = case.least((t.message, t.origin) for t in made)
    high = -case.least((t.message, -t.origin) for t in made)
    return (low < NEVER) & (high - low > max(case.world.route.longest, SECOND))


def _reordered(case: Case) -> Bools:
    """Somebody of the same partition who was produced later was seen there earlier, beyond what clocks leave open."""
    result = np.zeros(case.count, dtype=bool)
    root = next(p for p in case.places if not p.after)
    for place in case.places:
        if not place.order:
            continue
        node = np.arange(case.count) % case.world.nodes(place.hops[0])
        for partition in range(case.world.scenario.partitions):
            mine = np.nonzero(case.seen[place.index] & case.seen[root.index] & (case.world.partition == partition))[0]
            result[mine] |= _overtaken(case.observed[place.index][mine], node[mine])
    return result


def _overtaken(seen: Ints, node: Ints) -> Bools:
    """Of messages in the order of their offsets: was any later one seen earlier? Nodes differ beyond a second."""
    later = np.append(np.minimum.accumulate(seen[::-1])[::-1][1:], NEVER)
    passed: Bools = later < seen - SECOND
    for one in np.unique(node):
        mine = node == one
        times = seen[mine]
        passed[mine] |= np.append(np.minimum.accumulate(times[::-1])[::-1][1:], NEVER) < times
    return passed
