"""What happens to a claimed message instead of being sent: pure. None means: send it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from tracker.control.messages import Claimed, ReplayMessage
from tracker.model.carry import Copy
from tracker.model.carry import Missing as Gone
from tracker.model.event import Event
from tracker.replay.copies import attempts_carried, fault
from tracker.replay.routes import Missing
from tracker.replay.settle import seen


class Decision(NamedTuple):
    """`state`: recovered, refused or parked for good; `in_doubt` for the ledger to settle; `planned` (this attempt is
    used up) or `released` (it is not) to be tried again. `reason` in words."""

    state: str
    reason: str


def by_findings(statuses: Sequence[tuple[Missing, str]]) -> Decision | None:
    """A message that needs nothing any more is not sent: it may have waited long for its approval."""
    states = {status for _, status in statuses}
    if "open" in states:
        return None
    if "recovered" in states:
        return Decision("recovered", "recovered by itself before it was sent")
    if states == {"withdrawn"}:
        return Decision("refused", "not sent: its finding was withdrawn, nothing was missing")
    return Decision("refused", f"not sent: its finding is {', '.join(sorted(states))}, somebody gave it up")


def by_rivals(replay: tuple[int, str], others: Iterable[tuple[tuple[int, str], ReplayMessage]]) -> Decision | None:
    """Two replays may hold one message; it is sent by one. `replay` is (created_at, id) of ours, `others` the rows of
    the message in other replays, with the same of each.

    Both have committed their claim before they look, so at least one sees the other. The younger one gives way for
    good; the older one only waits, because the younger may have looked before it and be sending.
    """
    for other, row in others:
        if row.state in ("sent", "in_doubt"):
            return Decision("refused", f"replay {row.replay_id} sent it already, or may have: see there")
        if row.state == "claimed" and other < replay:
            return Decision("refused", f"replay {row.replay_id} is sending it: see there")
        if row.state == "claimed":
            return Decision("released", f"replay {row.replay_id} has it at this moment")
    return None


def by_arrivals(claim: Claimed, events: Iterable[Event], targets: Collection[str], replay_id: str) -> Decision | None:
    """An attempt that was thought never to have arrived may have been late: a network, or a broker that stood still,
    delivers what it has when it can. It is not sent again; the ledger settles it as any doubt."""
    numbered = (event for event in events if event.attempt) if claim.again else ()
    late = seen(numbered, targets, replay_id, claim.arrived, claim.attempt)
    if late is None:
        return None
    return Decision("in_doubt", f"not sent again: attempt {late.attempt} has arrived at {late.hop} after all")


def by_copy(
    claim: Claimed, found: Copy | Gone, digests: frozenset[str], identity: str, max_attempts: int
) -> Decision | None:
    """A wrong copy is refused, a loop is stopped, an attempt number that is taken already is passed over."""
    reason = fault(found, digests, identity)
    if reason or isinstance(found, Gone):
        return Decision("refused", reason)
    carried = attempts_carried(found)
    if carried >= max_attempts:
        return Decision("parked", f"the copy is of attempt {carried} already, {max_attempts} are allowed: a loop?")
    if carried >= claim.attempt:
        # Sent by a tracker whose books we do not have. Numbers differ, or the ledger could not tell attempts apart.
        return Decision("planned", f"attempt {claim.attempt} was not sent: the copy is of attempt {carried} already")
    return None
