"""What collectors vouch for, on the wire and as intervals.

A report is dated by the tracker: its collector has seen all that happened up to `received_at - lag_ms`. Only a
contiguous sequence of reports counts; a gap in `sequence`, a new `epoch` or `dropped` events break the interval.
"""

from __future__ import annotations

import msgspec


class SourceRef(msgspec.Struct, frozen=True, order=True):
    """One thing a collector watches: a partition, a queue, a client process, at one (hop, stage) of one flow."""

    flow: str
    hop: str
    stage: str
    source: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One coverage report: the `Tracker-Coverage` header of a batch, or the body of `POST /v1/coverage`.

    `epoch` grows at each start of the collector, `sequence` by one per report within an epoch, from 1. `events` is
    how many lines the batch carries, `dropped` how many the collector had to give up since the report before.
    """

    collector: str
    epoch: int
    sequence: int
    events: int = 0
    lag_ms: int = 0
    backlog: int = 0
    dropped: int = 0
    sources: list[SourceRef] = msgspec.field(default_factory=list)
    signed_off: list[SourceRef] = msgspec.field(default_factory=list)
