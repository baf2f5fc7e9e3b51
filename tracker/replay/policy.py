"""What a flow's replay policy lets through without a person: pure.

off      nothing is sent again
approve  a second person says yes
auto     of the flow's `kinds`, and within its `budget`, sent at once; all else as under approve
"""

from __future__ import annotations

from collections.abc import Collection

from tracker.model.coverage import Coverage
from tracker.model.spec import Replay
from tracker.model.units import SECOND
from tracker.replay.routes import KEPT, Missing

POLICY = "policy"
"""Who asks for what nobody asked for: in replays, timelines and the audit log."""
APPROVER = "policy auto"
"""Who approves what needs no person; the messages of these replays are what a budget counts."""
FRESH = 30 * SECOND
"""Coverage that ends longer ago than this, µs, is that of somebody who does not look at the moment."""


def objection(policy: Replay, kinds: Collection[str], messages: int, left: int) -> str:
    """Why a second person must say yes to a replay of these kinds of findings, so many messages; empty: none must.
    `left`: messages that the budget still has."""
    if policy.mode == "approve":
        return "the flow's mode is `approve`"
    if policy.mode == "off":
        return ""
    if beyond := sorted(set(kinds) - set(policy.kinds)):
        return f"{', '.join(beyond)}: not among the flow's `kinds` ({', '.join(policy.kinds)})"
    if messages > left:
        return f"{messages} messages, and {left} of the flow's `budget` of {policy.budget} is left"
    return ""


def unwatched(
    coverage: Coverage, targets: Collection[str], missing: Collection[Missing], opened_at: int, now: int
) -> str:
    """The place that nobody can be sure of, so that what is sent now could be in vain, or not be seen to arrive; empty:
    there is none. A target has to be watched by somebody who announced himself, or doubt could not be settled; where a
    message is missing, nobody may have looked away since that was found."""
    for target in sorted(targets):
        stages = [stage for stage in KEPT if coverage.vouches(target, stage)]
        open_ = [cover for stage in stages for cover in coverage.of(target, stage) if cover.closed is None]
        if not open_ or any(coverage.reach([target], stage, now) < now - FRESH for stage in stages):
            return target
    for hop, stage in sorted({(hop, one.stage) for one in missing for hop in one.hop.split("|")}):
        behind = coverage.reach([hop], stage, now) < now - FRESH
        if behind or (opened_at < now - FRESH and coverage.hole(hop, stage, opened_at, now - FRESH, now)):
            return hop
    return ""
