"""What is looked at, and how far it has to be off: every rule has a smallest distance beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["count", "share", "log"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is looked at. `scale`: how it is compared: counts and shares by their square roots, times by
    their logarithms. `unit` of what is expected and came.

    It is off when it is both: `ratio` times what is expected or more (or 1 / `drop` of it or less, where `low`), and so
    much more or less that `least` is reached: messages in the window for a count, share of 1, seconds. `samples`: so
    many of them a window holds at least. A season of the day, and a level, allow for more: see `WIDER`."""

    name: str
    scale: Scale
    unit: str
    ratio: float
    drop: float
    least: float
    samples: int
    low: bool


SIGNALS = (
    Signal("volume", "count", "messages_per_minute", 1.22, 0.8, 30, 0, True),
    Signal("latency", "log", "seconds", 1.2, 1 / 1.2, 0.005, 30, True),
    Signal("loss", "share", "share", 1.3, 0, 0.02, 30, False),
    Signal("duplicates", "share", "share", 1.3, 0, 0.02, 30, False),
    Signal("coverage", "share", "share", 1.3, 0, 0.3, 0, False),
)
"""Of `coverage` what is compared is the share of the time that nobody vouched for."""
NAMES = tuple(signal.name for signal in SIGNALS)
BY_NAME = {signal.name: signal for signal in SIGNALS}

BASELINES = {168: "hour_of_week", 24: "hour_of_day", 1: "level"}
WIDER = {168: 1.0, 24: 2.0, 1: 4.0}
"""Without a season of the week, the smallest distance is so many times as far on the scale on which it is compared."""
FAR = 4.5
"""So many usual distances away is not chance. Tuned on seeds other than those that docs/anomalies.md shows."""
STAYS = 2.0
"""An anomaly lasts while it is so many usual distances and half the smallest distance away."""
WINDOWS = (5, 10, 15, 30, 60)
"""Minutes that are looked at together: a short one finds what is large soon, a long one what is small."""
CALM = 10
"""Minutes of calm after which an anomaly is over."""
CATCHING_UP = 10
"""Minutes after one that was not watched in which counts say nothing: what was kept back comes at once."""
