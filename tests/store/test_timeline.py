"""The timeline of a message of which far more is stored than happened, or of which much did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.model.case import event
from tests.world.installation import row
from tracker.model.event import Event
from tracker.model.units import SECOND
from tracker.store import Store
from tracker.store.answers import MUCH
from tracker.store.columns import EVENTS


@pytest.fixture
def told(new_store: Callable[[], Store]) -> Callable[[Iterable[Event]], list[Event]]:
    """The timeline of `m` once these are stored."""
    store = new_store()

    def tell(events: Iterable[Event]) -> list[Event]:
        store.insert_events(pa.Table.from_pylist([row(e, 0) for e in events], schema=EVENTS))
        return store.timeline("orders", "m")

    return tell


def test_what_comes_behind_a_thousand_copies(told: Callable[[Iterable[Event]], list[Event]]) -> None:
    """A producer that repeats itself hides nothing: each event is there, at the earliest of its times, with the origin
    and the replay that any copy carries."""
    copies = [event("shop:produce", 1, 2000 - n, origin_at=3 if n % 2 else None) for n in range(MUCH + 100)]
    placed: list[dict[str, Any]] = [{"partition": "p", "offset": 4}, {"delivery": "p:4::"}]
    persists = [
        event("log:persist", 5 + n % 2, 7 + n % 2, replay_id="r" * (n % 2), **placed[n % 2]) for n in range(MUCH)
    ]
    found = told([*copies, *persists, event("billing:ack", 9, digest="00000000000000aa"), event("billing:ack", 9)])
    assert [(e.hop, e.observed_at // SECOND, e.received_at, e.origin_at, e.replay_id) for e in found] == [
        ("shop", 1, (2000 - MUCH - 99) * SECOND, 3 * SECOND, ""), ("log", 5, 7 * SECOND, None, "r"),
        ("billing", 9, 9 * SECOND, None, ""), ("billing", 9, 9 * SECOND, None, "")]  # fmt: skip


def test_what_comes_behind_a_thousand_attempts(told: Callable[[Iterable[Event]], list[Event]]) -> None:
    """A consumer that gives up a thousand times and then succeeds has succeeded."""
    tries = [event("billing:nack", 2 + n, attempt=n + 1) for n in range(MUCH)]
    found = told([event("shop:produce", 1), *tries, event("billing:ack", 2 * MUCH)])
    assert len(found) == MUCH + 2
    assert [e.stage.value for e in (found[0], found[-1])] == ["produce", "ack"]


def test_who_carries_what_a_replay_asks_for(new_store: Callable[[], Store]) -> None:
    """A key by its hash, the reason of a drop, attributes: each by some event of the message, not all by one."""
    store = new_store()
    events = [
        event("shop:produce", 1, message_id="a", attributes={"country": "de"}),
        event("log:drop", 2, message_id="a", reason="expired", attributes={"team": "x"}),
        event("shop:produce", 1, message_id="b", attributes={"country": "de", "team": "y"}),
        event("log:drop", 2, message_id="c", reason="purged"),
    ]
    rows = [row(each, 0) | {"key_hash": 7 if each.message_id == "b" else 0} for each in events]
    store.insert_events(pa.Table.from_pylist(rows, schema=EVENTS))

    def carrying(key: int | None = None, reason: str | None = None, **attributes: str) -> set[str]:
        return set(store.carrying("orders", ["a", "b", "c", "nobody"], key, reason, attributes))

    assert carrying(key=7) == {"b"}
    assert store.keys("orders", ["a", "b", "c", "nobody"]) == {"b": "0000000000000007"}
    assert carrying(reason="expired") == {"a"}
    assert carrying(country="de") == {"a", "b"}
    assert carrying(country="de", team="x") == {"a"}
    assert carrying(key=7, reason="expired") == set()
    assert carrying(country="fr") == carrying(team="") == set()
    assert set(store.carrying("orders", ["c"], None, "purged", {})) == {"c"}
    assert set(store.carrying("others", ["a"], None, "expired", {})) == set()
