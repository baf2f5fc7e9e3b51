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
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from collectors.carried import new_message_id
from collectors.clock import now_micros
from collectors.instrument.observe import Observer
from tracker.model.carry import ORIGIN_AT
from tracker.model.event import Stage

Settled = Callable[[KafkaError | None, Message], Any]

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


class ObservedProducer:
    """A `Producer` whose confirmed messages are observed; all that is not here is the producer's own."""

    def __init__(self, producer: Producer, observer: Observer, topics: Collection[str] | None, keys: bool) -> None:
        self._producer, self._observer, self._topics, self._keys = producer, observer, topics, keys
        self._transaction: list[Callable[[], object]] | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything else: the producer's own."""
        return getattr(self._producer, name)

    def __len__(self) -> int:
        """As the producer: messages not yet confirmed."""
        return len(self._producer)

    def __bool__(self) -> bool:
        """As the producer: always true."""
        return True

    def __enter__(self) -> ObservedProducer:
        """As the producer: for `with`."""
        self._producer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> Any:
        """As the producer."""
        return self._producer.__exit__(*raised)

    def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int = -1,
        callback: Settled | None = None,
        on_delivery: Settled | None = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """As the producer, with message id and origin time set where absent. Records `produce` when the delivery
        report says that the brokers have it (in a transaction: when that was committed), then calls `on_delivery`."""
        settled = on_delivery or callback
        if self._topics is None or topic in self._topics:
            headers = _stamped(headers, self._observer.identity_header)
            settled = partial(self._settled, headers, settled)
        self._producer.produce(
            topic, value=value, key=key, partition=partition, on_delivery=settled, timestamp=timestamp, headers=headers
        )

    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        callback: Settled | None = None,
        on_delivery: Settled | None = None,
    ) -> int:
        """As the producer, one by one: the driver's own batches carry no headers, and so no ids."""
        queued = 0
        for message in messages:
            settled = message.get("callback") or on_delivery or callback
            try:
                self.produce(
                    topic, message.get("value"), message.get("key"), message.get("partition", partition),
                    on_delivery=settled, timestamp=message.get("timestamp", 0), headers=message.get("headers"),
                )  # fmt: skip
                queued += 1
            except BufferError as error:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL, str(error))
            except KafkaException as error:
                message["_error"] = error.args[0]
        return queued

    def begin_transaction(self) -> None:
        """As the producer. From here on messages are produced when the transaction is committed."""
        self._producer.begin_transaction()
        self._transaction = []

    def commit_transaction(self, timeout: float = -1) -> None:
        """As the producer; then records `produce` for all that the transaction held."""
        self._producer.commit_transaction(timeout)
        held, self._transaction = self._transaction or [], None
        for record in held:
            record()

    def abort_transaction(self, timeout: float = -1) -> None:
        """As the producer. Nothing of the transaction was produced."""
        self._producer.abort_transaction(timeout)
        self._transaction = None

    def _settled(self, headers: Any, settled: Settled | None, error: KafkaError | None, message: Message) -> None:
        if error is None:
            record = partial(
                self._observer.produce, headers, message.value(), partition=f"{message.topic()}/{message.partition()}",
                offset=message.offset(), key=message.key() if self._keys else None,
            )  # fmt: skip
            if self._transaction is None:
                record()
            else:
                self._transaction.append(record)
        if settled is not None:
            settled(error, message)


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
            self._record(Stage.deliver, message)
        return message

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """As the consumer; records `deliver` for each."""
        messages = self._consumer.consume(num_messages, timeout)
        for message in messages:
            self._record(Stage.deliver, message)
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

    def _record(self, stage: Stage, message: Message, reason: str = "") -> bool:
        topic, number = message.topic(), message.partition()
        if message.error() is not None or (self._topics is not None and topic not in self._topics):
            return False
        return self._observer.observe(
            stage,
            message.headers(),
            message.value(),
            reason=reason,
            partition=f"{topic}/{number}",
            offset=message.offset(),
            group=self._group,
            session=self._sessions.get((topic, number), self._client),
            key=message.key() if self._keys else None,
        )


def _place(message: Message) -> tuple[str | None, int | None, int | None]:
    return message.topic(), message.partition(), message.offset()


def _call(callback: Any, consumer: ObservedConsumer, _: Consumer, partitions: list[TopicPartition]) -> Any:
    return callback(consumer, partitions)


def _stamped(headers: Any, identity: str) -> Any:
    """The headers with message id and origin time added where absent, as pairs: Kafka allows a name twice. What the
    driver will refuse anyway is left as it is."""
    try:
        pairs = list(headers.items() if isinstance(headers, dict) else headers or ())
        names = {name for name, value in pairs if value}
        now = now_micros()
        if identity not in names:
            pairs.append((identity, new_message_id(now).encode()))
        if ORIGIN_AT not in names:
            pairs.append((ORIGIN_AT, str(now).encode()))
    except (TypeError, ValueError):
        return headers
    return pairs


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
