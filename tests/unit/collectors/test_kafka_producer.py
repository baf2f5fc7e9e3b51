"""What an instrumented producer records, without a broker: delivery reports come when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from collectors.base import Lag
from collectors.clock import now_micros
from collectors.instrument.confluent_kafka_producer import ObservedProducer
from collectors.instrument.observe import Observer
from tracker.model.coverage import SourceRef
from tracker.model.event import Event


class Kept:
    """Takes events as an emitter does."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def emit_line(self, line: bytes) -> int:
        """Kept."""
        self.events.append(msgspec.json.decode(line, type=Event))
        return len(self.events)

    def vouch(self, sources: list[SourceRef], lag: Lag | None = None, at: int | None = None) -> None:
        """Nothing."""

    def sign_off(self, sources: list[SourceRef]) -> None:
        """Nothing."""


class Brokers:
    """A producer whose brokers answer late: `reports` holds what it will be told."""

    def __init__(self) -> None:
        self.reports: list[Callable[[], None]] = []

    def produce(self, topic: str, on_delivery: Callable[..., None], **sent: Any) -> None:
        """Accepted, not confirmed."""
        self.reports.append(lambda: on_delivery(None, Confirmed(topic, sent)))


class Confirmed:
    """A message in a delivery report."""

    def __init__(self, topic: str, sent: dict[str, Any]) -> None:
        self.topic, self.partition, self.offset = lambda: topic, lambda: 3, lambda: 17
        self.value, self.key = lambda: sent["value"], lambda: sent["key"]


def test_a_message_was_produced_when_it_was_handed_over() -> None:
    """A delivery report that comes late does not make the message younger than what others saw of it meanwhile."""
    kept, brokers = Kept(), Brokers()
    producer: Any = ObservedProducer(brokers, Observer(kept, "orders", "shop"), None, False)  # type: ignore[arg-type]
    began = now_micros()
    producer.produce("orders", b"1")
    handed_over = now_micros()
    assert kept.events == []
    while now_micros() <= handed_over:
        pass
    brokers.reports[0]()
    [event] = kept.events
    assert isinstance(event, Event)
    assert began <= event.observed_at <= handed_over
    assert (event.partition, event.offset) == ("orders/3", 17)
