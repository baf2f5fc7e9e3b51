"""What objectives show at `/metrics`, of all flows: burn rates are worked out once, and rules only compare them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND, say
from tracker.slo import metrics
from tracker.slo.burn import HOUR, WINDOWS
from tracker.slo.metrics import Metric
from tracker.slo.standing import Standing, delivery, freshness, throughput, windows_of
from tracker.store import Store

Labels = dict[tuple[str, ...], float]
NAMES = {window: say(window * SECOND) for window in WINDOWS}
QUANTILES = ("0.5", "0.95", "0.99")


def deliveries(store: Store, specs: Iterable[FlowSpec], now: int) -> Mapping[Metric, Labels]:
    """Delivery objectives, throughput and freshness at `now` (µs), by one question to the store."""
    specs = list(specs)
    windows = windows_of(specs)
    found = store.burning(now, windows)
    shown: dict[Metric, Labels] = {
        metric: {}
        for metric in (metrics.DELIVERY_RATIO, metrics.DELIVERY_TARGET, metrics.BUDGET_LEFT, metrics.BURN_RATE,
                       metrics.CORRECTED, metrics.UNCOUNTED, metrics.THROUGHPUT, metrics.FRESHNESS)
    }  # fmt: skip
    for spec in specs:
        mine = found.get(spec.flow)
        shown[metrics.THROUGHPUT][spec.flow,] = throughput(mine)
        if spec.objectives.freshness and (age := freshness(mine, now)) is not None:
            shown[metrics.FRESHNESS][spec.flow,] = age
        if spec.objectives.delivery:
            _show(shown, delivery(spec, mine, windows, now))
    return shown


def _show(shown: Mapping[Metric, Labels], one: Standing) -> None:
    flow = one.flow
    shown[metrics.DELIVERY_TARGET][flow,] = one.target
    for window, rate in one.burn_rates.items():
        shown[metrics.BURN_RATE][flow, NAMES[window]] = rate
    if one.value is None or one.budget_left is None:
        return
    shown[metrics.DELIVERY_RATIO][flow,] = one.value
    shown[metrics.BUDGET_LEFT][flow,] = one.budget_left
    for to, count in (("good", one.turned_good), ("bad", one.turned_bad)):
        if count:
            shown[metrics.CORRECTED][flow, to] = count
    for verdict, count in (("blind", one.blind), ("explained", one.explained)):
        if count:
            shown[metrics.UNCOUNTED][flow, verdict] = count


def took(store: Store, flows: Collection[str], now: int) -> tuple[Labels, Labels]:
    """(latencies end to end, replication lags) of messages that arrived within the last hour, seconds."""
    latency, lag = Labels(), Labels()
    end = now // SECOND + 1
    for one in store.took(end - HOUR, end):
        if one.flow not in flows:
            continue
        if one.hop:
            lag[one.flow, one.hop] = one.took[-1]
        else:
            latency |= {(one.flow, name): value for name, value in zip(QUANTILES, one.took, strict=True)}
    return latency, lag
