"""`Consumers`, where the driver is not ready yet: a moment that no real broker brings about when asked to."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from collectors.kafka import consumers
from collectors.kafka.consumers import Consumers


class Driver:
    """Refuses a seek so many times, with this code."""

    def __init__(self, refuses: int, code: int) -> None:
        self.refuses, self.code, self.sought = refuses, code, 0

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        """Taken."""

    def seek(self, place: TopicPartition) -> None:
        """Refused at first."""
        self.sought += 1
        if self.sought <= self.refuses:
            raise KafkaException(KafkaError(self.code))


def seeking(driver: Any) -> None:
    """Assign a partition and seek in it."""
    place, both = TopicPartition("orders", 0, 5), Consumers(lambda of: driver)
    both.incremental_assign([place])
    both.seek(place)


def test_a_seek_waits_until_what_was_assigned_is_ready() -> None:
    """`_STATE` is said until the assignment took effect."""
    driver = Driver(3, KafkaError._STATE)
    seeking(driver)
    assert driver.sought == 4


def test_any_other_refusal_is_said_at_once() -> None:
    """Nothing is asked twice in vain."""
    driver = Driver(1, KafkaError._UNKNOWN_PARTITION)
    with pytest.raises(KafkaException):
        seeking(driver)
    assert driver.sought == 1


def test_one_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bound, with the driver's own words."""
    retrying: Any = consumers.Consumers.seek
    monkeypatch.setattr(retrying.retry, "stop", lambda state: state.attempt_number >= 3)
    driver = Driver(99, KafkaError._STATE)
    with pytest.raises(KafkaException):
        seeking(driver)
    assert driver.sought == 3
