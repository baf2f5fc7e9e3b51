"""The threads that a tracker runs."""

from __future__ import annotations

import threading

import pytest

from tracker.cli import compose
from tracker.cli.compose import Worker
from tracker.slo.metrics import Metrics


def test_a_worker_that_fails_goes_on_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that it is begun again counts; the count is there from the beginning, or its growth were not seen."""
    monkeypatch.setattr(compose, "AGAIN", 0.0)
    metrics, troubles, going, shown = Metrics(), [1, 2, 3], threading.Event(), []

    def loop(stop: threading.Event) -> None:
        shown.append(metrics.registry.get_sample_value("tracker_worker_restarts_total", {"thread": "reconcile"}))
        if troubles:
            raise ZeroDivisionError(troubles.pop())
        going.set()
        stop.wait(10)

    worker = Worker("reconcile", loop, metrics)
    assert going.wait(10)
    assert worker.alive()
    worker.close()
    assert shown == [0.0, 1.0, 2.0, 3.0]
