"""A place whose coverage was only assumed, and to which a collector comes: what it says nothing of stays as it was."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import ASSUME_FOR, SourceRef
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile
from tracker.store.migrate import migrations

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 5s}
"""
SHOP, BILLING = SourceRef("orders", "shop", "produce", "s"), SourceRef("orders", "billing", "ack", "b")


@pytest.fixture
def world(at_zero: Installation) -> Installation:
    """Of this module's spec, its clock at 0."""
    return at_zero


def at(world: Installation, seconds: float, *said: tuple[str, str], watched: tuple[SourceRef, ...] = (SHOP,)) -> None:
    """The shop is watched, and these (message, place) are seen and received by now; then a pass."""
    world.now = round(seconds * SECOND)
    world.observe(event(place, seconds, message_id=ident) for ident, place in said)
    for source in watched:
        world.vouch([source], collector=source.source)
    world.run_pass()


def verdicts(world: Installation) -> dict[str, str]:
    """By message."""
    return {state["message_id"]: state["verdict"] for state in world.store.message_states("orders")}


def test_an_older_installation_knows_what_came_unannounced(world: Installation) -> None:
    """It did not keep that apart. Of a place that nobody watches yet, all that came did; of one that somebody watches,
    nobody knows."""
    at(world, 10, ("paid", "shop:produce"), ("paid", "billing:ack"), ("gone", "shop:produce"))
    engine = world.store.engine
    before = engine.rows("SELECT * FROM tracker.heard FINAL ORDER BY hop")
    engine.command("TRUNCATE TABLE tracker.heard")
    kept = {name: [row[name] for row in before] for name in ("tenant", "flow", "hop", "stage", "received_at")}
    engine.insert("heard", pa.table(kept))
    for statement in dict(migrations())["0013_unannounced_before"].partition("\n")[2].split(";"):
        engine.command(statement.replace("{db}", engine.database))
    world.restarted()
    found = {h.hop: h.unannounced_at for h in world.store.last_heard()}
    assert found == {"billing": 10 * SECOND, "shop": 0}
    at(world, 28, watched=(SHOP, BILLING))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged"}


def test_what_was_missing_before_a_collector_came_stays_missing(world: Installation) -> None:
    """Its finding is not withdrawn, nor is one that was due before the collector came told otherwise than without it;
    from then on the collector's word counts."""
    at(world, 10, ("paid", "shop:produce"), ("paid", "billing:ack"), ("gone", "shop:produce"))
    at(world, 20, ("due", "shop:produce"))
    at(world, 28, watched=(SHOP, BILLING))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "due": "unacknowledged"}
    at(world, 30, ("paid", "shop:persist"), ("gone", "shop:persist"), ("due", "shop:persist"), ("new", "shop:produce"),
       watched=(SHOP, BILLING))  # fmt: skip
    at(world, 40)
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "due": "unacknowledged", "new": "blind"}
    assert {f.message_id: f.status for f in world.store.findings()} == {"gone": "open", "due": "open"}
    at(world, 60, watched=(SHOP, BILLING))
    at(world, 70, watched=(SHOP, BILLING))
    assert verdicts(world)["new"] == "unacknowledged"
    world.restarted()
    at(world, 80, ("gone", "shop:persist"), watched=(SHOP, BILLING))
    assert verdicts(world)["gone"] == "unacknowledged"
    books = reconcile(world.store, world.control, world.put(SPEC), 0, 1 << 61)
    assert [(spot.cause, spot.start, spot.end) for spot in books.blind_spots if spot.hop == "billing"] == []


def test_where_nothing_came_from_before_nothing_is_assumed(world: Installation) -> None:
    """A collector that comes with the first batch from there makes nobody missing who passed before it."""
    at(world, 10, ("early", "shop:produce"))
    at(world, 30, ("now", "shop:produce"), ("now", "billing:ack"), watched=(SHOP, BILLING))
    at(world, 40, watched=(SHOP, BILLING))
    assert verdicts(world) == {"early": "blind", "now": "delivered"}


