"""Sending copies in batches, in a bounded time: what publishers of most systems share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tracker.model.carry import Copy, Sent

Tried = tuple[list[str], str]
"""What became of copies that were tried, in order: "" or an error each. Those behind them were not tried. And why
nothing more is to be tried in this call; "" to go on."""


def in_batches(
    copies: Sequence[Copy], most: int, within: float, what: str, attempt: Callable[[Sequence[Copy], float], Tried]
) -> list[Sent]:
    """One answer per copy, in order. `attempt` is given up to `most` copies at a time, and until when it may take (by
    `time.monotonic`); after `within` seconds the next ones are not tried. `what` names the target in errors."""
    until = time.monotonic() + within
    answers: list[Sent] = []
    why = ""
    while len(answers) < len(copies) and not why:
        if time.monotonic() > until:
            why = f"not sent: {what}: the time of {within:g} s for this batch is over"
        else:
            batch = copies[len(answers) : len(answers) + most]
            errors, why = attempt(batch, until)
            answers += [Sent(copy.locator, error) for copy, error in zip(batch, errors, strict=False)]
    return answers + [Sent(copy.locator, why, untried=True) for copy in copies[len(answers) :]]
