"""The fold of `queries/fold_new.sql`, `fold_ranges.sql` and `merge.sql` in Python: states without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import xxhash

from tracker.model.event import Event, Range, Stage, delivery_of
from tracker.model.facts import HOLDING, parks, received
from tracker.model.origin import origin_of
from tracker.model.ranges import range_drops, range_over
from tracker.model.spec import FlowSpec
from tracker.store.shape import BACKFILL, DEAD, DROPPED, INTERVAL, MAX_DELIVERIES, NEVER, REPLAYED, Shape


def shape_of(spec: FlowSpec) -> Shape:
    """The spec with bits in the order of mention, the first few left to checkpoints that are no more."""
    places = [(hop, c.stage.value) for c in spec.checkpoints for hop in c.hop]
    return Shape(spec, {place: n + 2 for n, place in enumerate(places)}, {h: n + 1 for n, h in enumerate(spec.hops)})


def states(
    shape: Shape,
    messages: Mapping[str, Sequence[Event]],
    ranges: Sequence[Range] = (),
    targets: Iterable[tuple[str, str]] = (),
    **known: Any,
) -> pa.Table:
    """Merged states; ranges speak for `targets`. `known`: what earlier passes left, as `found` or `timer_at`."""
    rows = [_row(shape, ident, list(events), ranges, set(targets)) | known for ident, events in messages.items()]
    kinds = {"observed": pa.list_(pa.int64()), "received": pa.list_(pa.int64()), "deliveries": pa.list_(pa.uint64()),
             "digests": pa.list_(pa.uint64()), "nodes": pa.list_(pa.uint64()), "seen": pa.uint64(),
             "ranged": pa.uint64(), "hops": pa.uint64(),
             "kept": pa.uint64(), "gone": pa.uint64(),
             "marks": pa.uint32(), "counted_was": pa.uint8()}  # fmt: skip
    return pa.table({name: pa.array([r[name] for r in rows], kinds.get(name)) for name in rows[0]})


def _row(
    shape: Shape, ident: str, events: list[Event], ranges: Sequence[Range], targets: set[tuple[str, str]]
) -> dict[str, Any]:
    spec = shape.spec
    mine = [e for e in events if e.hop in spec.hops]
    observed, got = [NEVER] * shape.size, [NEVER] * shape.size
    seen = ranged = hops = marks = kept = gone = 0
    deliveries: set[int] = set()
    nodes: set[int] = set()
    digests: set[int] = set()
    joined = {j for i, c in enumerate(spec.checkpoints) if c.same_payload for j in (i, *spec.paths.before[i])}
    limited = {b for i, c in enumerate(spec.checkpoints) if c.at_most for b in shape.bits(i)}
    counted = {b for i, c in enumerate(spec.checkpoints) if c.quorum > 1 for b in shape.bits(i)}
    outboxes = {h for c in spec.checkpoints if c.outbox for h in c.hop}
    for e in [*mine, *range_drops(spec, mine, ranges)]:
        if e.hop not in shape.hop_bits:
            continue
        place = 1 << shape.hop_bits[e.hop]
        hops |= place
        keeps = e.stage in HOLDING or (e.stage == Stage.produce and e.hop in outboxes)
        kept |= place * keeps
        gone |= place * (e.stage in (Stage.ack, Stage.drop))
        marks |= (
            DROPPED * (e.stage == Stage.drop) | DEAD * parks(e) | BACKFILL * e.backfill | REPLAYED * bool(e.replay_id)
        )
        marks |= INTERVAL * (e.observed_from is not None and e.observed_from != e.observed_at)
        bit = shape.checkpoint_bits.get((e.hop, e.stage.value))
        if bit is None:
            continue
        seen |= 1 << bit
        observed[bit], got[bit] = min(observed[bit], e.observed_at), min(got[bit], received(e))
        if bit in limited and not e.replay_id:
            deliveries.add(bit << 58 | _hash(delivery_of(e) or f"node {e.node}") >> 6)
        if bit in counted:
            nodes.add(bit << 58 | _hash(e.node) >> 6)
        if e.digest and any(bit in shape.bits(j) for j in joined):
            digests.add(int(e.digest, 16))
    for hop, stage in targets:
        moved = range_over(mine, [hop], Stage(stage), [r for r in ranges if r.stage != Stage.drop])
        if moved is not None:
            bit = shape.checkpoint_bits[hop, stage]
            seen, ranged = seen | 1 << bit, ranged | 1 << bit
            observed[bit] = min(observed[bit], moved.since)
            got[bit] = min(got[bit], moved.received_at)
    made = [e.observed_at if e.origin_at is None else e.origin_at for e in mine
            if e.stage == Stage.produce and not e.replay_id]  # fmt: skip
    return {
        "message_id": ident, "seen": seen, "ranged": ranged, "hops": hops,
        "kept": kept, "gone": gone, "marks": marks, "observed": observed,
        "received": got, "first_observed": min(e.observed_at for e in mine),
        "first_received": min(received(e) for e in mine), "produced_first": min(made, default=NEVER),
        "produced_last": max(made, default=0), "deliveries": sorted(deliveries)[:MAX_DELIVERIES],
        "nodes": sorted(nodes)[:MAX_DELIVERIES],
        "digests": sorted(digests)[:4], "origin_at": origin_of(ident, mine), "found": False, "timer_at": 0,
        "counted_was": 0,
    }  # fmt: skip


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
