"""Kafka: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import Field

from collectors.kafka.client import Cluster, driver_errors
from collectors.kafka.frontier import slot_of
from collectors.part import settings
from tracker.model.carry import PUBLISH_S, Copy, Locator, Sent

ANY_PARTITION = -1
LOOK = 0.1
"""After so many seconds without a confirmation it is asked whether a broker is there."""
ANSWERS_WITHIN = 0.5
"""Seconds in which one has to answer that: together with `LOOK`, a dead target is known within a second."""


class PublisherConfig(Cluster):
    """The `config` of a Kafka publisher. `timeout` (s): how long the brokers may take to confirm a batch,
    `PUBLISH_S` at most.
    `partition`: where a copy from another topic goes: to the one that Java's clients choose for its key, or, where this
    topic is a mirror's copy of that one, to the same number."""

    topic: str
    partition: Literal["key", "same"] = "key"
    timeout: float = Field(PUBLISH_S, gt=0)


def publisher(config: Mapping[str, Any]) -> KafkaPublisher:
    """A publisher as configured: `{url, topic, client, timeout}`. Raises `ConfigInvalid`."""
    return KafkaPublisher(settings(PublisherConfig, config, "Kafka publisher"))


class KafkaPublisher:
    """Sends copies to one topic, with their key, headers and value. Idempotent: a retry of the driver's own never
    doubles a message. A copy from the same topic goes to the partition where it was, or it would be overtaken there.

    Where no broker answers it does not wait for the timeout: whoever sends has to know at once.
    """

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._what = f"Kafka {config.servers}"
        self._timeout = min(config.timeout, PUBLISH_S)
        self._producer: Producer | None = self._connected()

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """Send all and wait until each was confirmed or refused; in the order given. Never raises for a single one:
        its `error` says why. One that was not confirmed in time may have arrived all the same, and says so."""
        answers: dict[int, Sent] = {}
        producer = self._producer = self._producer or self._connected()
        until = time.monotonic() + self._timeout + 1.0
        for index, copy in enumerate(copies):
            try:
                self._produce(producer, copy, partial(_settle, answers, index, copy.locator), until)
            except (KafkaException, ValueError, TypeError) as error:
                answers[index] = Sent(copy.locator, f"{self._what}, topic {self._config.topic}: {error}")
            except BufferError as error:
                why = f"not sent: {self._what}, topic {self._config.topic}: {error}"
                answers[index] = Sent(copy.locator, why, untried=True)
        doubt = f"not confirmed within {self._timeout:.0f} s: in doubt whether it arrived"
        known = len(answers)
        while producer.flush(LOOK) and time.monotonic() < until:
            if len(answers) == known and not self._answers(producer):
                doubt = f"{self._what}: no broker answers: in doubt whether it arrived"
                break
            known = len(answers)
        told = dict(answers)
        if len(told) < len(copies):
            self._abandon(producer)
        return [told.get(index) or Sent(copy.locator, doubt) for index, copy in enumerate(copies)]

    def close(self) -> None:
        """Nothing is left to send: every `publish` waited."""
        if self._producer is not None:
            with driver_errors(self._what):
                self._producer.close()

    def _connected(self) -> Producer:
        with driver_errors(self._what):
            return Producer(self._driver())

    def _abandon(self, producer: Producer) -> None:
        """What is not confirmed by now must not be sent later, by nobody's order: it is taken out of the driver, which
        then cannot go on with its sequence numbers. The next call begins with a new one."""
        producer.purge()
        producer.flush(LOOK)
        self._producer = None

    def _answers(self, producer: Producer) -> bool:
        """Whether a broker is there. What the driver tells by itself does not do: it tells once that it lost the last
        one, also when that was an idle connection."""
        try:
            producer.list_topics(self._config.topic, timeout=ANSWERS_WITHIN)
        except KafkaException:
            return False
        return True

    def _driver(self) -> dict[str, Any]:
        return self._config.driver(
            enable_idempotence=True,
            acks="all",
            message_timeout_ms=int(self._timeout * 1000),
            linger_ms=5,
            partitioner="murmur2_random",  # as Java's clients choose, or a key would change its partition
        )

    def _produce(
        self, producer: Producer, copy: Copy, settled: Callable[[KafkaError | None, Any], None], until: float
    ) -> None:
        slot = slot_of(copy.locator.partition)
        stays = slot and (self._config.partition == "same" or slot[0] == self._config.topic)
        number = slot[1] if slot and stays else ANY_PARTITION
        while True:
            try:
                headers: list[tuple[str, str | bytes | None]] = [*copy.headers.items()]
                producer.produce(self._config.topic, copy.value, copy.key, number, headers=headers, on_delivery=settled)
                break
            except BufferError:  # the driver's queue is full: wait for confirmations
                if time.monotonic() > until:
                    raise
                producer.poll(0.1)
        producer.poll(0)


def _settle(answers: dict[int, Sent], index: int, locator: Locator, error: KafkaError | None, message: Any) -> None:
    answers[index] = Sent(locator, "" if error is None else f"{error.str()} ({error.name()})")
