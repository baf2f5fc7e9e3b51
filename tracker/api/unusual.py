"""Anomalies as OpenAPI describes them, and in words."""

from __future__ import annotations

from typing import Literal

from tracker.anomalies.signals import BY_NAME
from tracker.api.shapes import Instant, Shape
from tracker.model.units import SECOND, rfc3339
from tracker.store.anomalies import Anomaly

UNITS = {"messages_per_minute": "messages a minute", "seconds": "s", "share": ""}


class Unusual(Shape):
    """A signal that is not, or was not, what is usual. `hop` and `stage` are empty for the whole flow.

    It began `since`, was noticed at `opened_at`, was there at `last_at`, and was over at `until` (null: it lasts), for
    `ended_by`: `usual`, `unwatched`, `superseded` (another one tells it) or `gone` (the flow is, or
    the checkpoint in it). `expected` and
    `came`, in `unit`, are of the moment in which it was furthest off, by `distance` usual distances. `baseline`: what
    it was held against.
    """

    flow: str
    hop: str
    stage: str
    signal: str
    direction: Literal["high", "low"]
    since: Instant
    opened_at: Instant
    last_at: Instant
    until: Instant | None
    ended_by: str
    unit: str
    expected: float
    came: float
    distance: float
    baseline: str
    why: str


def unusual(one: Anomaly) -> Unusual:
    """As it is answered."""
    return Unusual(
        flow=one.flow,
        hop=one.hop,
        stage=one.stage,
        signal=one.signal,
        direction="low" if one.direction == "low" else "high",
        since=one.since * SECOND,
        opened_at=one.opened_at * SECOND,
        last_at=one.last_at * SECOND,
        until=one.until * SECOND if one.until else None,
        ended_by=one.ended_by,
        unit=BY_NAME[one.signal].unit,
        expected=one.expected,
        came=one.came,
        distance=one.distance,
        baseline=one.baseline,
        why=why(one),
    )


def why(one: Anomaly) -> str:
    """In a sentence: what was expected, what came, since when, and by what it is judged."""
    where = f"{one.flow}, {one.hop}:{one.stage}" if one.hop else one.flow
    unit = BY_NAME[one.signal].unit
    expected, came = (_said(value, unit) for value in (one.expected, one.came))
    ended = f" until {rfc3339(one.until * SECOND)}" if one.until else ""
    return (f"{where}: {one.signal} is {one.direction} since {rfc3339(one.since * SECOND)}{ended}: about {expected} "
            f"expected (by {one.baseline.replace('_', ' ')}), {came} came")  # fmt: skip


def _said(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value * 100:.3g} %"
    return f"{value:.3g} {UNITS[unit]}"
