"""The alert that always fires: whoever hears of it no more knows that nobody is told of anything."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.alerting.alert import ITSELF, Alert

NAME = "Watchdog"

WATCHDOG: Sequence[Alert] = (
    Alert(
        NAME,
        "vector(1)",
        "0s",
        "none",
        "watchdog",
        "Prometheus evaluates the tracker's rules, and Alertmanager tells of it",
        "This always fires. When a dead man's switch hears of it no more, Prometheus, Alertmanager or the way to it is "
        "down, and nobody would be told of a loss.",
        board=ITSELF,
    ),
)
