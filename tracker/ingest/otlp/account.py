"""An account of the spans that became no event, so that none is lost without a word."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracker.ingest.otlp.places import Sort

NO_FLOW, NO_ID, FAILED, NO_STAGE = "no_flow", "no_id", "failed", "no_stage"
"""Why a span about messaging became no event: no checkpoint matches it; nothing names its message; it tells of a send
or receive that failed; its operation says nothing of a message."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Spans of one sort that became no event, `flow` the one that matches them, if any. `sample` is an id that one of
    them has, or empty."""

    sort: Sort
    reason: str
    flow: str
    count: int
    sample: str


@dataclass(frozen=True, slots=True)
class Account:
    """`spans` in the body, `other` of them not about messaging, and what was `seen` and made no event of."""

    spans: int
    other: int
    seen: list[Seen] = field(default_factory=list)

    def count(self, *reasons: str) -> int:
        """Spans that became no event for one of these reasons."""
        return sum(seen.count for seen in self.seen if seen.reason in reasons)
