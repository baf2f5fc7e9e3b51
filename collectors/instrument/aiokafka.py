"""Instrumentation of aiokafka: produce when the brokers confirm, deliver, and an ack per message.

    producer = instrument.producer(AIOKafkaProducer(...), observer)
    consumer = instrument.consumer(AIOKafkaConsumer(...), observer)

A Kafka commit is an offset: it says "moved past", of any number of records, processed or not, so a commit of any kind
acknowledges nothing. An ack is what the application says of a *message*: `consumer.ack(record)`, before it commits. The
observation is then in the spool before the broker is told, by a copy into memory on the event loop: nothing here awaits
but what the application awaits anyway.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition

from collectors.instrument.aiokafka_producer import ObservedProducer
from collectors.instrument.observe import Observer
from tracker.model.event import Stage


def producer(
    producer: AIOKafkaProducer, observer: Observer, *, topics: Collection[str] | None = None, keys: bool = False
) -> ObservedProducer:
    """The same producer, observed: use it in place of the one given. Only `topics` are observed (None: all); with
    `keys` record keys (bytes or text) are sent to the tracker, which keeps a keyed hash of them."""
    return ObservedProducer(producer, observer, topics, keys)


def consumer(
    consumer: AIOKafkaConsumer, observer: Observer, *, topics: Collection[str] | None = None, keys: bool = False
) -> ObservedConsumer:
    """The same consumer, observed: use it in place of the one given, before it is started. `topics`, `keys`: as for
    `producer`."""
    return ObservedConsumer(consumer, observer, topics, keys)


class ObservedConsumer:
    """An `AIOKafkaConsumer` whose deliveries and acks are observed; all that is not here is the consumer's own.

    A record that is handed over again, after a rebalance or a `seek`, is another delivery: its session differs.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, observer: Observer, topics: Collection[str] | None, keys: bool
    ) -> None:
        self._consumer, self._observer, self._topics, self._keys = consumer, observer, topics, keys
        self._group = getattr(consumer, "_group_id", None) or ""
        self._deserializes = getattr(consumer, "_value_deserializer", None) is not None
        self._client = uuid.uuid4().hex[:12]
        self._began = 0
        self._sessions: dict[tuple[str, int], str] = {}
        if self._group and (named := consumer.subscription()):  # in the constructor, which takes no listener
            self.subscribe(list(named))

    def __getattr__(self, name: str) -> Any:
        """Everything else: the consumer's own."""
        return getattr(self._consumer, name)

    async def __aenter__(self) -> ObservedConsumer:
        """As the consumer: starts it."""
        await self._consumer.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        """As the consumer: stops it."""
        return await self._consumer.__aexit__(*raised)

    def __aiter__(self) -> ObservedConsumer:
        """As the consumer."""
        self._consumer.__aiter__()
        return self

    async def __anext__(self) -> Any:
        """As the consumer; records `deliver`."""
        record = await self._consumer.__anext__()
        self._delivered(record)
        return record

    async def getone(self, *partitions: TopicPartition) -> Any:
        """As the consumer; records `deliver`."""
        record = await self._consumer.getone(*partitions)
        self._delivered(record)
        return record

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, list[Any]]:
        """As the consumer; records `deliver` for each."""
        found: dict[TopicPartition, list[Any]] = await self._consumer.getmany(*partitions, **options)
        for records in found.values():
            for record in records:
                self._delivered(record)
        return found

    def ack(self, record: Any) -> bool:
        """The application has processed this record. Call it before the offset is committed. Never raises, never
        waits; whether the observation was taken."""
        return self._record(Stage.ack, record)

    def nack(self, record: Any, reason: str) -> bool:
        """The application could not process this record. As `ack`."""
        return self._record(Stage.nack, record, reason)

    def dead_letter(self, record: Any, reason: str) -> bool:
        """The application parked this record; `reason="retry"` for a retry topic. As `ack`."""
        return self._record(Stage.dead_letter, record, reason)

    def subscribe(self, topics: Any = (), pattern: str | None = None, listener: Any = None) -> None:
        """As the consumer."""
        if listener is None or isinstance(listener, ConsumerRebalanceListener):
            listener = _Listener(self, listener)
        self._consumer.subscribe(topics, pattern, listener)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """As the consumer."""
        partitions = list(partitions)
        self.begin(partitions)
        self._consumer.assign(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """As the consumer: what is read again is delivered again."""
        self.begin([partition])
        self._consumer.seek(partition, offset)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> Any:
        """As `seek`."""
        self.begin(partitions or self._consumer.assignment())
        return await self._consumer.seek_to_beginning(*partitions)

    async def seek_to_end(self, *partitions: TopicPartition) -> Any:
        """As `seek`."""
        self.begin(partitions or self._consumer.assignment())
        return await self._consumer.seek_to_end(*partitions)

    async def seek_to_committed(self, *partitions: TopicPartition) -> Any:
        """As `seek`."""
        self.begin(partitions or self._consumer.assignment())
        return await self._consumer.seek_to_committed(*partitions)

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """What is delivered of these from now on is another hand-over than what was delivered before."""
        try:
            self._began += 1
            # The library shows a member's id and generation nowhere else; without them it is the client's own session.
            coordinator = getattr(self._consumer, "_coordinator", None)
            member, generation = getattr(coordinator, "member_id", ""), getattr(coordinator, "generation", "")
            session = f"{member}-{generation}.{self._began}" if member else f"{self._client}.{self._began}"
            self._sessions |= {(place.topic, place.partition): session for place in partitions}
        except Exception:  # noqa: BLE001 - the boundary to somebody's application: an older session is still a session
            self._observer.counts.errors += 1

    def _delivered(self, record: Any) -> None:
        if self._watches(record):
            # The session that it was delivered in, for its ack may come when another one has begun.
            session = self._sessions.get((record.topic, record.partition), self._client)
            record._handed = shared = self._shared(record, session)
            self._observer.tell(Stage.deliver, shared)

    def _record(self, stage: Stage, record: Any, reason: str = "") -> bool:
        if not self._watches(record):
            return False
        try:
            shared = record._handed
        except AttributeError:  # it was taken before this consumer was observed
            shared = self._shared(record, self._client)
        return self._observer.tell(stage, shared, reason=reason)

    def _watches(self, record: Any) -> bool:
        return self._topics is None or record.topic in self._topics

    def _shared(self, record: Any, session: str) -> bytes | None:
        try:
            return self._observer.share(
                record.headers,
                record.value,
                partition=f"{record.topic}/{record.partition}",
                offset=record.offset,
                group=self._group,
                session=session,
                key=record.key if self._keys and isinstance(record.key, bytes | str) else None,
                # A value that a deserializer made is not what was on the wire.
                digest="" if self._deserializes else None,
                size=max(0, record.serialized_value_size),
            )
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            return None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """The application's listener, if it has one, behind ours."""

    def __init__(self, consumer: ObservedConsumer, listener: ConsumerRebalanceListener | None) -> None:
        self._consumer, self._listener = consumer, listener

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Nothing of ours: their session goes on until they are assigned again."""
        if self._listener is not None:
            await _done(self._listener.on_partitions_revoked(revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Another session begins."""
        self._consumer.begin(assigned)
        if self._listener is not None:
            await _done(self._listener.on_partitions_assigned(assigned))


async def _done(answer: Any) -> None:
    if asyncio.iscoroutine(answer):
        await answer
