"""A coordinator that is on the move is asked again; every other refusal comes out at once.

The driver is stood in for here: a real cluster moves a coordinator when it likes, not when a test does.
"""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from collectors.errors import ConfigInvalid, Unavailable
from collectors.kafka.positions import Committed, commit, committed

SLOT = ("orders", 0)


class Answers:
    """Raises these codes, one a call, and then answers."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """As `Consumer.committed`."""
        self._answer()
        return [TopicPartition(place.topic, place.partition, 7, metadata="note") for place in wanted]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        """As `Consumer.commit`."""
        self._answer()
        return offsets

    def _answer(self) -> None:
        self.asked += 1
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))


def test_asked_again_while_it_moves() -> None:
    """The first request of a new group meets a coordinator that is not there yet."""
    driver: Any = Answers(KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    assert committed(driver, "group g", [SLOT]) == {SLOT: Committed(7, "note")}
    assert driver.asked == 3
    driver = Answers(KafkaError.COORDINATOR_NOT_AVAILABLE)
    assert commit(driver, "group g", {SLOT: Committed(8)}) == {SLOT}
    assert driver.asked == 2


@pytest.mark.parametrize(
    ("code", "ours"), [(KafkaError._TRANSPORT, Unavailable), (KafkaError.GROUP_AUTHORIZATION_FAILED, ConfigInvalid)]
)
def test_other_refusals_at_once(code: int, ours: type[Exception]) -> None:
    """They are for the caller, who knows how long to wait."""
    driver: Any = Answers(code)
    with pytest.raises(ours, match="group g"):
        committed(driver, "group g", [SLOT])
    assert driver.asked == 1
