"""The flag `reordered`: judged apart from the messages themselves, because it needs their neighbours."""

from __future__ import annotations

from tracker.model.order import ordered
from tracker.model.spec import FlowSpec
from tracker.store import Store
from tracker.store.bounds import Bounds


def judge_order(store: Store, spec: FlowSpec, bounds: Bounds, number: int, again: bool = False) -> None:
    """Judge, in pass `number`, the order of a flow that has new events; with `again`, all of them count as new. Costs
    nothing where the spec asks for none; may be done again with the same bounds."""
    for point in ordered(spec):
        store.keep_order(spec, point, bounds, number, again)
