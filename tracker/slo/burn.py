"""Error budgets and burn rates. Pure.

The formulas are those of the Site Reliability Workbook, chapter 5, "Alerting on SLOs"
(https://sre.google/workbook/alerting-on-slos/), its sixth approach: multiple windows, multiple burn rates. docs/slo.md
says what is added for flows with little traffic, and for new ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Pair:
    """Somebody is told while both windows (seconds) burn faster than `rate`: the long one says that it matters, the
    short one that it goes on."""

    long: int
    short: int
    rate: float
    severity: Literal["page", "ticket"]


PAIRS = (
    Pair(HOUR, 5 * MINUTE, 14.4, "page"),
    Pair(6 * HOUR, 30 * MINUTE, 6.0, "page"),
    Pair(DAY, 2 * HOUR, 3.0, "ticket"),
    Pair(3 * DAY, 6 * HOUR, 1.0, "ticket"),
)
"""2 % of the budget of 30 days within an hour, 5 % within six hours, 10 % within a day and within three."""
LONG = frozenset(pair.long for pair in PAIRS)
WINDOWS = tuple(sorted({window for pair in PAIRS for window in (pair.long, pair.short)}))


def burn_rate(good: int, bad: int, target: float, window: int, age: float = math.inf) -> float:
    """How many times faster than allowed the error budget goes: the share of bad messages / (1 - target); 1 uses up all
    of it in just the objective's window.

    `window` and `age`, since the flow's first message, in seconds. Where a long window holds fewer messages than have
    one bad one among them by the target, 1 / (1 - target), it is taken to hold so many: the rate is then the number of
    bad ones, and one alone is never more than 1. Of a flow that is younger than the window, the time before its first
    message counts as time without errors. A target of 100 % has no budget: one bad message burns infinitely fast.
    """
    if not bad:
        return 0.0
    allowed = 1 - target
    if allowed <= 0:
        return math.inf
    settled = max(good + bad, 1 / allowed) if window in LONG else good + bad
    return bad / settled / allowed * min(1.0, age / window)


def budget_left(good: int, bad: int, target: float) -> float | None:
    """The share of the objective's error budget that is left: 1 is all, below 0 the promise is broken; None while
    nothing has settled."""
    if not good + bad:
        return None
    allowed = (1 - target) * (good + bad)
    if not bad:
        return 1.0
    return 1 - bad / allowed if allowed > 0 else -math.inf


def ratio(good: int, bad: int) -> float | None:
    """good / (good + bad); None while nothing has settled."""
    return good / (good + bad) if good + bad else None


def burning(rates: dict[int, float]) -> list[Pair]:
    """The pairs of windows of which both burn too fast, by burn rate of each window; the most urgent first."""
    return [pair for pair in PAIRS if rates[pair.long] > pair.rate and rates[pair.short] > pair.rate]


def broken_since(counts: Sequence[tuple[int, int, int]], target: float, window: int, now: int) -> int | None:
    """Since when the promise is broken without a break, epoch s, to the step of `counts`: (start, good, bad), each
    step that had any, in order, from two windows before `now` on. None while it is kept."""
    since: int | None = None
    good = bad = first = 0
    ends = [*(start for start, _, _ in counts), now][1:]
    for n, ((start, ok, wrong), end) in enumerate(zip(counts, ends, strict=True)):
        good, bad = good + ok, bad + wrong
        while first <= n and counts[first][0] < end - window:
            good, bad, first = good - counts[first][1], bad - counts[first][2], first + 1
        kept = ratio(good, bad)
        if kept is None or kept >= target:
            since = None
        elif since is None:
            since = start
    return since
