"""A flow whose hops are renamed while messages are on their way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile
from tracker.reconcile.books import verdicts as counted
from tracker.store import reach
from tracker.store.reach import FEW

SPEC = """
flow: orders
checkpoints:
  - {{hop: {shop}, stage: produce}}
  - {{hop: {billing}, stage: ack, after: {shop}, within: 5s}}
"""


@pytest.fixture(params=[FEW, 0])
def world(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """One installation, its clock at 0: events say when they happen in seconds. With 0, the engine judges by itself
    what is plainly delivered, however few there are."""
    monkeypatch.setattr(reach, "FEW", request.param)
    installation = Installation(tmp_path)
    installation.now = 0
    yield installation
    installation.close()


def at(world: Installation, seconds: float) -> None:
    """Everybody vouches, and a pass runs."""
    world.now = round(seconds * SECOND)
    places = [("shop", "produce"), ("billing", "ack"), ("store", "produce"), ("invoicing", "ack")]
    world.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in places])
    world.run_pass()


def verdicts(world: Installation) -> dict[str, str]:
    """By message."""
    return {state["message_id"]: state["verdict"] for state in world.store.message_states("orders")}


def test_what_began_under_the_old_names_ends_under_them(world: Installation) -> None:
    """Its finding recovers by an event at the old hop; new messages are judged by the new names; nobody is lost from
    the books."""
    world.put(SPEC.format(shop="shop", billing="billing"))
    at(world, 1)
    world.observe([event("shop:produce", 2, message_id="old"), event("shop:produce", 2, message_id="gone")])
    at(world, 3)
    at(world, 9)
    assert verdicts(world) == {"old": "unacknowledged", "gone": "unacknowledged"}
    world.now = 10 * SECOND
    spec = world.put(SPEC.format(shop="store", billing="invoicing"))
    world.observe([event("billing:ack", 11, message_id="old"), event("store:produce", 11, message_id="new"),
                   event("invoicing:ack", 12, message_id="new")])  # fmt: skip
    at(world, 13)
    at(world, 20)
    found = {f.message_id: f.status for f in world.store.findings(flow="orders")}
    assert verdicts(world) == {"old": "late", "gone": "unacknowledged", "new": "delivered"}
    assert found == {"old": "recovered", "gone": "open"}
    books = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert (books.produced, books.orphans, books.conserved) == (3, 0, True)


def test_seen_only_at_a_hop_of_another_version(world: Installation) -> None:
    """It is judged by the version that knows the hop, and counted once."""
    world.put(SPEC.format(shop="shop", billing="billing"))
    at(world, 1)
    world.now = 10 * SECOND
    spec = world.put(SPEC.format(shop="store", billing="invoicing"))
    world.observe([event("billing:ack", 12, message_id="strange")])
    at(world, 13)
    at(world, 30)
    assert verdicts(world) == {"strange": "delivered"}
    books = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert (books.produced, books.orphans, books.conserved) == (0, 1, True)


def test_seen_only_at_a_hop_before_a_version_names_it(world: Installation) -> None:
    """It is no message of the flow until then, and is in every book from the pass on that takes it in; what is known
    otherwise is judged as before."""
    world.put(SPEC.format(shop="shop", billing="billing"))
    at(world, 1)
    world.observe([event("shop:produce", 2, message_id="paid"), event("billing:ack", 3, message_id="paid"),
                   event("store:produce", 3, message_id="paid"), event("store:produce", 3, message_id="strange"),
                   event("elsewhere:produce", 3, message_id="foreign")])  # fmt: skip
    at(world, 4)
    world.now = 10 * SECOND
    spec = world.put(SPEC.format(shop="store", billing="invoicing"))
    before = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert (before.produced, before.orphans, before.verdicts, before.conserved) == (1, 0, {"delivered": 1}, True)
    at(world, 12)
    at(world, 30)
    assert verdicts(world) == {"paid": "delivered", "strange": "unacknowledged"}
    after = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert (after.produced, after.orphans, after.conserved) == (2, 0, True)
    assert counted(world.store, world.control, spec, 0, 1 << 61) == (after.verdicts, after.as_of)
    assert world.control.flows.to_fold_again() == {}


def test_events_before_their_flow_was_declared(world: Installation) -> None:
    """Collectors are often started first."""
    at(world, 1)
    world.put("flow: other\ncheckpoints: [{hop: shop, stage: produce}]")
    world.observe([event("shop:produce", 2, message_id="waits"), event("shop:produce", 2, message_id="paid")])
    world.observe([event("billing:ack", 3, message_id="paid")])
    at(world, 4)
    spec = world.put(SPEC.format(shop="shop", billing="billing"))
    books = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert (books.produced, books.orphans, books.conserved) == (0, 0, True)
    at(world, 5)
    at(world, 30)
    assert verdicts(world) == {"waits": "unacknowledged", "paid": "delivered"}
    assert reconcile(world.store, world.control, spec, 0, 1 << 61).conserved
    assert world.control.flows.to_fold_again() == {}


def test_folded_before_a_version_asked_for_more(world: Installation) -> None:
    """Its state lacks the deliveries that the new version counts, though by its origin, from a clock that is ahead,
    that version judges it: its events tell."""
    text = SPEC.format(shop="shop", billing="billing")
    world.put(text)
    at(world, 1)
    for ident in ("twice", "once"):
        world.observe([event("shop:produce", 2, message_id=ident, origin_at=15),
                       event("billing:ack", 3, message_id=ident, delivery="first")])  # fmt: skip
    at(world, 4)
    world.now = 10 * SECOND
    world.put(text.replace("within: 5s", "within: 5s, at_most: 1"))
    world.observe([event("billing:ack", 13, message_id="twice", delivery="second"),
                   event("shop:produce", 13, message_id="once", origin_at=15)])  # fmt: skip
    at(world, 14)
    at(world, 20)
    flags = {state["message_id"]: state["flags"] for state in world.store.message_states("orders")}
    assert flags == {"twice": ["duplicated"], "once": []}
    assert verdicts(world) == {"twice": "delivered", "once": "delivered"}


def test_a_flow_that_is_deleted_before_its_first_pass(world: Installation) -> None:
    """Nothing is left to do for it."""
    world.put(SPEC.format(shop="shop", billing="billing"))
    world.control.flows.delete("orders", world.now)
    assert world.run_pass().number == 0


def test_deleted_and_put_again(world: Installation) -> None:
    """What was stored just before, and what came due meanwhile, is judged when the flow is back."""
    text = SPEC.format(shop="shop", billing="billing")
    world.put(text)
    at(world, 1)
    world.observe([event("shop:produce", 2, message_id="waits")])
    at(world, 3)
    world.observe([event("shop:produce", 4, message_id="unseen")])
    world.control.flows.delete("orders", world.now)
    at(world, 5)
    at(world, 30)
    spec = world.put(text)
    at(world, 31)
    at(world, 32)
    assert verdicts(world) == {"waits": "unacknowledged", "unseen": "unacknowledged"}
    assert reconcile(world.store, world.control, spec, 0, 1 << 61).conserved
    assert world.control.flows.to_fold_again() == {}


def test_deleted_and_put_again_with_other_hops(world: Installation) -> None:
    """What was seen only at the old ones is expected nowhere; it stops nobody else's pass, and the books balance."""
    world.put(SPEC.format(shop="shop", billing="billing"))
    at(world, 1)
    world.observe([event("shop:produce", 2, message_id="old")])
    at(world, 9)
    world.control.flows.delete("orders", world.now)
    world.now = 10 * SECOND
    spec = world.put(SPEC.format(shop="store", billing="invoicing"))
    world.observe([event("shop:produce", 11, message_id="stray"), event("store:produce", 11, message_id="new")])
    at(world, 20)
    assert verdicts(world) == {"old": "explained", "stray": "explained", "new": "unacknowledged"}
    assert {f.message_id: f.status for f in world.store.findings(flow="orders")} == {"old": "withdrawn", "new": "open"}
    assert reconcile(world.store, world.control, spec, 0, 1 << 61).conserved
