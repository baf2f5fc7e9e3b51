"""How objectives stand over a real ledger: from events to budgets, gauges and reports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.store.test_crash import ACK, says, whole
from tests.store.test_settled import HOPS, Told, took_as_long
from tests.world.installation import Installation
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.slo import gauges, metrics
from tracker.slo import standing as slo
from tracker.slo.standing import Standing, Status, dated, deliveries, others, recoveries

PROMISES = """
objectives:
  delivery: {{target: 99%, window: 30d}}
  latency: {{p50: 4s, p99: 5s, window: 1h}}
  replication: {{p95: 1s, window: 1h}}
  duplication: {{at_most: 0%, window: 1d}}
  divergence: {{at_most: 1%, window: 1d}}
  freshness: {{within: 30s}}
  throughput: {{at_least: 0.5/s}}
  recovery: {{p50: 5s, p90: 15m}}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Two hundred messages, of which ten are never acknowledged and one is acknowledged twice."""
    world = Installation(tmp_path_factory.mktemp("standing"))
    told = Told(world, "orders", PROMISES)
    events = [one for n in range(190) for one in took_as_long(f"m{n}", 1 + n / 50)]
    missing = [one for n in range(10) for one in whole(f"u{n}")[:3]]
    told.passed(10, *events, *missing, says("m0", ACK, 9, delivery="again"))
    told.passed(60)
    yield told
    world.close()


def standing(told: Told) -> dict[str, Standing]:
    """Every objective, by name."""
    spec, now = load_spec(told.text), told.world.now
    [one] = deliveries(told.store, [spec], now, some=True)
    asked = slo.Told(told.store, [spec.flow], now)
    return {s.objective: s for s in [dated(told.store, one, now), *others(asked, spec, None, now),
                                   *recoveries(told.store, spec, now + 60 * SECOND)]}  # fmt: skip


def test_delivery(told: Told) -> None:
    """Ten of two hundred are bad where two may be; broken since the hour in which they were settled."""
    one = standing(told)["delivery"]
    assert (one.good, one.bad, one.value, one.status, one.met) == (190, 10, 0.95, Status.broken, False)
    assert one.budget_left == pytest.approx(1 - 10 / 2)
    assert one.since == told.base // SECOND
    assert one.burn_rates[300] == pytest.approx(5 * 50 / 300)  # the flow is 50 s old
    spec = load_spec(told.text)
    assert deliveries(told.store, [spec], told.world.now) == deliveries(told.store, [spec], told.world.now, some=True)


def test_the_others(told: Told) -> None:
    """Each in its unit, against what was promised."""
    found = {name: (one.unit, one.status) for name, one in standing(told).items() if name != "delivery"}
    assert found == {
        "latency_p50": ("seconds", Status.kept), "latency_p99": ("seconds", Status.broken),
        "replication_p95": ("seconds", Status.kept), "duplication": ("share", Status.broken),
        "divergence": ("share", Status.kept), "freshness": ("seconds", Status.broken),
        "throughput": ("per_second", Status.kept), "recovery_p50": ("seconds", Status.broken),
        "recovery_p90": ("seconds", Status.kept),
    }  # fmt: skip
    values = {name: one.value for name, one in standing(told).items()}
    exact = np.quantile([2 + n / 50 for n in range(190)], [0.5, 0.99], method="lower")
    assert [values["latency_p50"], values["latency_p99"]] == pytest.approx(list(exact), rel=0.011)
    assert values["duplication"] == 1 / 200
    assert values["freshness"] == 60
    assert values["recovery_p50"] == values["recovery_p90"] == 60  # none of the ten is back
    assert values["throughput"] == pytest.approx(200 / 300)


def test_nothing_is_said_of_a_flow_without_messages(told: Told) -> None:
    """Neither kept nor broken."""
    silent = load_spec(told.text.replace("flow: orders", "flow: silent"))
    now = told.world.now
    asked = slo.Told(told.store, [silent.flow], now)
    every = [*deliveries(told.store, [silent], now), *others(asked, silent, None, now),
             *recoveries(told.store, silent, now)]  # fmt: skip
    assert {one.objective: one.met for one in every if one.met is not None} == {"throughput": False}


def test_gauges(told: Told) -> None:
    """What Prometheus compares: of flows that promise delivery; latencies and throughput of all."""
    now, spec = told.world.now, load_spec(told.text)
    plain = load_spec(told.text.partition("objectives:")[0].replace("flow: orders", "flow: silent"))
    shown = gauges.deliveries(told.store, [spec, plain], now)
    assert shown[metrics.DELIVERY_RATIO] == {("orders",): 0.95}
    assert shown[metrics.BURN_RATE]["orders", "5m"] == pytest.approx(5 * 50 / 300)
    assert len(shown[metrics.BURN_RATE]) == 7
    assert shown[metrics.THROUGHPUT] == {("orders",): pytest.approx(200 / 300), ("silent",): 0}
    assert shown[metrics.FRESHNESS] == {("orders",): 60}
    assert shown[metrics.CORRECTED] == {}
    latency, lag = gauges.took(told.store, {"orders"}, now)
    assert set(latency) == {("orders", "0.5"), ("orders", "0.95"), ("orders", "0.99")}
    assert lag == {("orders", "mirror"): pytest.approx(0.5, rel=0.01)}
    assert {hop for hop, _ in HOPS} >= {hop for _, hop in lag}
