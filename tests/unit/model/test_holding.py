"""Which hops still hold a copy: until every delivery kept there was dropped, or acked where an ack removes it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.case import event, flow
from tracker.model.event import Event
from tracker.model.facts import Facts

SPEC = flow(
    "hop: box, stage: produce, outbox: true",
    "hop: log, stage: persist, after: box, within: 9s",
    "hop: queue, stage: persist, after: log, within: 9s",
    "hop: queue, stage: ack, after: 'queue:persist', within: 9s",
)


def holding(*events: Event) -> set[str]:
    """The hops that hold a copy."""
    return set(Facts.of(SPEC, events).holding)


def at(place: str, offset: int, **more: Any) -> Event:
    """At an offset of partition `p`."""
    return event(place, 1, partition="p", offset=offset, **more)


@pytest.mark.parametrize(
    ("events", "held"),
    [
        ([event("box:produce", 0)], {"box"}),
        ([event("box:produce", 0), event("box:drop", 1, reason="expired")], set()),
        ([event("log:produce", 0)], set()),
        ([event("log:persist", 0)], {"log"}),
        ([event("log:replicate", 0)], {"log"}),
        ([at("log:persist", 5), at("log:drop", 5, reason="truncated")], set()),
        ([at("log:persist", 5), at("log:persist", 9), at("log:drop", 5, reason="compacted")], {"log"}),
        ([event("queue:persist", 0, delivery="d1"), event("queue:ack", 1, delivery="d1")], set()),
        ([event("queue:persist", 0, delivery="d1"), event("queue:nack", 1, delivery="d1")], {"queue"}),
        ([event("queue:persist", 0, delivery="d1"), event("queue:ack", 1)], set()),
        ([event("queue:persist", 0, delivery="made-1"), event("queue:ack", 1, delivery="tag-7")], set()),
        ([event("queue:persist", 0, delivery="made-1"), event("queue:persist", 0, delivery="made-2"),
          event("queue:ack", 1, delivery="tag-7")], {"queue"}),
        ([event("log:persist", 0), event("queue:ack", 1)], {"log"}),
    ],
)  # fmt: skip
def test_holding(events: list[Event], held: set[str]) -> None:
    """Kept and not let go; where producer and consumer name deliveries differently, each ack took one copy."""
    assert holding(*events) == held


def test_emptied_is_a_hop_whose_last_copy_was_dropped() -> None:
    """By a drop that nobody asked for, with no copy left; a hop that never kept any is emptied by any such drop."""
    assert Facts.of(SPEC, [event("log:persist", 0), event("log:drop", 1, reason="purged")]).emptied == {"log"}
    assert Facts.of(SPEC, [event("log:drop", 1, reason="unroutable")]).emptied == {"log"}
    assert Facts.of(SPEC, [event("log:persist", 0), event("log:drop", 1, reason="compacted")]).emptied == set()
    two = [at("log:persist", 5), at("log:persist", 9), at("log:drop", 5, reason="truncated")]
    assert Facts.of(SPEC, two).emptied == set()
