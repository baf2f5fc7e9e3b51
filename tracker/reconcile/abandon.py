"""A hop is gone for good: what it held is written off, by name, as if the hop itself had said so.

For every copy that it holds, the tracker stores a `drop` with reason `abandoned`; where asked for, also for what was
handed to it and not seen there: a region that dies takes along what its collectors had not told yet. The event takes
the copy's own delivery, node and digest, so its natural key is the same however often it is written; and a copy that
was written off is not held any more, so doing it again finds nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from tracker.model.event import Stage
from tracker.model.facts import HOLDING
from tracker.model.spec import FlowSpec
from tracker.store import Store
from tracker.store.columns import EVENTS
from tracker.store.held import COPY, Place

MOST = 200_000
"""Copies written off by one call, about: it answers within seconds."""
STEP = 100_000
"""Events looked at, and so copies in one insert, at most."""


class Abandoned(msgspec.Struct, frozen=True):
    """What a call has written off. `next`: the message to go on after; empty when nothing is left."""

    messages: int
    copies: int
    next: str


def abandon(
    store: Store, place: Place, now: int, by: str, why: str, after: str = "", most: int = MOST, step: int = STEP
) -> Abandoned:
    """Write off what is held at `place` of messages after the id `after`, about `most` copies of it. Returns when that
    is durable."""
    messages, copies = 0, 0
    while True:
        held, after = store.held(place, after, step)
        if held.num_rows:
            store.insert_events(drops(place, held, now, {"declared_by": by, "why": why}))
        copies += held.num_rows
        messages += len(held["message_id"].unique())
        if not after or copies >= most:
            return Abandoned(messages, copies, after)


def handed_to(spec: FlowSpec, hop: str) -> tuple[tuple[str, str], ...]:
    """(hop, stage) of the events after which only `hop` has the message: a `produce` before it, or where that is an
    outbox, the `ack` that the row was relayed. None where other hops may take it instead, and where what comes before
    it keeps messages: that has a copy."""
    paths = spec.paths
    mine = [i for i, stage in enumerate(paths.stages) if paths.hops[i] == (hop,) and stage in HOLDING]
    before = [spec.checkpoints[p] for i in mine for p in paths.before[i]]
    if len(before) != 1 or before[0].stage != Stage.produce:
        return ()
    stage = Stage.ack if before[0].outbox else Stage.produce
    return tuple((one, stage.value) for one in before[0].hop)


def drops(place: Place, held: pa.Table, now: int, said: dict[str, str]) -> pa.Table:
    """One `drop` per copy (rows of `COPY`), observed and received at `now`, as rows of EVENTS."""
    fixed: dict[str, Any] = {
        "tenant": "", "flow": place.flow, "hop": place.hop, "stage": "drop", "reason": "abandoned", "observed_at": now,
        "received_at": now, "observed_span": 0, "origin_at": 0, "key_hash": 0, "key": "", "trace_id": "", "span_id": "",
        "correlation_id": "", "causation_id": "", "replay_id": "", "backfill": False, "attributes": list(said.items()),
        "clock_offset": 0, "clock_error": 0,
    }  # fmt: skip
    rows = held.num_rows
    columns = {
        field.name: held[field.name] if field.name in COPY else _repeated(fixed[field.name], field.type, rows)
        for field in EVENTS
    }
    return pa.table(columns).select(EVENTS.names).cast(EVENTS)


def _repeated(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    """The same value in every row; `pa.repeat` knows no maps."""
    return pa.array([value], kind).take(pa.repeat(pa.scalar(0, pa.int64()), rows))
