"""The clocks of a collector."""

from __future__ import annotations

import time

import pytest

from collectors.clock import elapsed, steady


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="sleep is not counted here")
def test_a_host_that_slept_knows_how_long(monkeypatch):
    """What was read before it fell asleep is that much older when it wakes: nobody read meanwhile."""
    slept = 0
    real = time.clock_gettime_ns
    monkeypatch.setattr(time, "clock_gettime_ns", lambda which: real(which) + slept * (which == time.CLOCK_BOOTTIME))
    now, before = steady(), elapsed()
    mark = now()
    slept = 3600 * 10**9
    assert now() - mark >= 3600 * 10**6
    assert elapsed() - before >= 3600


def test_setting_the_time_moves_no_lag(monkeypatch):
    """It begins at the wall clock and is its own from then on."""
    now = steady()
    assert abs(now() - time.time_ns() // 1000) < 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert now() > 1_000_000 * 10**6
