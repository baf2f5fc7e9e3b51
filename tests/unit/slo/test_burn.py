"""Error budgets and burn rates as the workbook has them, and what is ours: little traffic, and new flows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.slo.burn import DAY, HOUR, LONG, PAIRS, WINDOWS, broken_since, budget_left, burn_rate, burning, ratio

counts = st.integers(0, 10**9)
targets = st.floats(0.5, 0.99999)


def test_the_pairs_of_the_workbook() -> None:
    """Each uses up the share of a budget of 30 days that the workbook's table names, in its long window; the third
    pair, which others add, as much in a day."""
    spent = [round(pair.rate * pair.long / (30 * DAY), 3) for pair in PAIRS]
    assert spent == [0.02, 0.05, 0.1, 0.1]
    assert [pair.long // pair.short for pair in PAIRS] == [12] * 4


def test_a_rate_of_one_uses_up_the_budget() -> None:
    """One bad message of a thousand where 99.9 % are promised."""
    assert burn_rate(999_000, 1_000, 0.999, HOUR) == pytest.approx(1)
    assert budget_left(999_000, 1_000, 0.999) == pytest.approx(0)
    assert budget_left(999_500, 500, 0.999) == pytest.approx(0.5)
    assert budget_left(0, 0, 0.999) is None
    assert budget_left(10, 0, 1.0) == 1
    assert budget_left(10, 1, 1.0) == -math.inf


@given(counts, counts, targets, st.sampled_from(WINDOWS))
def test_more_bad_messages_never_burn_slower(good: int, bad: int, target: float, window: int) -> None:
    """Nor do more good ones burn faster."""
    rate = burn_rate(good, bad, target, window)
    assert burn_rate(good, bad + 1, target, window) >= rate
    assert burn_rate(good + 1, bad, target, window) <= rate


@given(st.integers(0, 998), st.integers(0, 30))
def test_with_little_traffic_it_is_the_number_of_bad_messages(good: int, bad: int) -> None:
    """In a long window of fewer messages than have one bad one among them by the target: one alone wakes nobody."""
    for pair in PAIRS:
        if good + bad <= 1000:
            assert burn_rate(good, bad, 0.999, pair.long) == pytest.approx(bad)
    rates = {window: burn_rate(good, 1, 0.999, window) for window in WINDOWS}
    assert burning(rates) == []


def test_how_many_page_where_there_is_little_traffic() -> None:
    """15 in an hour, or 7 in six hours; 4 in a day or 2 in three days are a ticket. A short window needs one."""
    for pair, needed in zip(PAIRS, (15, 7, 4, 2), strict=True):
        for bad, fires in ((needed - 1, False), (needed, True)):
            rates = dict.fromkeys(WINDOWS, 0.0)
            rates |= {pair.long: burn_rate(80, bad, 0.999, pair.long), pair.short: 50.0}
            assert (pair in burning(rates)) is fires


def test_a_new_flow_has_a_past_without_errors() -> None:
    """Its first message failing is not a burning budget of three days."""
    assert burn_rate(0, 1, 0.9, 3 * DAY, age=10) < 0.001
    assert burn_rate(0, 1000, 0.999, HOUR, age=60) == pytest.approx(1000 / 60)
    assert burn_rate(0, 1000, 0.999, HOUR, age=2 * HOUR) == burn_rate(0, 1000, 0.999, HOUR)


def test_all_of_them_have_no_budget() -> None:
    """One bad message where 100 % are promised."""
    assert burn_rate(10**6, 1, 1.0, HOUR) == math.inf
    assert burn_rate(10**6, 0, 1.0, HOUR) == 0


def test_the_most_urgent_comes_first() -> None:
    """Only pairs of which both windows burn; no other where the short ones have stopped."""
    assert burning(dict.fromkeys(WINDOWS, 20.0)) == list(PAIRS)
    assert burning({window: 20.0 if window in LONG else 0.0 for window in WINDOWS}) == [PAIRS[3]]  # 6h is both
    assert ratio(0, 0) is None


def test_since_when_a_promise_is_broken() -> None:
    """Since it has been without a break: what was broken before and kept again does not count, and neither does what
    has left the window."""
    bad, fine = (80, 20), (100, 0)
    hours = [bad, fine, fine, bad, fine]
    steps = [(n * HOUR, *hour) for n, hour in enumerate(hours)]
    assert broken_since(steps, 0.95, 2 * HOUR, 5 * HOUR) == 3 * HOUR
    assert broken_since(steps, 0.95, HOUR, 5 * HOUR) is None
    assert broken_since(steps, 0.85, 2 * HOUR, 5 * HOUR) is None
    assert broken_since([], 0.9, HOUR, HOUR) is None
    assert broken_since([(0, 0, 5)], 0.9, HOUR, 90 * HOUR) is None
