from __future__ import annotations

import pytest

from tracker.anomalies.signals import SIGNALS
from tracker.api.unusual import unusual
from tracker.store.anomalies import Anomaly


def one(signal: str = "latency", **more: object) -> Anomaly:
    """An anomaly of an hour's age."""
    given = {"flow": "orders", "hop": "billing", "stage": "ack", "signal": signal, "direction": "high", "since": 0,
             "opened_at": 300, "last_at": 3600, "until": 0, "ended_by": "", "expected": 0.2, "came": 0.95,
             "distance": 7.5, "baseline": "hour_of_week"}  # fmt: skip
    return Anomaly(**(given | more))  # type: ignore[arg-type]


def test_it_says_what_was_expected_what_came_and_since_when() -> None:
    """In a sentence; and until when, once it is over."""
    assert unusual(one()).why == (
        "orders, billing:ack: latency is high since 1970-01-01T00:00:00.000000Z: about 0.2 s expected "
        "(by hour of week), 0.95 s came"
    )
    over = unusual(one("loss", until=3600, ended_by="usual"))
    assert "until 1970-01-01T01:00:00.000000Z: about 20 % expected" in over.why
    whole = unusual(one("volume", hop="", stage="", direction="low", expected=100.0, came=3.5))
    assert whole.why.startswith("orders: volume is low since")
    assert "about 100 messages a minute expected" in whole.why


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_every_signal_has_a_unit(signal: object) -> None:
    """That the answer names, and none leaves it open."""
    answer = unusual(one(signal.name)).model_dump(mode="json")  # type: ignore[attr-defined]
    assert answer["unit"] in ("messages_per_minute", "seconds", "share")
    assert answer["until"] is None
