"""Small worlds for tests: one flow of four checkpoints, watched every two seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracker.simulate.scenario import Scenario
from tracker.simulate.truth import Truth, truth
from tracker.simulate.watchers import watchers
from tracker.simulate.world import NEVER, T0, Bools, World

PRODUCE, PERSIST, REPLICATE, ACK = range(4)
FLOW: dict[str, Any] = {
    "flow": "orders",
    "checkpoints": [
        {"hop": "checkout", "stage": "produce"},
        {"hop": "kafka-eu", "stage": "persist", "after": "checkout", "within": "5s"},
        {"hop": "kafka-us", "stage": "replicate", "after": "kafka-eu", "within": "10s", "same_payload": True},
        {"hop": "billing", "stage": "ack", "after": "kafka-eu", "within": "20s", "at_most": 1},
    ],
}
SECOND = 1_000_000


def scenario(*faults: dict[str, Any], **more: Any) -> Scenario:
    """200 messages in 30 s, looked at until two minutes."""
    plain = {"name": "small", "about": "a test", "flow": FLOW, "messages": 200, "over": "30s", "until": "2m"}
    return Scenario.model_validate({**plain, **more, "faults": faults})


def world(*faults: dict[str, Any], seed: int = 1, **more: Any) -> World:
    """The world of `scenario`."""
    return World(scenario(*faults, **more), seed)


def settled(made: World, at: int | None = None) -> Truth:
    """The truth at the end, or `at` µs after the beginning."""
    return truth(made, watchers(made), T0 + (made.scenario.until if at is None else at))


def stopped(made: World, place: int) -> Bools:
    """Who passed all before a place, and never that place."""
    before = made.route.places[place].after
    ready = np.all([made.at[a] < NEVER for a in before], axis=0) if before else np.ones(made.count, dtype=bool)
    return np.asarray(ready & (made.at[place] == NEVER))


def those(told: Truth, verdict: str) -> Bools:
    """Who has this verdict."""
    return np.asarray(told.heard & (told.verdict == verdict))
