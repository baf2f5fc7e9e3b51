"""How objectives stand: what was promised, what is, and for deliveries the error budget and how fast it burns.

Delivery comes from one question for all flows; the others are asked for where somebody promised them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property

import msgspec

from tracker.model.spec import FlowSpec, Latency
from tracker.model.units import SECOND
from tracker.slo.burn import WINDOWS, broken_since, budget_left, burn_rate, burning, ratio
from tracker.slo.recovery import PERIOD, promises
from tracker.store import Store
from tracker.store.settled import HOUR, TROUGH, Burning, Counts, Took

QUANTILES = ("p50", "p95", "p99")
PERCENTILES = ("p50", "p90")
"""Of recovery times."""
COUNTED = ("good", "bad", "blind", "explained", "turned_good", "turned_bad")
"""What is counted for a delivery objective."""


class Status(StrEnum):
    """How an objective stands. `burning`: kept, and its budget goes too fast; `unknown`: nothing to go by."""

    kept = "kept"
    burning = "burning"
    broken = "broken"
    unknown = "unknown"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One objective of one flow. `target` and `value` are in `unit`: `share` of 1, `seconds`, or `per_second`. `window`
    in seconds; 0: at this moment. `since`, epoch s: when what is wrong began, where that is known.

    Of `delivery` only: messages first settled as good and as bad within the window, those that became blind or
    explained, those that turned out otherwise later; the share of the budget that is left; burn rates by window.
    """

    flow: str
    owner: str
    objective: str
    unit: str
    target: float
    value: float | None
    window: int
    status: Status
    since: int | None = None
    good: int = 0
    bad: int = 0
    blind: int = 0
    explained: int = 0
    turned_good: int = 0
    turned_bad: int = 0
    budget_left: float | None = None
    burn_rates: dict[int, float] = {}

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where nothing is known."""
        return None if self.status is Status.unknown else self.status is not Status.broken


def deliveries(store: Store, specs: Iterable[FlowSpec], now: int, some: bool = False) -> list[Standing]:
    """The delivery objectives of those that have one, at `now` (µs), in one question. `some`: they are few, and the
    question is about them alone."""
    promised = [spec for spec in specs if spec.objectives.delivery]
    if not promised:
        return []
    windows = windows_of(promised)
    found = store.burning(now, windows, [spec.flow for spec in promised] if some else None)
    return [delivery(spec, found.get(spec.flow), windows, now) for spec in promised]


def windows_of(specs: Iterable[FlowSpec]) -> list[int]:
    """The windows that burn rates need, and those of delivery objectives, in seconds."""
    own = {promise.window // SECOND for spec in specs if (promise := spec.objectives.delivery)}
    return [*WINDOWS, *sorted(own - set(WINDOWS))]


def delivery(spec: FlowSpec, found: Burning | None, windows: Sequence[int], now: int) -> Standing:
    """The delivery objective of a flow from what was found in these windows."""
    promise = spec.objectives.delivery
    assert promise is not None
    window = promise.window // SECOND
    one = Standing(
        flow=spec.flow,
        owner=spec.owner,
        objective="delivery",
        unit="share",
        target=promise.target,
        value=None,
        window=window,
        status=Status.unknown,
        burn_rates=dict.fromkeys(WINDOWS, 0.0),
    )
    if found is None:
        return one
    age, n = now // SECOND - found.since, windows.index(window)
    rates = {
        w: burn_rate(found.good[i], found.bad[i], promise.target, w, age) for i, w in enumerate(windows) if w in WINDOWS
    }
    kept = ratio(found.good[n], found.bad[n])
    if kept is None:
        status = Status.unknown
    elif kept < promise.target:
        status = Status.broken
    else:
        status = Status.burning if burning(rates) else Status.kept
    left = budget_left(found.good[n], found.bad[n], promise.target)
    counts = {name: getattr(found, name)[n] for name in COUNTED}
    return msgspec.structs.replace(one, value=kept, status=status, budget_left=left, burn_rates=rates, **counts)


def dated(store: Store, standing: Standing, now: int) -> Standing:
    """With the moment since when a delivery objective is broken, to the hour, or burns, to the minute: when the first
    bad message of the longest window that burns was settled."""
    at, since = now // SECOND, None
    if standing.objective == "delivery" and standing.status is Status.broken:
        start = max(at - 2 * standing.window, 0)
        counts = store.settled_between([standing.flow], start, at + 1, HOUR)
        steps = [(one.start, one.good, one.bad) for one in counts]
        since = broken_since(steps, standing.target, standing.window, at)
    elif standing.status is Status.burning:
        longest = max(pair.long for pair in burning(standing.burn_rates))
        counts = store.settled_between([standing.flow], at - longest, at + 1, 60)
        since = next((one.start for one in counts if one.bad), None)
    return msgspec.structs.replace(standing, since=since)


class Told:
    """What the store tells of some flows at `now`, µs; each question is asked once for all of them."""

    def __init__(self, store: Store, flows: Sequence[str], now: int) -> None:
        self._store, self._flows, self._now, self._at = store, flows, now, now // SECOND
        self._took: dict[int, dict[str, list[Took]]] = {}
        self._counts: dict[int, dict[str, Counts]] = {}

    def took(self, flow: str, window: int) -> Sequence[Took]:
        """How long messages took that became complete in the last `window` µs."""
        if window not in self._took:
            found = self._took[window] = {}
            for one in self._store.took(self._at - window // SECOND, self._at + 1, self._flows):
                found.setdefault(one.flow, []).append(one)
        return self._took[window].get(flow, ())

    def counts(self, flow: str, window: int) -> Counts | None:
        """What was counted in the last `window` µs; None when nothing was."""
        if window not in self._counts:
            start, end = self._at - window // SECOND, self._at + 1
            found = self._store.settled_between(self._flows, start, end, end)
            self._counts[window] = {one.flow: one for one in found}
        return self._counts[window].get(flow)

    def burning(self, flow: str) -> Burning | None:
        """What is so now."""
        return self._burning.get(flow)

    @cached_property
    def _burning(self) -> Mapping[str, Burning]:
        return self._store.burning(self._now, WINDOWS, self._flows)


def others(told: Told, spec: FlowSpec, coverage: float | None, now: int) -> list[Standing]:
    """The objectives of a flow but for delivery and recovery. `coverage`: the share of the time, over the window
    promised, that is vouched for, where that is promised."""
    promises = spec.objectives
    found: list[Standing] = []

    def add(objective: str, unit: str, target: float, value: float | None, window: int, kept: bool) -> None:
        status = Status.unknown if value is None else Status.kept if kept else Status.broken
        found.append(Standing(flow=spec.flow, owner=spec.owner, objective=objective, unit=unit, target=target,
                              value=value, window=window, status=status))  # fmt: skip

    for name, promise in (("latency", promises.latency), ("replication", promises.replication)):
        if promise:
            took = told.took(spec.flow, promise.window)
            for quantile, target, value in _quantiles(promise, took, name):
                add(f"{name}_{quantile}", "seconds", target, value, promise.window // SECOND, (value or 0) <= target)
    for name, limit in (("duplication", promises.duplication), ("divergence", promises.divergence)):
        if limit:
            counts = told.counts(spec.flow, limit.window)
            part = share(counts, name) if counts else None
            add(name, "share", limit.at_most, part, limit.window // SECOND, (part or 0) <= limit.at_most)
    if promises.coverage:
        target = promises.coverage.target
        add("coverage", "share", target, coverage, promises.coverage.window // SECOND, (coverage or 0) >= target)
    if promises.freshness:
        age, within = freshness(told.burning(spec.flow), now), promises.freshness.within / SECOND
        add("freshness", "seconds", within, age, 0, (age or 0) <= within)
    if promises.throughput:
        rate, least = throughput(told.burning(spec.flow)), promises.throughput.at_least
        add("throughput", "per_second", least, rate, TROUGH, rate >= least)
    return found


def recoveries(store: Store, spec: FlowSpec, now: int) -> list[Standing]:
    """The recovery objective of a flow: how soon what was missing in the last day is back; infinite where too much was
    given up."""
    if spec.objectives.recovery is None:
        return []
    rows = store.recovery("flow", now - PERIOD, now + 1, now, flow=spec.flow)
    row = rows[0] if rows else None
    kept = promises(spec.objectives.recovery, row.back, row.counted) if row else []
    stands = {one.name: one for one in kept}
    found = []
    for name in PERCENTILES:
        target: int | None = getattr(spec.objectives.recovery, name)
        if target is None:
            continue
        one = stands.get(name)
        value = None if one is None else math.inf if one.stands is None else one.stands / SECOND
        status = Status.unknown if one is None else Status.kept if one.met else Status.broken
        found.append(Standing(flow=spec.flow, owner=spec.owner, objective=f"recovery_{name}", unit="seconds",
                              target=target / SECOND, value=value, window=PERIOD // SECOND, status=status))  # fmt: skip
    return found


def freshness(found: Burning | None, now: int) -> float | None:
    """How long ago the newest message that arrived was made, seconds; None when none did in the last days."""
    return max(now - found.newest, 0) / SECOND if found and found.newest else None


def throughput(found: Burning | None) -> float:
    """New messages per second."""
    return found.begun / TROUGH if found else 0.0


def _quantiles(promise: Latency, took: Sequence[Took], name: str) -> Iterable[tuple[str, float, float | None]]:
    """(which, promised, slowest found) of each that is promised, seconds."""
    mine = [t.took for t in took if (t.stage == "replicate" if name == "replication" else not t.hop)]
    for n, quantile in enumerate(QUANTILES):
        target: int | None = getattr(promise, quantile)
        if target is not None:
            yield quantile, target / SECOND, max((one[n] for one in mine), default=None)


def share(counts: Counts, name: str) -> float | None:
    """Messages that were found `duplicated` or `diverged` / messages that were settled; None when none were."""
    which: Mapping[str, int] = {"duplication": counts.duplicated, "divergence": counts.diverged}
    settled = counts.good + counts.bad
    return which[name] / settled if settled else None
