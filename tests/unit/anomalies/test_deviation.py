from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from tracker.anomalies.deviation import Series, Window, surprise, windows
from tracker.anomalies.signals import BY_NAME, SIGNALS, WINDOWS


def series(name: str, top: Any, weight: Any, usual: float, **more: Any) -> Series:
    """One series of a signal whose usual value, as it is compared, is the same all the time."""
    top, weight = np.atleast_2d(np.asarray(top, float)), np.atleast_2d(np.asarray(weight, float))
    given: dict[str, Any] = {"noise": 0.0, "block": 1.0, "spread": 0.0, "period": 168} | more
    arrays = {key: np.array([float(value)]) for key, value in given.items()}
    return Series(BY_NAME[name], top, weight, np.full((*top.shape, 4), usual), **arrays)


def seen(found: list[Window], minutes: int, direction: int) -> Window:
    """The window of this width and direction."""
    return next(one for one in found if (one.minutes, one.direction) == (minutes, direction))


def test_a_third_less_is_low() -> None:
    """Of 100 messages a minute, 66 for ten minutes: not within the first minute, but before the ten are over."""
    top = [100.0] * 60 + [66.0] * 10
    found = windows(series("volume", top, np.ones(70), np.log(100)))
    begins = np.array([window.begins[0] for window in found if window.direction < 0]).any(axis=0)
    assert not begins[:61].any()
    assert begins[69]
    ten = seen(found, 10, -1)
    assert ten.came[0, 69] == pytest.approx(66)
    assert ten.expected[0, 69] == pytest.approx(100, rel=0.01)
    assert not np.any([window.begins for window in found if window.direction > 0])


@pytest.mark.parametrize("came", [82, 100, 120])
def test_what_is_near_is_usual(came: float) -> None:
    """However certain it is: 100,000 messages instead of a usual 82 or 120 thousand are no anomaly."""
    found = windows(series("volume", np.full(60, came * 1000), np.ones(60), np.log(100_000)))
    assert not np.any([window.begins for window in found])


def test_few_messages_are_no_anomaly() -> None:
    """Two a minute and then none: a topic that small may be quiet for ten minutes. An hour of it is told."""
    top = [2.0] * 60 + [0.0] * 60
    found = windows(series("volume", top, np.ones(120), np.log(2)))
    assert not seen(found, 10, -1).begins.any()
    assert seen(found, 60, -1).begins[0, 119]


def test_noise_makes_a_flow_less_certain() -> None:
    """Of a flow whose blocks vary by half, a third less says nothing."""
    top = [1000.0] * 60 + [660.0] * 10
    assert not np.any(
        [w.begins for w in windows(series("volume", top, np.ones(70), np.log(1000), noise=0.5, block=9e3))]
    )
    assert not np.any([w.begins for w in windows(series("volume", top, np.ones(70), np.log(1000), spread=0.5))])


def test_without_a_season_it_has_to_be_further_off() -> None:
    """Half as much is told by a season of the week, not by a level."""
    top = np.full(60, 50.0)
    assert np.any([w.begins for w in windows(series("volume", top, np.ones(60), np.log(100)))])
    assert not np.any([w.begins for w in windows(series("volume", top, np.ones(60), np.log(100), period=1))])


def test_what_is_not_known_is_not_low() -> None:
    """Minutes that nobody watched weigh nothing; with too many of them nothing is said."""
    weight = np.array([1.0] * 60 + [0.0] * 10)
    found = windows(series("volume", weight * 100, weight, np.log(100)))
    assert not np.any([window.begins for window in found])
    assert np.isnan(seen(found, 10, -1).distance[0, 69])


def test_a_share_needs_messages_and_a_distance() -> None:
    """Three in a hundred lost where none is; not one in a hundred, and not one of three."""

    def begins(bad: float, of: float) -> bool:
        return bool(np.any([w.begins for w in windows(series("loss", np.full(60, bad), np.full(60, of), 0.0))]))

    assert begins(3, 100)
    assert not begins(1, 100)
    assert not begins(0.1, 0.3)


