"""Messages of a line, a key or a partition, go one after the other: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tracker.control.messages import Claimed, ReplayMessage
from tracker.replay.fetching import Ready
from tracker.replay.screen import Decision


def turns(ready: Sequence[Ready]) -> list[list[Ready]]:
    """What may be sent at once, in order: of each line one message in each turn; what is in no line, in the first."""
    made: list[list[Ready]] = []
    standing: dict[str, int] = {}
    for one in sorted(ready, key=lambda one: one.claim.ordinal):
        line = one.claim.line
        turn = standing.get(line, 0)
        if line:
            standing[line] = turn + 1
        if turn == len(made):
            made.append([])
        made[turn].append(one)
    return made


def behind_broken(turn: Sequence[Ready], broken: Mapping[str, str]) -> dict[str, list[Claimed]]:
    """What stands behind messages that were not confirmed, by their ids. `broken`: those by line."""
    found: dict[str, list[Claimed]] = {}
    for one in turn:
        if one.claim.line in broken:
            found.setdefault(broken[one.claim.line], []).append(one.claim)
    return found


def held_back(
    claims: Sequence[Claimed],
    decided: Mapping[str, Decision],
    stuck: Sequence[ReplayMessage],
    missing: Collection[str],
) -> dict[str, Decision]:
    """What becomes of claims that stand behind one of their line that is `missing` and not sent: refused where that
    one never will be, else given back. `claims` and `stuck`, those that this replay gave up before, are in order."""
    broken: dict[str, tuple[int, Decision]] = {}
    for row in stuck:
        if row.message_id in missing:
            broken.setdefault(row.line, (row.ordinal, _behind(row.message_id, row.state, row.error)))
    found: dict[str, Decision] = {}
    for claim in claims:
        own = decided.get(claim.message_id)
        ordinal, instead = broken.get(claim.line, (claim.ordinal, None))
        if instead and ordinal < claim.ordinal:
            if not own or own.state != "recovered":
                found[claim.message_id] = instead
        elif claim.line and own and claim.message_id in missing:
            broken[claim.line] = claim.ordinal, _behind(claim.message_id, own.state, own.reason)
    return found


def _behind(message_id: str, state: str, reason: str) -> Decision:
    """For those behind a message in this `state`."""
    why = f"{message_id!r}, which comes before it in its line, is not sent: {reason}"
    if state in ("refused", "parked"):
        return Decision("refused", f"held back: {why}")
    return Decision("released", f"it waits: {why}")