def test_a_place_that_was_silent_stays_so(world: Installation) -> None:
    """Nothing had come from there for long when its collector came: nobody knows of the time between."""
    quiet = ASSUME_FOR // SECOND
    at(world, 10, ("paid", "shop:produce"), ("paid", "billing:ack"), ("gone", "shop:produce"))
    at(world, 20)
    at(world, quiet + 30, ("unknown", "shop:produce"))
    at(world, quiet + 40)
    at(world, quiet + 50, ("now", "shop:produce"), ("now", "billing:ack"), watched=(SHOP, BILLING))
    at(world, quiet + 60, watched=(SHOP, BILLING))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "unknown": "blind", "now": "delivered"}
    books = reconcile(world.store, world.control, world.put(SPEC), 0, 1 << 61)
    spots = [(s.cause, s.start // SECOND, s.end // SECOND) for s in books.blind_spots if s.hop == "billing"]
    assert spots == [("silent", quiet + 10, quiet + 50)]


def test_a_pass_tells_what_came_before_a_collector_from_what_it_brought(world: Installation) -> None:
    """All of it is new at once: after a restart, the outcome is the same."""
    world.now = 10 * SECOND
    world.vouch([SHOP], collector="s")
    paid = [event("shop:produce", 10, message_id="paid"), event("billing:ack", 10, message_id="paid")]
    world.observe([*paid, event("shop:produce", 11, message_id="gone")])
    world.now = 12 * SECOND
    world.observe([event("shop:produce", 12, message_id="other")])
    at(world, 28, ("late", "shop:produce"), ("late", "billing:ack"), watched=(SHOP, BILLING))
    assert verdicts(world) == {"paid": "delivered", "gone": "unacknowledged", "other": "unacknowledged",
                               "late": "delivered"}  # fmt: skip


def test_the_slowest_source_holds_the_watermark_back(world: Installation) -> None:
    """Of a source its newest run counts; one that signed off, or vanished long ago, holds nothing back."""
    slow, gone, lost = (SourceRef("orders", "billing", "ack", name) for name in ("slow", "gone", "lost"))
    at(world, 10, watched=(SHOP, BILLING, slow, gone, lost))
    at(world, 20, watched=(SHOP, BILLING, slow, gone))
    world.vouch([], collector="gone", signed_off=[gone])
    at(world, 30, watched=(SHOP, BILLING))
    shop, billing = ("orders", "shop", "produce"), ("orders", "billing", "ack")
    assert world.store.watermarks() == {shop: 30 * SECOND, billing: 10 * SECOND}
    at(world, 10 + 3600 + 1, watched=(SHOP, BILLING, slow))
    at(world, 10 + 3600 + 5, watched=(SHOP, BILLING))
    assert world.store.watermarks() == {shop: 3615 * SECOND, billing: 3611 * SECOND}


def test_a_place_that_everybody_left_keeps_its_watermark(world: Installation) -> None:
    """Unless the last one to end had signed off: then nothing runs there that could be missed."""
    first, second = (SourceRef("orders", "billing", "ack", name) for name in ("first", "second"))
    billing = ("orders", "billing", "ack")
    at(world, 10, watched=(SHOP, first))
    at(world, 20, watched=(SHOP, first, second))
    at(world, 30, watched=(SHOP, second))
    at(world, 30 + 2 * 3600, watched=(SHOP,))
    assert world.store.watermarks()[billing] == 30 * SECOND
    at(world, 30 + 3 * 3600, watched=(SHOP, second))
    assert world.store.watermarks()[billing] == (30 + 3 * 3600) * SECOND
    world.vouch([], signed_off=[second])
    at(world, 40 + 3 * 3600, watched=(SHOP,))
    assert billing not in world.store.watermarks()


def test_a_flow_that_all_have_left_is_blind_while_others_report(world: Installation) -> None:
    """What was on its way is not called in flight for ever, and the books say since when nobody looks."""
    other = world.put(SPEC.replace("orders", "payments"))
    elsewhere = SourceRef("payments", "shop", "produce", "s")
    at(world, 10, ("gone", "shop:produce"), watched=(SHOP, BILLING))
    world.vouch([elsewhere], collector="elsewhere")
    for hours in range(1, 4):
        at(world, 11 + hours * 3600, watched=(elsewhere,))
    assert other.flow == "payments"
    assert verdicts(world) == {"gone": "blind"}
    books = reconcile(world.store, world.control, world.put(SPEC), 0, 3 * 3600 * SECOND)
    assert {(s.hop, s.cause, s.start // SECOND) for s in books.blind_spots if s.cause == "silent"} == {
        ("shop", "silent", 10 + 3600),
        ("billing", "silent", 10 + 3600),
    }
