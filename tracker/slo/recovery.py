"""The recovery objective: how soon what was missing is back, held against what was promised. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.model.spec import Recovery
from tracker.model.units import SECOND

PERIOD = 86_400 * SECOND
"""The objective names no window: it is held against the findings of the last day."""
Pair = tuple[int | None, int | None]
"""p50 and p90 in µs."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One percentile: what was promised and how it stands, µs. `stands` None: so much was given up that it is never."""

    name: str
    target: int
    stands: int | None

    @property
    def met(self) -> bool:
        """Whether it holds, as far as is known now: what is open only grows older."""
        return self.stands is not None and self.stands <= self.target


def promises(objective: Recovery | None, back: Pair, counted: int) -> list[Promise]:
    """What was promised, held against `back` (`tracker.store.recovery.Recovered`) of so many findings; nothing where
    nothing was promised, or nothing was missing."""
    if objective is None or not counted:
        return []
    wanted = (("p50", objective.p50, back[0]), ("p90", objective.p90, back[1]))
    return [Promise(name, target, stands) for name, target, stands in wanted if target is not None]


def percentiles(spans: Sequence[int]) -> Pair:
    """p50 and p90 of spans as the store takes them: of n in order the one at place floor(n * q)."""
    if not spans:
        return None, None
    ordered = sorted(spans)
    return ordered[int(len(ordered) * 0.5)], ordered[int(len(ordered) * 0.9)]
