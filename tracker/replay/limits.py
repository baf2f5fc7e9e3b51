"""The times and sizes that a worker keeps to, in one place. Times in microseconds."""

from __future__ import annotations

from dataclasses import dataclass

from tracker.model.units import SECOND


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults suit brokers that answer within seconds.

    `batch`: messages claimed at once. `lease`: how long a claim is ours. `publish_within`: no batch is begun when less
    than this is left of its claim; a publisher that may answer later than this needs a longer one. `travel`: how long
    after the end of a claim something that its owner sent may still arrive. `target_lease`: how long one tracker alone
    sends to a target. `look_s`: seconds between two looks at what was sent. `look_batch`: messages looked at
    each time, and `look_pages` times as many while most of them are settled.
    `creation`: a replay still `planned` after this was interrupted while it was made.
    """

    batch: int = 5000
    lease: int = 45 * SECOND
    publish_within: int = 35 * SECOND
    travel: int = 5 * SECOND
    target_lease: int = 10 * SECOND
    look_s: float = 0.5
    look_batch: int = 500
    look_pages: int = 10
    creation: int = 600 * SECOND
