"""Alerts about what was promised: error budgets that go too fast, and promises that are broken.

The tracker works out burn rates, of all flows at once (`tracker.slo`); rules only compare them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tracker.alerting.alert import Alert
from tracker.alerting.trackers import seen
from tracker.model.units import SECOND, say
from tracker.slo.burn import PAIRS, Pair


def _above(pair: Pair) -> str:
    """Both windows burn faster than the pair allows. Whichever pair it is, it is the same alert of the same flow."""
    rates = (f'tracker_delivery_burn_rate{{window="{say(window * SECOND)}"}}' for window in (pair.long, pair.short))
    both = (f"{seen(rate, 'flow')} > {pair.rate:g}" for rate in rates)
    return f"({' and '.join(both)})"


def _any(severity: Literal["page", "ticket"]) -> str:
    return " or ".join(_above(pair) for pair in PAIRS if pair.severity == severity)


BACK = "flow, percentile"

OBJECTIVES: Sequence[Alert] = (
    Alert(
        "DeliveryBudgetBurningFast",
        _any("page"),
        "0s",
        "page",
        "budget-burning",
        "{{ $labels.flow }}: the error budget goes {{ $value | humanize }} times faster than allowed",
        "Within an hour 2 % of the budget of 30 days went, or within six hours 5 %, and it goes on. Messages of this "
        "flow are late or missing now.",
        of_flow=True,
    ),
    Alert(
        "DeliveryBudgetBurningSlowly",
        _any("ticket"),
        "0s",
        "ticket",
        "budget-burning",
        "{{ $labels.flow }}: for a day or more the error budget goes {{ $value | humanize }} times faster than allowed",
        "Within a day, or within three, 10 % of the budget of 30 days went, and it goes on. It will not last.",
        of_flow=True,
    ),
    Alert(
        "DeliveryObjectiveMissed",
        seen("tracker_delivery_ratio", "flow") + " < " + seen("tracker_delivery_target", "flow"),
        "10m",
        "ticket",
        "objective-missed",
        "{{ $labels.flow }}: {{ $value | humanizePercentage }} delivered in time, less than promised",
        "Over the objective's whole window, fewer messages were delivered in time than the flow's owner promised.",
        of_flow=True,
    ),
    Alert(
        "ObjectiveMissed",
        seen("tracker_objective_met", "flow, objective") + " == 0",
        "10m",
        "ticket",
        "objective-missed",
        "{{ $labels.flow }} does not keep its objective {{ $labels.objective }}",
        "Messages arrive, but not as the flow's owner promised: how soon, how fresh, how often, how many.",
        of_flow=True,
    ),
    Alert(
        "ObjectivesNotJudged",
        "time() - tracker_slo_timestamp_seconds > 300",
        "2m",
        "ticket",
        "objectives-not-judged",
        "burn rates are {{ $value | humanizeDuration }} old",
        "The tracker could not work out burn rates for a while, so alerts about budgets are late or missing.",
    ),
    Alert(
        "RecoveryObjectiveMissed",
        seen("tracker_recovery_back_seconds", BACK) + " > " + seen("tracker_recovery_target_seconds", BACK),
        "5m",
        "ticket",
        "recovery-missed",
        "{{ $labels.flow }}: {{ $labels.percentile }} of what was missing back after {{ $value | humanizeDuration }}",
        "What went missing in the last day is not back as soon as the flow's owner promised. Open findings count with "
        "their age, parked and abandoned ones as never.",
        of_flow=True,
    ),
)
