from __future__ import annotations

from typing import Any

from tracker.anomalies.watched import places, unwatched
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.store.vouched import Run

SPEC = load_spec("""
flow: orders
owner: team
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: [log, other], stage: persist, after: shop, within: 5s}
""")
START = 1_800_000_000
MINUTES = range(START, START + 600, 60)


def run(hop: str, start: int, end: int, source: str = "all", **more: Any) -> Run:
    """It is vouched for from `start` to `end`, seconds after the first minute."""
    given: dict[str, Any] = {"flow": "orders", "stage": "produce" if hop == "shop" else "persist",
                             "evidence": "message",
                             "collector": "c", "epoch": 1, "first_sequence": 1, "last_sequence": 9,
                             "signed_off": False, "broken": False}  # fmt: skip
    given |= {"start": (START + start) * SECOND, "end": (START + end) * SECOND}
    return Run(hop=hop, source=source, **(given | more))


def found(*runs: Run, refused: tuple[Run, ...] = ()) -> dict[tuple[str, int], int]:
    """Seconds not watched, by hop and minute."""
    rows = unwatched([SPEC], runs, refused, MINUTES)
    return {(hop, (minute - START) // 60): seconds for _, hop, _, minute, seconds in rows}


def test_names_are_those_of_the_series() -> None:
    """Alternative hops are one place."""
    assert places(SPEC) == [("orders", "", ""), ("orders", "shop", "produce"), ("orders", "log|other", "persist")]


def test_what_is_vouched_for_is_watched() -> None:
    """By one run or several that meet; where nobody announced himself nothing is said."""
    assert found() == {}
    assert found(run("shop", -1000, 700)) == {}
    assert found(run("shop", -1000, 300), run("shop", 300, 700, epoch=2)) == {}


def test_a_source_that_is_behind() -> None:
    """From where it is on; of the flow too, for messages begin there."""
    behind = found(run("shop", -1000, 510))
    assert behind == {(hop, minute): seconds for hop in ("", "shop") for minute, seconds in ((8, 30), (9, 60))}


def test_a_hole_between_runs() -> None:
    """Is not watched, whoever reports now; of another checkpoint it is not the flow's."""
    assert found(run("log", -1000, 90), run("log", 120, 700, epoch=2)) == {("log|other", 1): 30}


def test_every_source_counts() -> None:
    """One of two is silent."""
    assert found(run("shop", -1000, 700, "a"), run("shop", -1000, 570, "b"))["shop", 9] == 30


def test_who_signed_off_is_not_missed_and_who_vanished_is() -> None:
    """Where nothing runs nothing is missed. A source that vanished an hour ago has ended; nobody is there then."""
    assert found(run("shop", -1000, 90, signed_off=True)) == {}
    gone = found(run("shop", -9000, -5000))
    assert gone["shop", 0] == gone["shop", 9] == 60
    assert found(run("shop", -9000, -5000, "old"), run("shop", -4000, 700, "new")) == {}


def test_a_time_of_refused_lines_or_deafness() -> None:
    """Of whomever it may concern: empty names are anybody's."""
    deaf = run("", 60, 120, flow="", stage="", evidence="refused", source="deaf")
    told = found(run("shop", -1000, 700), refused=(deaf,))
    assert told == {("", 1): 60, ("shop", 1): 60, ("log|other", 1): 60}
    other = run("", 60, 120, flow="others", stage="", evidence="refused")
    assert found(run("shop", -1000, 700), refused=(other,)) == {}
