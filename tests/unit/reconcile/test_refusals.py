"""Reports of our own become spans: since when, and at which places, a refused line may have been told of."""

from __future__ import annotations

from typing import Any

from tracker.model.coverage import GRACE
from tracker.model.units import SECOND
from tracker.reconcile.refusals import Refusals, Sources
from tracker.store.vouched import Place

AT = 10_000 * SECOND


def taken(refusals: Refusals, *places: Place, at: int = AT, ends: dict[str, Any] | None = None) -> Refusals:
    """It with a report on these places."""
    sources = [{"flow": flow, "hop": hop, "stage": stage, "source": ""} for flow, hop, stage in places]
    refusals.take({"received": at, "lag_ms": 0, "sources": sources}, ends or {})
    return refusals


def spans(refusals: Refusals) -> dict[Place, list[tuple[float, float]]]:
    """By place, in seconds before and after `AT`."""
    found: dict[Place, list[tuple[float, float]]] = {}
    for run in refusals.of("orders"):
        span = ((run.start - AT) / SECOND, (run.end - 1 - AT) / SECOND)
        found.setdefault((run.flow, run.hop, run.stage), []).append(span)
    return found


def reporting(**behind: float) -> dict[str, dict[tuple[str, str], Sources]]:
    """At `ack` of each hop of orders a source that is so many seconds behind."""
    return {"orders": {(hop, "ack"): {("s", "message"): (AT - round(s * SECOND), False)} for hop, s in behind.items()}}


def test_each_place_has_its_own_since() -> None:
    """A line that does not tell its hop may be from any, and is as old as the reports from there let it be."""
    ends = reporting(billing=1, mail=50, gone=3601)
    anywhere = ("orders", "", "ack")
    grace = GRACE / SECOND
    assert spans(taken(Refusals([]), anywhere, ends=ends)) == {
        anywhere: [(-grace, 0)],
        ("orders", "mail", "ack"): [
            (-50, 0),
        ],
    }
    assert spans(taken(Refusals([]), ("orders", "", "nack"), ends=ends)) == {("orders", "", "nack"): [(-grace, 0)]}
    assert spans(taken(Refusals([]), ("orders", "mail", "ack"), ends=ends)) == {("orders", "mail", "ack"): [(-50, 0)]}
    assert spans(taken(Refusals([]), ("", "", ""), ends=ends)) == {("", "", ""): [(-grace, 0)]}


class Looked(dict[tuple[str, str], Any]):
    """Places that may be looked up, but not walked."""

    def items(self) -> Any:
        """Not asked for."""
        raise AssertionError("all places were walked")


def test_a_place_that_is_told_is_looked_up() -> None:
    """There may be thousands of others."""
    ends = {"orders": Looked(reporting(mail=50)["orders"])}
    assert spans(taken(Refusals([]), ("orders", "mail", "ack"), ends=ends)) == {("orders", "mail", "ack"): [(-50, 0)]}


def test_lines_that_come_soon_after_one_another_are_one_span() -> None:
    """In whatever order they are taken; again, they change nothing."""
    place = ("orders", "mail", "ack")
    every = [AT + n * SECOND for n in (0, 30, 10, 20, 41)]
    found = Refusals([])
    for at in every:
        taken(found, place, at=at)
    assert spans(found) == {place: [(-2, 30), (39, 41)]}
    found.changed.clear()
    for at in every:
        taken(found, place, at=at)
    assert not found.changed


def test_old_spans_become_one_an_hour() -> None:
    """A sender that is always wrong is not remembered second by second for ever; what comes late joins the old."""
    place = ("orders", "mail", "ack")
    found = Refusals([])
    day, minute = 24 * 3600 * SECOND, 60 * SECOND
    for at in range(AT, AT + 3 * day, 5 * minute):
        taken(found, place, at=at)
    assert len(found.of("orders")) <= 2 * 25 + 25 * 12 + 1
    taken(found, place, at=AT + 7 * minute)
    assert len(found.of("orders")) <= 2 * 25 + 25 * 12 + 1
    assert Refusals(found.of("orders")).of("orders")[0].start == AT - GRACE
