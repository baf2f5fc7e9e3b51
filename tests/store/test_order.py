"""The flag `reordered` as passes leave it, on the real engine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.unit.model.test_order import message
from tests.world.installation import Installation
from tracker.model.event import Event
from tracker.model.order import ordered, reordered
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.reconcile.reconciler import Reconciler

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 60s, order: key}
"""


@pytest.fixture
def world(at_zero: Installation) -> Installation:
    """Of this module's spec, its clock at 0."""
    return at_zero


def told(world: Installation, **messages: list[Event]) -> dict[str, str]:
    """Store these, run a pass; who was overtaken, by whom."""
    for ident, events in messages.items():
        world.observe([Event(**{**fields(e), "message_id": ident}) for e in events])
    world.now += SECOND
    world.run_pass()
    ids = [state["message_id"] for state in world.store.message_states("orders")]
    return {ident: one.passed_by for ident in ids for one in world.store.overtaken("orders", ident)}


def fields(event: Event) -> dict[str, Any]:
    """What an event was made of."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_the_flag_is_in_every_answer(world: Installation) -> None:
    """In the message's row, and in the list of those that have it."""
    assert told(world, a=message(1, 9), b=message(2, 8), c=message(3, 10)) == {"a": "b"}
    flags = {state["message_id"]: state["flags"] for state in world.store.message_states("orders")}
    assert flags == {"a": ["reordered"], "b": [], "c": []}
    listed = world.store.message_states("orders", flag="reordered")
    assert [state["message_id"] for state in listed] == ["a"]


def test_who_comes_later_corrects_who_was_judged_before(world: Installation) -> None:
    """b's ack is told passes after a was judged: a is flagged. Then a's own first ack turns up: it was in order."""
    assert told(world, a=message(1, 9), b=message(2, 8)[:1]) == {}
    assert told(world, b=message(2, 8)[1:]) == {"a": "b"}
    assert told(world, c=message(3, 11)) == {"a": "b"}
    assert told(world, a=message(1, 7)[1:]) == {}
    assert [state["flags"] for state in world.store.message_states("orders")] == [[], [], []]


def test_a_produce_that_comes_last_decides(world: Installation) -> None:
    """Both were acked; which was produced first is known only when the produces come."""
    assert told(world, a=message(1, 9)[1:], b=message(2, 8)[1:]) == {}
    assert told(world, b=message(2, 8)[:1]) == {}
    assert told(world, a=message(1, 9)[:1]) == {"a": "b"}


def test_news_of_the_one_that_overtook_corrects_the_other(world: Installation) -> None:
    """An earlier copy of its produce turns up: it was produced first."""
    assert told(world, a=message(1, 9), b=message(2, 8)) == {"a": "b"}
    assert told(world, b=message(0.5, 8)[:1]) == {}


def test_what_came_before_the_flow_was_put(world: Installation) -> None:
    """Who was overtaken before anybody asked for order is found when the flow is put, and again when it comes back."""
    world.control.flows.delete("orders", world.now)
    assert told(world, a=message(1, 9), b=message(2, 8)) == {}
    world.put(SPEC)
    assert told(world) == {"a": "b"}
    assert told(world, c=message(3, 9.5), d=message(4, 9.3)) == {"a": "b", "c": "d"}


def test_what_came_before_a_new_flow_was_put(world: Installation) -> None:
    """Collectors are often started first."""
    events = [structs.replace(e, flow="parcels", message_id=i) for i, es in
              {"a": message(1, 9), "b": message(2, 8)}.items() for e in es]  # fmt: skip
    world.observe(events)
    told(world)
    world.put(SPEC.replace("orders", "parcels"))
    told(world)
    assert [one.passed_by for one in world.store.overtaken("parcels", "a")] == ["b"]


CLOCKS = {
    "one clock": (message(1, 9), message(1.1, 8.9), True),
    "two that handled it, within their errors": (message(1, 8.9, node="x"), message(2, 8, node="y"), False),
    "two that handled it, beyond their errors": (message(1, 9.1, node="x"), message(2, 8, node="y"), True),
    "two that made it, within their errors": (message(1, 9, maker="x"), message(1.9, 8, maker="y"), False),
    "two that made it, beyond their errors": (message(1, 9, maker="x"), message(2.1, 8, maker="y"), True),
    "two that made it, one that handled it": (message(1, 8.1, maker="x"), message(3, 8, maker="y"), True),
    "one that made it, two that handled it": (message(1, 9.1, node="x"), message(1.1, 8, node="y"), True),
    "two and two, one of them in doubt": (
        message(1, 8.1, maker="x", node="x"),
        message(3, 8, maker="y", node="y"),
        False,
    ),
    "an interval in doubt": (message(1, 9, observed_from=7), message(2, 8), False),
}


def test_clocks_are_compared_as_the_reference_does(world: Installation) -> None:
    """Times of one node as they are, of two only beyond what both may be wrong by. Each case has a key of its own."""
    for name, (a, b, _) in CLOCKS.items():
        for ident, events in ((f"{name}: a", a), (f"{name}: b", b)):
            world.observe([Event(**{**fields(e), "message_id": ident, "key": name}) for e in events])
    expected = {f"{name}: a" for name, (_, _, flagged) in CLOCKS.items() if flagged}
    assert set(told(world)) == expected
    spec = load_spec(SPEC)
    every = [f"{name}: {which}" for name in CLOCKS for which in "ab"]
    assert reordered(spec, ordered(spec)[0], world.store.events_of("orders", every, None)) == expected


def test_a_pass_done_again_says_the_same(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after order was judged and before the pass was finished."""
    with monkeypatch.context() as patch:
        patch.setattr(Reconciler, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            told(world, a=message(1, 9), b=message(2, 8))
    world.restarted()
    assert told(world) == {"a": "b"}


def test_a_flow_that_asks_for_no_order_leaves_nothing(world: Installation) -> None:
    """It costs nothing: no row, no question."""
    world.put(SPEC.replace("order: key", "at_most: 1"))
    assert told(world, a=message(1, 9), b=message(2, 8)) == {}
    assert world.store.stats().get("lines", {"rows": 0})["rows"] == 0
