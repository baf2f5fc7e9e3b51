from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from tracker.anomalies.baseline import Baseline, compared, noise, shown
from tracker.store.anomalies import HOUR, Season

END = 1_800_000_000


def season(seasonal: list[float], short: float = 0, long: float = 0) -> Season:
    """What is usual of a flow with this season."""
    return Season("orders", "", "", 1000, len(seasonal), seasonal, long, short, 0.1)


def test_what_is_usual_goes_in_a_line_and_hour_by_hour() -> None:
    """The season of the hour, its line from the middle of one hour to that of the next, and both levels beside it."""
    usual = Baseline(season([float(n) for n in range(24)], short=100, long=200), END, 0, 1)
    found = usual.expected(END + np.array([0, HOUR // 2 - 30, HOUR - 60, 24 * HOUR + HOUR // 2 - 30]))
    assert found[1].tolist() == [100, 100, 100, 100]
    assert found[3].tolist() == [200, 200, 200, 200]
    assert found[0][1] == 100
    assert found[0][3] == 100
    assert found[0][2] == pytest.approx(100.5, abs=0.01)
    assert found[0][0] == pytest.approx(100 + 11.5, abs=0.25), "between the last hour of the day and the first"


@given(some.sampled_from(["count", "share", "log"]), some.floats(0, 1))
def test_the_way_back_leads_back(scale: str, value: float) -> None:
    """What is compared can be shown again."""
    there = compared(scale, np.array([value]))  # type: ignore[arg-type]
    assert shown(scale, there)[0] == pytest.approx(value, abs=1e-9)  # type: ignore[arg-type]


@given(arrays(float, (1, 144), elements=some.floats(-1, 1)), some.integers(0, 100), some.floats(-50, 50))
def test_noise_knows_neither_level_nor_anomaly(values: np.ndarray, start: int, jump: float) -> None:
    """A level that is added changes nothing, and one deviation, however far and long, next to nothing."""
    before = noise(values)[0]
    assert noise(values + 7)[0] == pytest.approx(before, abs=1e-9)
    values = values.copy()
    values[:, start : start + 20] += jump
    steps = np.sort(np.abs(np.diff(values[0])))
    assert noise(values)[0] <= steps[73] * 1.4826 / np.sqrt(2) + 1e-9


def test_noise_of_what_is_not_there() -> None:
    """Where too few blocks are known, nothing is."""
    assert np.isnan(noise(np.full((1, 144), np.nan))[0])


def test_noise_is_the_standard_deviation() -> None:
    """Of blocks that vary by chance."""
    values = np.random.default_rng(3).normal(5, 0.2, (200, 144))
    assert np.median(noise(values)) == pytest.approx(0.2, rel=0.1)
