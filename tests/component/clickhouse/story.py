"""A small ledger in which something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND

SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: kafka-eu, within: 10s}
"""


@dataclass
class World:
    """An installation in which 1 of 20 messages never reached the log, 1 was never acknowledged, 1 came back."""

    installation: Installation
    start: int


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twenty messages: m-3 is lost before the log, m-7 unacknowledged, m-9 recovered by itself after its deadline."""
    made = Installation(tmp_path_factory.mktemp("panels"))
    story = World(made, made.now)
    made.put(SPEC)
    _vouch(made)
    made.now += SECOND
    made.observe(_event(made, n, "checkout", Stage.produce) for n in range(20))
    made.observe(_event(made, n, "kafka-eu", Stage.persist) for n in range(20) if n != 3)
    made.observe(_event(made, n, "billing", Stage.ack) for n in range(20) if n not in (3, 7, 9))
    for _ in range(20):
        made.now += SECOND
        _vouch(made)
        made.run_pass()
    made.observe([_event(made, 9, "billing", Stage.ack)])
    made.now += SECOND
    _vouch(made)
    made.run_pass()
    yield story
    made.close()


def _event(made: Installation, number: int, hop: str, stage: Stage) -> Event:
    return Event(flow="orders", message_id=f"m-{number}", hop=hop, stage=stage, observed_at=made.now)


def _vouch(made: Installation) -> None:
    places = (("checkout", "produce"), ("kafka-eu", "persist"), ("billing", "ack"))
    made.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in places], lag_ms=0)
