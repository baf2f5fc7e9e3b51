"""What passes count of checkpoints: who was due to see a message, and saw it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.anomalies import BEGIN, fill
from tests.store.test_crash import ACK, LOG, MIRROR, says, whole
from tests.store.test_settled import Told, installed, told
from tracker.model.event import Event
from tracker.model.units import SECOND
from tracker.simulate.seasons import Weeks

__all__ = ["installed", "told"]


def passages(told: Told) -> dict[str, tuple[float, float]]:
    """(due, seen) by hop."""
    since = told.base // SECOND
    rows = told.store.series([told.flow], since, since + 4000, 4000)[1].to_pylist()
    return {row["hop"]: (row["due"], row["seen"]) for row in rows if row["hop"]}


def test_who_was_due_to_see_a_message(told: Told) -> None:
    """Counted when it is settled: the hop behind a loss was not due to see it, the one that lost it was."""
    told.passed(4, *whole("fine"), *whole("unacked")[:3], *whole("lost")[:1])
    assert passages(told) == dict.fromkeys(("shop", "log", "mirror", "billing"), (1, 1))
    told.passed(100)
    expected = {"shop": (3, 3), "log": (3, 2), "mirror": (2, 2), "billing": (2, 1)}
    assert passages(told) == expected
    told.world.cut_short()
    told.world.run_pass()
    assert passages(told) == expected, "done again"
    told.passed(130, *whole("unacked")[3:])
    assert passages(told) == expected, "settled once"


def test_what_is_blind_was_not_due(told: Told) -> None:
    """Nobody knows whether it came."""
    told.passed(4, *whole("b")[:3], vouched=False)
    told.passed(2000, *whole("other", at=1990), vouched=False)
    assert passages(told)["billing"] == (1, 1)


def test_the_chain_counts_as_the_simulator_says(told: Told) -> None:
    """Five minutes of messages through real passes leave the series that `fill` writes for the same counts: lost at a
    hop, delivered twice, begun, and how long they took."""
    begun, lost, twice = np.array([4, 0, 6, 3, 5]), np.array([1, 0, 2, 0, 1]), np.array([0, 0, 1, 1, 0])
    base = told.base // SECOND
    for minute in range(5):
        at, events = 60 * minute, list[Event]()
        for n in range(begun[minute]):
            ident = f"{minute}-{n}"
            events += _way(ident, at, here=n >= lost[minute], again=begun[minute] - n <= twice[minute])
        if events:
            told.passed(at + 59, *events)
    told.world.now = told.base + 400 * SECOND
    told.vouch()
    told.world.run_pass()
    flows, hops = told.store.series([told.flow], base, base + 480, 480)
    good = begun - lost
    zero = np.zeros(5)
    made = Weeks((), begun.astype(float), begun.astype(float), lost.astype(float), twice.astype(float),
                 np.array([begun, begun, good], float), np.array([begun, good, good], float),
                 np.array([3e6 + zero, 1e6 + zero, 2e6 + zero]), np.zeros((3, 5), bool))  # fmt: skip
    fill(told.store, "written", made)
    others = told.store.series(["written"], BEGIN, BEGIN + 480, 480)
    [row], [other] = flows.to_pylist(), others[0].to_pylist()
    assert row | {"flow": "written"} == other
    mine = {r["hop"]: r for r in hops.to_pylist() if r["hop"] != "mirror"}
    theirs = {r["hop"]: r for r in others[1].to_pylist()}
    for hop, row in theirs.items():
        assert (mine[hop]["due"], mine[hop]["seen"]) == (row["due"], row["seen"]), hop
        assert np.isnan(row["took"]) == np.isnan(mine[hop]["took"])
        if not np.isnan(row["took"]):
            assert mine[hop]["took"] == pytest.approx(row["took"], rel=0.02), hop


def _way(ident: str, at: float, here: bool, again: bool) -> list[Event]:
    """A message that takes a second to the log, and two from there; the mirror has it meanwhile."""
    events = [says(ident, "shop:produce", at, origin_at=at)]
    if here:
        events += [says(ident, LOG, at + 1), says(ident, MIRROR, at + 1.5), says(ident, ACK, at + 3, delivery="a")]
    if again:
        events.append(says(ident, ACK, at + 3, delivery="b"))
    return events
