"""What a message has been counted as: bits of its state, each set at most once, so that every count is of messages.

A message counts as good or bad when it is first settled; what turns out otherwise later is a correction, and refunds
nothing (docs/adr/0043).
"""

from __future__ import annotations

from collections.abc import Iterable

from tracker.model.verdict import WRONG, Flag, Verdict

GOOD, BAD = 1, 2
"""Both: first the one, then corrected to the other."""
BLIND, EXPLAINED = 4, 8
"""Neither good nor bad."""
COMPLETE = 16
"""Everything was there, so how long it took is known."""
DUPLICATED, DIVERGENT = 32, 64
SETTLED = GOOD | BAD

OF_VERDICT = {
    Verdict.delivered: GOOD | COMPLETE,
    Verdict.late: BAD | COMPLETE,
    **dict.fromkeys(WRONG, BAD),
    Verdict.divergent: BAD | DIVERGENT,
    Verdict.blind: BLIND,
    Verdict.explained: EXPLAINED,
    Verdict.in_flight: 0,
}


def counted(before: int, verdict: str, flags: Iterable[str] = ()) -> int:
    """The bits of a message that had `before` and has this verdict now."""
    return before | OF_VERDICT[Verdict(verdict)] | (DUPLICATED if Flag.duplicated in flags else 0)
