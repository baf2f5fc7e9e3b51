"""The words for what became of a message, and the answer that `judge` gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tracker.model.coverage import Hole


class Verdict(StrEnum):
    """The one state of one message. The order is the order in which they are tried."""

    divergent = "divergent"
    lost = "lost"
    unacknowledged = "unacknowledged"
    under_replicated = "under_replicated"
    dead_lettered = "dead_lettered"
    blind = "blind"
    in_flight = "in_flight"
    explained = "explained"
    late = "late"
    delivered = "delivered"


class Status(StrEnum):
    """The state of one required checkpoint of one message."""

    seen = "seen"
    short = "short"
    implied = "implied"
    closed = "closed"
    overdue = "overdue"
    unknown = "unknown"
    pending = "pending"


class Flag(StrEnum):
    """What else is to be known of a message; flags do not exclude each other."""

    gap = "gap"
    orphan = "orphan"
    duplicated = "duplicated"
    replayed = "replayed"
    skewed = "skewed"
    reordered = "reordered"
    reused_id = "reused_id"


WRONG = (Verdict.divergent, Verdict.lost, Verdict.unacknowledged, Verdict.under_replicated, Verdict.dead_lettered)
"""Verdicts that somebody has to act on. Each is a kind of finding, too."""

SETTLED = (Verdict.delivered, Verdict.late, Verdict.explained)
"""Verdicts that nothing but a new event changes."""


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """One required checkpoint of one message, or an optional one whose payload differs. Times in microseconds; None
    where there is none.

    `status` may be `short`; then `due` says whether that is overdue, unknown or still pending. For every other
    status `due` equals it. `by` is why an overdue one is: `deadline` or `drop`; for a closed one `dead_letter` or
    `design`. `cause` is the index of the overdue checkpoint before it that explains this one. `divergent`: its payload
    differs, whatever else is wrong with it.
    """

    index: int
    name: str
    status: Status
    due: Status
    deadline: int | None = None
    observed_at: int | None = None
    late: bool = False
    by: str = ""
    hole: Hole | None = None
    cause: int | None = None
    kind: Verdict | None = None
    divergent: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one message at `as_of`. `origin_at` dates it; `held_by` are the hops that still hold a copy.

    `look_again` is the earliest time at which the answer may change without a new event; None when it cannot.
    """

    verdict: Verdict
    flags: frozenset[Flag]
    checkpoints: tuple[CheckpointState, ...]
    held_by: tuple[str, ...]
    origin_at: int
    as_of: int
    why: str
    look_again: int | None

    @property
    def missing(self) -> tuple[CheckpointState, ...]:
        """What is required and neither seen nor implied, or short. Empty for delivered and late."""
        return tuple(c for c in self.checkpoints if c.status not in (Status.seen, Status.implied))

    @property
    def findings(self) -> tuple[CheckpointState, ...]:
        """What is a finding each, by `kind`: overdue and dead-lettered checkpoints, and every divergence."""
        differing = (replace(c, kind=Verdict.divergent, cause=None) for c in self.checkpoints if c.divergent)
        return (*(c for c in self.checkpoints if c.kind is not None), *differing)
