"""Rules are kept between bodies; what they depend on is not."""

from __future__ import annotations

import polars as pl

from tracker.ingest import check
from tracker.ingest.times import LATEST

AT = 1_800_000_000_000_000
LINE = pl.DataFrame({"line": [1], "flow": ["orders"], "hop": ["a"], "stage": ["ack"], "message_id": ["m"],
                     "observed_at": [AT]}, schema_overrides={"line": pl.UInt32})  # fmt: skip


def fields(known: set[str], now: int) -> list[str]:
    """The fields that are wrong with the line."""
    frame = check.typed(LINE)
    return check.problems(frame, {}, check.rules(frame, {}, known, now))["field"].to_list()


def test_the_clock_goes_on() -> None:
    """A time that lies too far ahead of the tracker's clock does not any more when the same columns come later."""
    assert [fields({"orders"}, now) for now in (AT - LATEST - 1, AT - LATEST, AT)] == [["observed_at"], [], []]


def test_a_flow_becomes_known() -> None:
    """Lines of a flow that was put meanwhile are good."""
    assert [fields(known, AT) for known in ({"other"}, {"other", "orders"}, {"other"})] == [["flow"], [], ["flow"]]
