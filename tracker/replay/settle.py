"""Two pure questions to our own ledger: was this attempt sent, and did it help?

Whoever asks reads coverage *before* events: coverage is stored after the events it vouches for, so events read later
hold all that the coverage read earlier speaks of. The other way round, an event that came in between would be missed
and its message sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from tracker.model.coverage import Coverage
from tracker.model.event import Event
from tracker.replay.routes import KEPT, Missing


class Doubt(StrEnum):
    """What became of an attempt that nobody answered for."""

    sent = "sent"
    not_sent = "not_sent"
    unknown = "unknown"


class Outcome(StrEnum):
    """What became of a message after it was sent."""

    recovered = "recovered"
    withdrawn = "withdrawn"
    given_up = "given_up"
    waiting = "waiting"
    blind = "blind"
    unrecovered = "unrecovered"


def doubt(
    events: Iterable[Event],
    coverage: Coverage,
    targets: Collection[str],
    replay_id: str,
    attempt: int,
    span: tuple[int, int],
    now: int,
    arrived: int = 0,
) -> Doubt:
    """Whether an attempt reached any of `targets`. `span` is when it may have arrived there: from the claim to the last
    moment at which its owner, or the network, could still have delivered it.

    So does one before it that is not among those known to have `arrived` (the newest of them): it was late. An
    observation without attempt number may be this one, and counts as it: better not sent again than sent twice. For
    the same reason coverage that is only assumed proves no absence.
    """
    if seen(events, targets, replay_id, arrived, attempt) is not None:
        return Doubt.sent
    start, end = span
    if now <= end or not all(_watched(coverage, target, start, end, now) for target in targets):
        return Doubt.unknown
    return Doubt.not_sent


def seen(events: Iterable[Event], targets: Collection[str], replay_id: str, arrived: int, attempt: int) -> Event | None:
    """An arrival at `targets` of an attempt of this replay, after number `arrived` and up to `attempt`."""
    for event in events:
        same = event.hop in targets and event.stage in KEPT and event.replay_id == replay_id
        if same and (not event.attempt or arrived < event.attempt <= attempt):
            return event
    return None


def _watched(coverage: Coverage, target: str, start: int, end: int, now: int) -> bool:
    """Whether all that arrived at `target` in this span was seen: what is sent to a replica is seen as one there."""
    stages = [stage for stage in KEPT if coverage.vouches(target, stage)]
    return bool(stages) and not any(coverage.hole(target, stage, start, end, now) for stage in stages)


def outcome(
    statuses: Sequence[tuple[Missing, str]],
    coverage: Coverage,
    sent_at: int,
    follow_up: int,
    now: int,
) -> Outcome:
    """What became of a message that was sent at `sent_at`, by the status of each finding that it was sent for.

    Only an open finding that is covered from then to `sent_at + follow_up` says that it did not help.
    """
    states = {status for _, status in statuses}
    if not states:
        raise ValueError("a message is sent for at least one finding")
    if states <= {"recovered", "withdrawn"}:
        return Outcome.recovered if "recovered" in states else Outcome.withdrawn
    if "open" not in states:
        return Outcome.given_up
    end = sent_at + follow_up
    if now <= end:
        return Outcome.waiting
    for missing in [missing for missing, status in statuses if status == "open"]:
        # A checkpoint of several hops (any of them) is named by all of them.
        for hop in missing.hop.split("|"):
            if coverage.hole(hop, missing.stage, sent_at, end, now):
                return Outcome.blind
    return Outcome.unrecovered
