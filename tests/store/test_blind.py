"""Messages of which nobody knows: looked at ever more rarely, and at once when coverage of their time comes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import ASSUME_FOR, SourceRef
from tracker.model.units import SECOND
from tracker.reconcile import PassResult

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 5s}
"""
SHOP, BILLING = SourceRef("orders", "shop", "produce", "s"), SourceRef("orders", "billing", "ack", "b")
DAY = 24 * 3600


@pytest.fixture
def world(at_zero: Installation) -> Installation:
    """Of this module's spec, its clock at 0."""
    return at_zero


def at(world: Installation, seconds: float, *said: tuple[str, str], **billing: Any) -> PassResult:
    """The shop is watched, and these (message, place) are seen and received by now; billing's collector says so much,
    if anything; then a pass."""
    world.now = round(seconds * SECOND)
    world.observe(event(place, seconds, message_id=ident) for ident, place in said)
    world.vouch([SHOP], collector="s")
    if billing:
        world.vouch([BILLING], **billing)
    return world.run_pass()


def verdicts(world: Installation) -> dict[str, str]:
    """By message."""
    return {state["message_id"]: state["verdict"] for state in world.store.message_states("orders")}


def test_coverage_that_grows_asks_after_those_whose_time_it_covers(world: Installation) -> None:
    """Not after all that were ever blind, however many; an heir that drains the old spool asks after those."""
    at(world, 10, ("old", "shop:produce"), collector="b")
    at(world, 20)
    at(world, 1000, ("new", "shop:produce"), collector="again")
    at(world, 1010)
    assert verdicts(world) == {"old": "blind", "new": "blind"}
    assert at(world, 1011, collector="again").messages == 1
    assert verdicts(world) == {"old": "blind", "new": "unacknowledged"}
    assert at(world, 1011.5).messages == 0
    at(world, 1012, collector="heir", lag_ms=1_003_000)
    assert at(world, 1013, collector="heir").messages >= 1
    assert verdicts(world) == {"old": "unacknowledged", "new": "unacknowledged"}


def test_a_place_that_is_heard_again_asks_after_those_that_waited_for_it(world: Installation) -> None:
    """Whatever was blind because nothing had come from there; a day later, too, long before its time has come."""
    quiet = ASSUME_FOR // SECOND
    at(world, 10, ("paid", "shop:produce"), ("paid", "billing:ack"))
    at(world, quiet + 100, ("old", "shop:produce"))
    for later in (200, 1000, DAY):
        at(world, quiet + later)
    states = f"{world.store.engine.database}.states"
    [row] = world.store.engine.rows(f"SELECT look_again FROM {states} FINAL WHERE message_id = 'old'")
    assert row["look_again"] > world.now + 3600 * SECOND
    at(world, quiet + DAY + 1, ("now", "shop:produce"), ("now", "billing:ack"))
    assert verdicts(world) == {"paid": "delivered", "old": "unacknowledged", "now": "delivered"}


def test_a_version_that_assumes_coverage_asks_after_those_whose_time_comes(world: Installation) -> None:
    """Its word on coverage holds for messages of older versions, too: what was blind is known at its next look, and
    what was found stays found until something comes of its message."""
    at(world, 10, ("paid", "shop:produce"), ("paid", "billing:ack"), ("gone", "shop:produce"), collector="b")
    at(world, 20, collector="b")
    at(world, 30, ("old", "shop:produce"), ("paid", "billing:persist"))
    at(world, 38, ("other", "shop:produce"), ("other", "billing:ack"))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "old": "blind", "other": "delivered"}
    world.put(SPEC.replace("within: 5s", "within: 5s, coverage: assumed"))
    at(world, 60)
    assert verdicts(world)["old"] == "unacknowledged"
    world.put(SPEC.replace("within: 5s", "within: 5s, coverage: watermark"))
    at(world, 70)
    at(world, 80, ("gone", "shop:persist"))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "old": "unacknowledged",
                               "other": "delivered"}  # fmt: skip
