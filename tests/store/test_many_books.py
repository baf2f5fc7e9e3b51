"""The books of many flows, asked for together: as each for itself."""

from __future__ import annotations

import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.errors import Unavailable
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile.books import differences, reconcile

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 5s}
"""
FLOWS = ("orders", "parcels", "quiet", "re-turns.2")


def text(flow: str) -> str:
    """The same spec under another name."""
    return SPEC.replace("flow: orders", f'flow: "{flow}"')


@pytest.fixture
def world(at_zero: Installation) -> Installation:
    """Four flows: one whose messages are lost and unforeseen, one that nobody watches, one without any, an odd name."""
    for flow in FLOWS:
        at_zero.put(text(flow))
    for seconds in (10, 30, 50):
        at_zero.now = seconds * SECOND
        at_zero.vouch([SourceRef(flow, hop, stage, "s") for flow in ("orders", "re-turns.2")
                       for hop, stage in (("shop", "produce"), ("billing", "ack"))])  # fmt: skip
        seen = [event("shop:produce", seconds, message_id=f"m-{seconds}", flow=flow) for flow in ("orders", "parcels")]
        seen += [event("billing:ack", seconds, message_id=f"m-{seconds}", flow="parcels"),
                 event("billing:ack", seconds, message_id=f"orphan-{seconds}", flow="re-turns.2")]  # fmt: skip
        at_zero.observe(seen)
        at_zero.run_pass()
    return at_zero


def specs(world: Installation) -> list[FlowSpec]:
    """Of all flows."""
    return [world.put(text(flow)) for flow in FLOWS]


def alike(world: Installation, start: int, end: int) -> dict[str, int]:
    """What is told of all together, having compared it with what is told of each."""
    asked = specs(world)
    found, spots = differences(world.store, world.control, asked, start, end)
    for spec in asked:
        books = reconcile(world.store, world.control, spec, start, end)
        assert found[spec.flow] == books.produced + books.orphans - sum(books.verdicts.values()), spec.flow
        assert spots[spec.flow] == books.blind_spots, spec.flow
    assert list(found) == [*FLOWS]
    return found


@pytest.mark.parametrize(("start", "end"), [(0, 100), (0, 30), (30, 31), (20, 45)])
def test_together_as_each_for_itself(world: Installation, start: int, end: int) -> None:
    """Whatever the span, while a pass is under way, too."""
    assert set(alike(world, start * SECOND, end * SECOND).values()) == {0}
    world.observe([event("billing:ack", 52, message_id="m-50", flow="orders")])
    assert set(alike(world, start * SECOND, end * SECOND).values()) == {0}


def test_books_that_differ_are_told_by_flow(world: Installation) -> None:
    """A state that is gone, and one that stands for no event."""
    engine = world.store.engine
    [before] = engine.rows("SELECT count() AS n FROM tracker.states FINAL WHERE flow = 'orders'")
    engine.command("ALTER TABLE tracker.states DELETE WHERE flow = 'orders' AND message_id = 'm-10' "
                   "SETTINGS mutations_sync = 2")  # fmt: skip
    engine.command("ALTER TABLE tracker.events DELETE WHERE flow = 'parcels' AND message_id = 'm-30' "
                   "SETTINGS mutations_sync = 2")  # fmt: skip
    assert before["n"] == 3
    assert alike(world, 0, 100 * SECOND) == {"orders": 1, "parcels": -1, "quiet": 0, "re-turns.2": 0}
    assert alike(world, 40 * SECOND, 100 * SECOND) == dict.fromkeys(FLOWS, 0)


def test_a_pass_that_nobody_remembers_is_said(world: Installation) -> None:
    """Its own number is the last in the control database, and the ledger is two further."""
    rows = "SELECT * REPLACE (pass + 9 AS pass) FROM tracker.states FINAL WHERE flow = 'orders'"
    world.store.engine.command(f"INSERT INTO tracker.states {rows}")
    with pytest.raises(Unavailable, match="the books of flow orders, parcels, quiet are no longer those of pass"):
        differences(world.store, world.control, specs(world), 0, 100 * SECOND)
