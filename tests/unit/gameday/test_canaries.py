"""What `tracker canary` counts, remembers and asks. Its road sends all, and its ledger says as it is told."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tracker.cli.gameday import canaries
from tracker.cli.gameday.canaries import SAMPLE, Canaries

RUN = "canary-20260101T000000-abcd-"


class Tracker:
    """As a `Ledger`: verdicts by id, and how much it was asked."""

    def __init__(self) -> None:
        self.verdicts: dict[str, str] = {}
        self.after: list[str] = []
        self.judged_ones: list[str] = []

    def states(self, after: str) -> dict[str, Any]:
        """Those behind this id."""
        self.after.append(after)
        return {name: (verdict, ()) for name, verdict in sorted(self.verdicts.items()) if name > after}

    def judged(self, name: str) -> tuple[str, float]:
        """One."""
        self.judged_ones.append(name)
        return self.verdicts.get(name, "unknown"), 0.25

    def unwatched(self) -> list[str]:
        """Nothing."""
        return []


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is set."""
    moment = [1000.0]
    monkeypatch.setattr("tracker.cli.gameday.canaries.time.monotonic", lambda: moment[0])
    return moment


def made(tracker: Tracker, count: int) -> tuple[Canaries, list[str]]:
    """So many canaries on their way, in a lane whose last deadline is after a minute."""
    lane = SimpleNamespace(flow="orders.canary", longest=60.0)
    road: Any = SimpleNamespace(lane=lane, refused=Counter[str](), consumers={}, send=lambda name: "")
    some = Canaries(road, tracker, RUN)  # type: ignore[arg-type] # all that it asks of a ledger
    for _ in range(count):
        some.send()
    return some, [f"{RUN}{number:08d}" for number in range(count)]


def test_what_is_delivered_is_counted_and_asked_about_no_more(now: list[float]) -> None:
    """The next look begins behind it; latencies are of a sample."""
    tracker = Tracker()
    some, names = made(tracker, 10)
    tracker.verdicts = dict.fromkeys(names[:9], "delivered") | {names[9]: "in_flight"}
    some.look()
    some.look()
    assert tracker.after == [RUN, names[8]]
    assert len(tracker.judged_ones) == SAMPLE
    told = some.told()
    assert (told["sent"], told["delivered"], told["in_flight"], told["latency_p50_s"]) == (10, 9, 1, 0.25)


def test_what_is_missing_is_named_until_it_is_back(now: list[float]) -> None:
    """And holds nothing up: later looks begin behind it."""
    tracker = Tracker()
    some, names = made(tracker, 3)
    tracker.verdicts = {names[0]: "lost", names[1]: "delivered", names[2]: "in_flight"}
    some.look()
    assert some.told()["missing"] == {names[0]: "lost"}
    tracker.verdicts[names[0]] = "late"
    some.look()
    assert tracker.after[-1] == names[1]
    told = some.told()
    assert (told["missing"], told["came_back"], told["late"]) == ({}, 1, 1)
    assert not some.good
    tracker.verdicts[names[2]] = "delivered"
    some.look()
    assert some.good


def test_what_is_not_known_is_said_to_be_so_and_never_missing(now: list[float]) -> None:
    """Blind, or in no pass of the tracker, when its last deadline has long passed."""
    tracker = Tracker()
    some, names = made(tracker, 2)
    tracker.verdicts = {names[0]: "blind"}
    some.look()
    assert some.open == 2
    now[0] += 100
    some.look()
    told = some.told()
    assert (told["missing"], told["not_known"], told["in_flight"]) == ({}, 2, 0)
    assert not some.good


def test_an_outage_of_days_is_bounded(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are remembered by name, more are counted; a few are asked about at a time, all in turn."""
    monkeypatch.setattr(canaries, "MOST_ASIDE", 20)
    tracker = Tracker()
    some, names = made(tracker, 50)
    tracker.verdicts = dict.fromkeys(names, "lost")
    for _ in range(4):
        some.look()
    told = some.told()
    assert (len(told["missing"]), told["missing_beyond"]) == (20, 30)
    assert sorted(tracker.judged_ones) == names[:20]
