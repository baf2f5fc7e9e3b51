"""Instrumentation of confluent-kafka: produce on the delivery report, deliver, and an ack per message.

    producer = instrument.producer(Producer(conf), observer)
    consumer = instrument.consumer(Consumer(conf), observer)

A Kafka commit is an offset: it says "moved past", of any number of records, processed or not. So only what the
application says of a *message* is an ack: `commit(message=m)`, `store_offsets(message=m)` or `consumer.ack(m)`.
`commit()`, `commit(offsets=...)` and automatic commits acknowledge nothing. An observation is in the spool before the
broker is told: a SIGKILL between the two leads to a redelivery, never to a hole.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from collectors.carried import headers_of
from collectors.instrument.confluent_kafka_producer import ObservedProducer
from collectors.instrument.observe import Observer
from tracker.model.event import Stage

REFUSALS_KEPT = 10_000
"""So many nacked or dead-lettered messages are remembered, for the commit that moves past them is no ack."""


def producer(
    producer: Producer, observer: Observer, *, topics: Collection[str] | None = None, keys: bool = False
) -> ObservedProducer:
    """The same producer, observed: use it in place of the one given. Only `topics` are observed (None: all); with
    `keys` record keys are sent to the tracker, which keeps a keyed hash of them."""
    return ObservedProducer(producer, observer, topics, keys)


def consumer(
    consumer: Consumer, observer: Observer, *, topics: Collection[str] | None = None, keys: bool = False
) -> ObservedConsumer:
    """The same consumer, observed: use it in place of the one given, before it subscribes. `topics`, `keys`: as for
    `producer`."""
    return ObservedConsumer(consumer, observer, topics, keys)


class ObservedConsumer:
    """A `Consumer` whose deliveries and acks are observed; all that is not here is the consumer's own.

    A record that is handed over again, after a rebalance or a `seek`, is another delivery: its session differs.
    """

    def __init__(self, consumer: Consumer, observer: Observer, topics: Collection[str] | None, keys: bool) -> None:
        self._consumer, self._observer, self._topics, self._keys = consumer, observer, topics, keys
        self._group = ""
        self._client = uuid.uuid4().hex[:12]
        self._began = 0
        self._sessions: dict[tuple[str | None, int | None], str] = {}
        self._refused: dict[tuple[str | None, int | None, int | None], None] = {}
        # What the events of the newest deliveries share: of the last `poll`, mostly acked before the next one, and of
        # the last `consume`, which is as many as the application asked for.
        self._last: tuple[Message | None, bytes | None] = (None, None)
        self._batch: dict[tuple[str | None, int | None, int | None], bytes | None] = {}

    def __getattr__(self, name: str) -> Any:
        """Everything else: the consumer's own."""
        return getattr(self._consumer, name)

    def __enter__(self) -> ObservedConsumer:
        """As the consumer: for `with`."""
        self._consumer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> Any:
        """As the consumer."""
        return self._consumer.__exit__(*raised)

    def poll(self, timeout: float = -1) -> Message | None:
        """As the consumer; records `deliver`."""
        message = self._consumer.poll(timeout)
        if message is not None:
            if self._batch:
                self._batch.pop(_place(message), None)  # handed over again
            self._delivered(message)
        return message

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """As the consumer; records `deliver` for each."""
        messages = self._consumer.consume(num_messages, timeout)
        if messages:
            self._batch = {}
        for message in messages:
            self._delivered(message)
            delivered, shared = self._last
            if delivered is message:
                self._batch[_place(message)] = shared
        return messages

    def ack(self, message: Message) -> bool:
        """The application has processed this message. Call it before the offset is committed. Never raises; whether
        the observation was taken."""
        self._refused.pop(_place(message), None)
        return self._record(Stage.ack, message)

    def nack(self, message: Message, reason: str) -> bool:
        """The application could not process this message: a later `commit(message=...)` is no ack. As `ack`."""
        self._refuse(message)
        return self._record(Stage.nack, message, reason)

    def dead_letter(self, message: Message, reason: str) -> bool:
        """The application parked this message; `reason="retry"` for a retry topic. As `nack`."""
        self._refuse(message)
        return self._record(Stage.dead_letter, message, reason)

    def commit(self, message: Message | None = None, offsets: Any = None, asynchronous: bool = True) -> Any:
        """As the consumer. With `message`: an ack of that message, none of those before it. Else an ack of nothing."""
        if message is None:
            chosen = {} if offsets is None else {"offsets": offsets}
            return self._consumer.commit(asynchronous=asynchronous, **chosen)  # type: ignore[call-overload]
        self._processed(message)
        return self._consumer.commit(message=message, asynchronous=asynchronous)  # type: ignore[call-overload]

    def store_offsets(self, message: Message | None = None, offsets: Any = None) -> Any:
        """As the consumer. With `message`: an ack of that message, none of those before it. Else an ack of nothing."""
        if message is None:
            return self._consumer.store_offsets(offsets=offsets)
        self._processed(message)
        return self._consumer.store_offsets(message=message)

    def subscribe(self, topics: list[str], on_assign: Any = None, on_revoke: Any = None, on_lost: Any = None) -> None:
        """As the consumer; the callbacks are given this consumer."""
        given = {"on_revoke": on_revoke, "on_lost": on_lost}
        ours = {name: partial(_call, call, self) for name, call in given.items() if call is not None}
        self._consumer.subscribe(topics, on_assign=partial(self._assigned, on_assign), **ours)

    def assign(self, partitions: list[TopicPartition]) -> None:
        """As the consumer."""
        self._begin(partitions)
        self._consumer.assign(partitions)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """As the consumer."""
        self._begin(partitions)
        self._consumer.incremental_assign(partitions)

    def seek(self, partition: TopicPartition) -> None:
        """As the consumer: what is read again is delivered again."""
        self._begin([partition])
        self._consumer.seek(partition)

    def _assigned(self, on_assign: Any, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._begin(partitions)
        if on_assign is not None:
            on_assign(self, partitions)

    def _begin(self, partitions: Iterable[TopicPartition]) -> None:
        """What is delivered of these from now on is another hand-over than what was delivered before."""
        try:
            self._began += 1
            self._group, member = _membership(self._consumer)
            session = f"{member or self._client}.{self._began}"
            self._sessions |= {(place.topic, place.partition): session for place in partitions}
        except Exception:  # noqa: BLE001 - the boundary to somebody's application: an older session is still a session
            self._observer.counts.errors += 1

    def _processed(self, message: Message) -> None:
        if _place(message) not in self._refused:
            self._record(Stage.ack, message)

    def _refuse(self, message: Message) -> None:
        self._refused[_place(message)] = None
        if len(self._refused) > REFUSALS_KEPT:
            self._refused.pop(next(iter(self._refused)), None)

    def _delivered(self, message: Message) -> None:
        if message.error() is None and self._watches(message):
            shared = self._shared(message)
            self._last = message, shared
            self._observer.tell(Stage.deliver, shared)

    def _record(self, stage: Stage, message: Message, reason: str = "") -> bool:
        if message.error() is not None or not self._watches(message):
            return False
        delivered, shared = self._last
        if message is not delivered:
            place = _place(message)
            shared = self._batch[place] if place in self._batch else self._shared(message)
        return self._observer.tell(stage, shared, reason=reason)

    def _watches(self, message: Message) -> bool:
        return self._topics is None or message.topic() in self._topics

    def _shared(self, message: Message) -> bytes | None:
        try:
            topic, number = message.topic(), message.partition()
            return self._observer.share(
                headers_of(message),
                message.value(),
                partition=f"{topic}/{number}",
                offset=message.offset(),
                group=self._group,
                session=self._sessions.get((topic, number), self._client),
                key=message.key() if self._keys else None,
            )
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            return None


def _place(message: Message) -> tuple[str | None, int | None, int | None]:
    return message.topic(), message.partition(), message.offset()


def _call(callback: Any, consumer: ObservedConsumer, _: Consumer, partitions: list[TopicPartition]) -> Any:
    return callback(consumer, partitions)


def _membership(consumer: Consumer) -> tuple[str, str]:
    """Group, and member id with generation, of a consumer; empty where it has none (it assigns its partitions).

    librdkafka shows the group and the generation only in the bytes of its group metadata: "CGMDv2:", the generation
    as 32 bits, the group's name up to a zero byte (`rd_kafka_consumer_group_metadata_write`).
    """
    member = consumer.memberid() or ""
    written = consumer.consumer_group_metadata()
    if not isinstance(written, bytes) or not written.startswith(b"CGMDv2:"):
        return "", member
    (generation,) = struct.unpack_from("<i", written, 7)
    group = written[11:].split(b"\0", 1)[0].decode("utf-8", "replace")
    return group, f"{member}-{generation}" if member else ""
