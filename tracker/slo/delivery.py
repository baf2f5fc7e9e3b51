"""The delivery objective: the share of settled messages that were delivered in time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracker.model.verdict import WRONG, Verdict

BAD = (*WRONG, Verdict.late)
"""Verdicts that break the promise. `blind` and `explained` are neither good nor bad, and are shown as such."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Counts of messages; `ratio` is None while nothing has settled."""

    good: int
    bad: int
    blind: int
    explained: int
    in_flight: int

    @classmethod
    def of(cls, verdicts: Mapping[str, int]) -> Delivery:
        """From messages by verdict."""
        return cls(
            good=verdicts.get(Verdict.delivered, 0),
            bad=sum(verdicts.get(verdict, 0) for verdict in BAD),
            blind=verdicts.get(Verdict.blind, 0),
            explained=verdicts.get(Verdict.explained, 0),
            in_flight=verdicts.get(Verdict.in_flight, 0),
        )

    @property
    def ratio(self) -> float | None:
        """good / (good + bad)."""
        settled = self.good + self.bad
        return self.good / settled if settled else None

    def met(self, target: float) -> bool | None:
        """Whether the promise holds; None while nothing has settled."""
        return None if self.ratio is None else self.ratio >= target