def test_latency_is_compared_by_factors() -> None:
    """A third more is high, a third less low; a millisecond more is too little to say so."""
    usual = np.log(200_000)
    for factor, way in ((1.4, 1), (0.65, -1)):
        top = np.full(60, 50 * (usual + np.log(factor)))
        found = windows(series("latency", top, np.full(60, 50), usual))
        assert seen(found, 10, way).begins[0, 30]
        assert seen(found, 10, way).came[0, 30] == pytest.approx(0.2 * factor)
        assert not seen(found, 10, -way).begins.any()
    short = np.log(2_000)
    found = windows(series("latency", np.full(60, 50 * (short + np.log(1.5))), np.full(60, 50), short))
    assert not np.any([window.begins for window in found])


def test_coverage_is_told_as_what_is_vouched_for() -> None:
    """Not as what is missing, which is what is compared."""
    found = windows(series("coverage", np.full(60, 60.0), np.full(60, 60.0), 0.0))
    assert seen(found, 5, 1).begins[0, 30]
    assert (seen(found, 5, 1).expected[0, 30], seen(found, 5, 1).came[0, 30]) == (1, 0)


def test_one_of_several_usual_values_suffices() -> None:
    """What one candidate expects is usual, whatever the others do."""
    one = series("volume", np.full(60, 50.0), np.ones(60), np.log(100))
    one.expected[:, :, 2] = np.log(50)
    assert not np.any([window.begins for window in windows(one)])


def tail(came: int, mean: float, beside: float) -> float:
    """How many standard deviations are as improbable as so many or more, where fewer are expected: or fewer; summed up
    from the probabilities of a Poisson, or negative binomial, distribution themselves."""
    up = came > mean

    def log_of(n: int) -> float:
        if not beside:
            return n * math.log(mean) - mean - math.lgamma(n + 1)
        k = 1 / beside
        log_choose = math.lgamma(n + k) - math.lgamma(n + 1) - math.lgamma(k)
        return log_choose + k * math.log(k / (k + mean)) + n * math.log(mean / (k + mean))

    span = range(came, came + 1000) if up else range(came + 1)
    away = NormalDist().inv_cdf(math.fsum(math.exp(log_of(n)) for n in span))
    return -away if up else away


@pytest.mark.parametrize("beside", [0.0, 0.003, 0.05])
@pytest.mark.parametrize("mean", [3, 30, 200, 2000])
def test_a_surprise_is_that_of_the_exact_distribution(mean: float, beside: float) -> None:
    """Within a twentieth of what it is, or a fifth of a usual distance, up and down."""
    deviation = math.sqrt(mean + beside * mean**2)
    for far in (-5, -4, -3, -2, 1.5, 2, 3, 4, 5, 6):
        came = max(round(mean + far * deviation), 0)
        exact, found = tail(came, mean, beside), float(surprise(*map(np.array, (float(came), mean, beside))))
        assert found == pytest.approx(exact, rel=0.05, abs=0.2), came


def test_a_few_of_what_never_happens_are_no_chance() -> None:
    """Six of 200 messages lost, where one in a thousand is: shares of so few are far from normal."""
    assert float(surprise(np.array(6.0), np.array(0.2), np.array(0.0))) > 5
    assert 2 * (math.sqrt(6) - math.sqrt(0.2)) < 4.1, "what their square roots say"


@pytest.mark.parametrize("name", [signal.name for signal in SIGNALS])
def test_what_begins_also_stays(name: str) -> None:
    """It takes less to stay than to begin."""
    random = np.random.default_rng(5)
    weight = random.integers(0, 200, (1, 500)).astype(float)
    top = weight * random.random((1, 500)) * (12 if name == "latency" else 1)
    for window in windows(series(name, top, weight, 0.3)):
        assert not (window.begins & ~window.stays).any()
    assert {w.minutes for w in windows(series(name, top, weight, 0.3))} == set(WINDOWS)
