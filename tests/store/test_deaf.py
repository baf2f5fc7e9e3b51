"""A time in which the tracker took nothing: where coverage is assumed, nobody is found missing because of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.model.case import event
from tests.world.installation import T0, Installation
from tracker.ingest import reports
from tracker.model.coverage import Report, SourceRef
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile
from tracker.reconcile.listening import PATIENCE, Listening
from tracker.reconcile.reconciler import Reconciler
from tracker.reconcile.refusals import RETURN
from tracker.store.bounds import Bounds

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 5s}
"""
BILLING = SourceRef("orders", "billing", "ack", "b")


class Tracker:
    """One process on the installation: it listens, and judges."""

    def __init__(self, world: Installation) -> None:
        self.world, self.refused = world, 0
        self.listening = Listening(world.control, lambda: world.now, lambda: self.refused, self.tell)
        self.reconciler = Reconciler(world.store, world.control, lambda: world.now, self.listening.hold)

    def tell(self, report: Report) -> None:
        """As the way in stores it."""
        self.world.store.insert_reports(reports.rows([report], self.world.now))

    def at(self, seconds: float, *said: tuple[str, str]) -> int:
        """These (message, place) are seen and received by now, then a look whether it listens, and a pass."""
        self.world.now = T0 + round(seconds * SECOND)
        self.world.observe(event(place, T0 / SECOND + seconds, message_id=ident) for ident, place in said)
        self.listening.look()
        return self.reconciler.run_pass().number

    def verdicts(self) -> dict[str, str]:
        """By message."""
        return {state["message_id"]: state["verdict"] for state in self.world.store.message_states("orders")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    """With the flow."""
    installation = Installation(tmp_path)
    installation.put(SPEC)
    yield installation
    installation.close()


def begun(world: Installation) -> Tracker:
    """Of three messages one is through, one is missing, and one was under way when the tracker was killed."""
    tracker = Tracker(world)
    tracker.at(1, ("paid", "shop:produce"), ("paid", "billing:ack"), ("gone", "shop:produce"))
    tracker.at(9)
    tracker.at(16)
    tracker.at(18, ("underway", "shop:produce"))
    return tracker


def test_who_was_under_way_while_the_tracker_was_down_is_blind(world: Installation) -> None:
    """Its ack may have met a closed door. When it is sent again, it counts; what was known stays, and who comes later
    is judged as ever."""
    begun(world)
    back = Tracker(world)
    back.at(300, ("late", "shop:produce"))
    assert back.verdicts() == {"paid": "delivered", "gone": "unacknowledged", "underway": "blind", "late": "in_flight"}
    for later in (308, 316, 324):
        back.at(later)
    assert back.verdicts()["late"] == "blind"
    again = 300 + RETURN // SECOND
    back.at(again + 1, ("after", "shop:produce"), ("underway", "billing:ack"))
    back.at(again + 9)
    assert back.verdicts() == {"paid": "delivered", "gone": "unacknowledged", "underway": "late", "late": "blind",
                               "after": "unacknowledged"}  # fmt: skip
    assert {f.message_id for f in world.store.findings()} == {"gone", "after"}
    books = reconcile(world.store, world.control, world.put(SPEC), T0, T0 + 1000 * SECOND)
    [spot] = [spot for spot in books.blind_spots if spot.hop == "billing"]
    assert (spot.cause, (spot.start - T0) // SECOND, (spot.end - T0) // SECOND) == ("deaf", 16, again)


def test_who_is_told_to_come_again_later_has_not_been_heard(world: Installation) -> None:
    """While batches are refused nothing is judged; killed then, it knows at its next start since when."""
    tracker = begun(world)
    for second in range(20, 200, 2):
        tracker.refused += 1
        assert tracker.at(second) == 0
    back = Tracker(world)
    back.at(201)
    assert back.verdicts()["underway"] == "blind"
    assert {f.message_id for f in world.store.findings()} == {"gone"}


def test_a_short_absence_is_none(world: Installation) -> None:
    """Senders try again for longer than a restart takes: losses of that time are found."""
    begun(world)
    back = Tracker(world)
    back.at(18 + PATIENCE // SECOND)
    assert back.verdicts()["underway"] == "unacknowledged"


def test_who_reports_is_not_concerned(world: Installation) -> None:
    """A collector's own report says what it has seen, and delivers it when the tracker is back. What was blind before
    it announced itself stays so."""
    tracker = begun(world)
    back = Tracker(world)
    back.at(300)
    world.vouch([BILLING])
    back.at(400)
    assert back.verdicts()["underway"] == "blind"
    world.vouch([BILLING])
    back.at(410, ("watched", "shop:produce"))
    tracker = Tracker(world)
    world.now = T0 + 600 * SECOND
    world.vouch([BILLING])
    tracker.at(600)
    assert tracker.verdicts()["watched"] == "unacknowledged"
    tracker.at(601, ("underway", "shop:persist"))
    assert tracker.verdicts()["underway"] == "blind"


def test_a_freeze_between_looking_and_judging(world: Installation) -> None:
    """Nobody knows of it yet: the pass judges as of before it."""
    tracker = begun(world)
    listens = tracker.listening.hold

    def frozen() -> bool:
        held = listens()
        world.now += 300 * SECOND
        return held

    tracker.reconciler = Reconciler(world.store, world.control, lambda: world.now, frozen)
    tracker.at(20)
    assert tracker.verdicts()["underway"] == "in_flight"


def test_what_comes_while_it_is_asked_what_there_is(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is of the next pass, and so is what was due by then."""
    tracker, asked = begun(world), world.store.stored_since

    def slow(before: Bounds) -> list[tuple[int, int, int]]:
        found = asked(before)
        world.now += 6 * SECOND
        world.observe([event("billing:ack", T0 / SECOND + 22, message_id="underway", received_at=T0 + 22 * SECOND)])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "stored_since", slow)
        tracker.at(20)
    assert tracker.verdicts()["underway"] == "in_flight"
    tracker.at(27)
    assert tracker.verdicts()["underway"] == "delivered"
    assert {f.message_id for f in world.store.findings()} == {"gone"}


def test_clocks_of_two_trackers_that_differ(world: Installation) -> None:
    """Each goes by its own: nobody was deaf."""
    told = list[Report]()

    def tracker(ahead: int) -> Listening:
        return Listening(world.control, lambda: world.now + ahead, lambda: 0, told.append)

    others = tracker(0), tracker(15 * SECOND)
    for _ in range(30):
        world.now += 2 * SECOND
        for one in others:
            one.look()
            assert not one.hold()
    assert len(told) <= 1, "at most when the first one is heard of"


def test_the_clock_is_set_back(world: Installation) -> None:
    """What was noted lies ahead then, which says nothing: nothing is judged until it is noted anew."""
    tracker = begun(world)
    assert not tracker.listening.hold()
    world.now -= 3600 * SECOND
    assert tracker.listening.hold()
    tracker.listening.look()
    assert not tracker.listening.hold()
