"""What spans told of messages that no flow took: counted, bounded, kept."""

from __future__ import annotations

from typing import Any

from tracker.control import Control
from tracker.control.sightings import KEPT, Sighting


def seen(**changes: Any) -> Sighting:
    """Spans of a billing service."""
    told: dict[str, Any] = {"service": "billing", "system": "kafka", "destination": "orders", "operation": "process",
            "reason": "no_flow", "count": 1, "first_seen": 10, "last_seen": 20} | changes  # fmt: skip
    return Sighting(**told)


def test_the_same_is_counted_together(control: Control) -> None:
    """Counts add up, times span both, three samples are kept."""
    control.sightings.add([seen(samples=["a", "b"]), seen(count=4, first_seen=5, last_seen=15, samples=["b", "c"])])
    control.sightings.add([seen(last_seen=30, samples=["d"])])
    assert control.sightings.all() == [seen(count=6, first_seen=5, last_seen=30, samples=["a", "b", "c"])]


def test_what_was_seen_most_comes_first(control: Control) -> None:
    """Another destination, or another reason, is another thing."""
    control.sightings.add([seen(), seen(destination="bills", count=9), seen(reason="no_id", flow="orders", count=3)])
    assert [s.count for s in control.sightings.all()] == [9, 3, 1]


def test_what_was_seen_longest_ago_is_forgotten(control: Control) -> None:
    """The table does not grow with whatever names clients invent."""
    control.sightings.add([seen(destination=f"reply-{n}", last_seen=n) for n in range(KEPT + 50)])
    found = {s.last_seen for s in control.sightings.all()}
    assert found == set(range(50, KEPT + 50))


def test_it_can_begin_anew(control: Control) -> None:
    """After flows were put, what is left is what is new."""
    control.sightings.add([seen()])
    control.sightings.forget()
    assert control.sightings.all() == []
