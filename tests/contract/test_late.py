"""The measure of the broker contract: what counts as vouched for and not there."""

from __future__ import annotations

from tests.contract.broker import late
from tests.contract.http_tracker import Request

SOURCES = [{"flow": "orders", "hop": "log", "stage": "persist", "source": "t/0"}]


def told(reached: int, *ids: str, vouching: bool = True) -> Request:
    """A report that reaches so far, with its lines."""
    report = {"sources": SOURCES if vouching else [], "lag_ms": 0, "dropped": 0}
    return Request("/v1/events", {}, [{"message_id": one} for one in ids], report, 200, reached)


def test_what_comes_with_its_report_or_before_is_in_time() -> None:
    """Put at 15 (until 18), it is in the report that reaches 20, or in one before it."""
    assert late([told(10), told(20, "m-1")], {"m-1": (15, 18)}, "persist") == set()
    assert late([told(10, "m-1"), told(20)], {"m-1": (15, 18)}, "persist") == set()


def test_what_comes_behind_its_report_is_late() -> None:
    """The report that reaches 20 vouched for it and did not have it; or it never came."""
    assert late([told(10), told(20), told(30, "m-1")], {"m-1": (15, 18)}, "persist") == {"m-1"}
    assert late([told(10), told(20)], {"m-1": (15, 18)}, "persist") == {"m-1"}


def test_a_hole_vouches_for_nothing() -> None:
    """Neither the report that leaves the sources out, nor the first one that lists them again."""
    reports = [told(10), told(20, vouching=False), told(30)]
    assert late(reports, {"m-1": (15, 18), "m-2": (25, 28)}, "persist") == set()


def test_what_lies_across_a_border_is_not_judged() -> None:
    """Nobody knows on which side of it the broker took it."""
    assert late([told(10), told(20)], {"m-1": (9, 12), "m-2": (19, 21)}, "persist") == set()
