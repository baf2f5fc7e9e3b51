"""The workloads of `tests.benchmarks.instrument`: per client library, what an application does to send and to take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import aio_pika
import confluent_kafka
import pika
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata
from aiormq import spec
from aiormq.abc import DeliveredMessage
from pamqp.header import ContentHeader

from collectors.carried import new_message_id
from collectors.clock import now_micros
from collectors.instrument import aio_pika as on_aio_pika
from collectors.instrument import aiokafka as on_aiokafka
from collectors.instrument import confluent_kafka as on_confluent_kafka
from collectors.instrument import pika as on_pika
from collectors.instrument.observe import Observer
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT

MESSAGES = 200
BODY = b"x" * 500
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Work = Callable[[], Coroutine[Any, Any, None] | None]


def identity() -> tuple[str, str]:
    """Message id and origin time of a message that an instrumented producer sent."""
    now = now_micros()
    return new_message_id(now), str(now)


def record_headers() -> Any:
    """Of a Kafka record."""
    name, origin = identity()
    return [(MESSAGE_ID, name.encode()), (ORIGIN_AT, origin.encode()), ("traceparent", TRACE.encode())]


# -- confluent-kafka -------------------------------------------------------------------------------------------------


def confluent_produce(observer: Observer | None) -> Work:
    """`produce` with a trace, and the delivery report."""
    report = confluent_kafka.Message(topic="orders", partition=0, offset=1, value=BODY)

    class Client:
        def produce(self, topic: str, on_delivery: Any = None, **_: Any) -> None:
            if on_delivery is not None:
                on_delivery(None, report)

    client: Any = Client()
    producer = on_confluent_kafka.producer(client, observer) if observer else client

    def work() -> None:
        for _ in range(MESSAGES):
            producer.produce("orders", value=BODY, headers=[("traceparent", TRACE.encode())])

    return work


def confluent_consume(observer: Observer | None) -> Work:
    """`poll`, and a commit of the message."""
    waiting = [
        confluent_kafka.Message(topic="orders", partition=0, offset=n, value=BODY, headers=record_headers())
        for n in range(MESSAGES)
    ]

    class Client:
        def poll(self, timeout: float = -1) -> confluent_kafka.Message:
            return waiting.pop()

        def commit(self, message: Any = None, asynchronous: bool = True) -> None:
            """Nothing to tell."""

    client: Any = Client()
    consumer = on_confluent_kafka.consumer(client, observer) if observer else client

    def work() -> None:
        for _ in range(MESSAGES):
            consumer.commit(message=consumer.poll(1.0))

    return work


# -- aiokafka --------------------------------------------------------------------------------------------------------


def aiokafka_produce(observer: Observer | None) -> Work:
    """`send_and_wait` with a trace; the confirm comes in the next round of the loop, as one does that was read from a
    socket."""
    place = TopicPartition("orders", 0)
    answer = RecordMetadata("orders", 0, place, 1, 0, 0, 0)

    class Client:
        async def send(self, *_: Any) -> asyncio.Future[RecordMetadata]:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[RecordMetadata] = loop.create_future()
            loop.call_soon(future.set_result, answer)
            return future

        async def send_and_wait(self, *arguments: Any) -> RecordMetadata:
            return await (await self.send(*arguments))

    client: Any = Client()
    producer = on_aiokafka.producer(client, observer) if observer else client

    async def work() -> None:
        for _ in range(MESSAGES):
            await producer.send_and_wait("orders", BODY, None, None, None, [("traceparent", TRACE.encode())])

    return work


def aiokafka_consume(observer: Observer | None) -> Work:
    """`getone`, and an ack."""
    waiting = [
        ConsumerRecord("orders", 0, n, 0, 0, None, BODY, None, 0, len(BODY), tuple(record_headers()))
        for n in range(MESSAGES)
    ]

    class Client:
        _group_id = "billing"

        def subscription(self) -> frozenset[str]:
            return frozenset()

        async def getone(self) -> Any:
            return waiting.pop()

    client: Any = Client()
    consumer = on_aiokafka.consumer(client, observer) if observer else None

    async def work() -> None:
        for _ in range(MESSAGES):
            record = await (consumer or client).getone()
            if consumer:
                consumer.ack(record)

    return work


# -- RabbitMQ --------------------------------------------------------------------------------------------------------


def pika_channel() -> Any:
    """What talks to nobody."""
    return SimpleNamespace(
        channel_number=1,
        basic_publish=lambda *_: None,
        basic_ack=lambda *_: None,
        basic_get=lambda *_: None,
        confirm_delivery=lambda: None,
    )


def pika_produce(observer: Observer | None) -> Work:
    """A confirmed publish with a trace."""
    channel = on_pika.channel(pika_channel(), observer) if observer else pika_channel()
    channel.confirm_delivery()

    def work() -> None:
        for _ in range(MESSAGES):
            channel.basic_publish("orders", "new", BODY, pika.BasicProperties(headers={"traceparent": TRACE}))

    return work


def pika_consume(observer: Observer | None) -> Work:
    """`basic_get`, and an ack."""
    waiting = []
    for tag in range(MESSAGES, 0, -1):
        name, origin = identity()
        properties = pika.BasicProperties(message_id=name, headers={ORIGIN_AT: origin, "traceparent": TRACE})
        waiting.append((pika.spec.Basic.GetOk(tag, False, "orders", "new"), properties, BODY))
    plain = pika_channel()
    plain.basic_get = lambda *_: waiting.pop()
    channel = on_pika.channel(plain, observer) if observer else plain

    def work() -> None:
        for _ in range(MESSAGES):
            method, _, _ = channel.basic_get("billing", False)
            channel.basic_ack(method.delivery_tag, False)

    return work


class Underlay:
    """An AMQP channel that talks to nobody."""

    number, is_closed = 1, False

    def __init__(self, waiting: list[DeliveredMessage]) -> None:
        self._waiting = waiting

    async def basic_publish(self, *_: Any, **__: Any) -> Any:
        """Confirmed."""
        return spec.Basic.Ack(delivery_tag=1)

    async def basic_get(self, *_: Any, **__: Any) -> DeliveredMessage:
        """The next one."""
        message = self._waiting.pop()
        return DeliveredMessage(message.delivery, message.header, message.body, self)  # type: ignore[arg-type]

    async def basic_ack(self, *_: Any, **__: Any) -> None:
        """Nothing to tell."""


def aio_channel(observer: Observer | None, waiting: list[DeliveredMessage]) -> Any:
    """A channel of aio-pika above it."""
    underlay = Underlay(waiting)

    async def get_underlay_channel() -> Any:
        return underlay

    plain: Any = SimpleNamespace(get_underlay_channel=get_underlay_channel, is_closed=False)
    return on_aio_pika.channel(plain, observer) if observer else plain


def aio_pika_produce(observer: Observer | None) -> Work:
    """A confirmed publish with a trace, by aio-pika's own exchange."""

    async def work() -> None:
        exchange = aio_pika.Exchange(aio_channel(observer, []), "orders")
        for _ in range(MESSAGES):
            await exchange.publish(aio_pika.Message(BODY, headers={"traceparent": TRACE}), "new")

    return work


def aio_pika_consume(observer: Observer | None) -> Work:
    """`queue.get` and `message.ack`, both aio-pika's own."""
    waiting = []
    for tag in range(MESSAGES, 0, -1):
        name, origin = identity()
        properties = spec.Basic.Properties(message_id=name, headers={ORIGIN_AT: origin, "traceparent": TRACE})
        got = spec.Basic.GetOk(tag, False, "orders", "new", 0)
        header = ContentHeader(body_size=len(BODY), properties=properties)
        waiting.append(DeliveredMessage(got, header, BODY, None))  # type: ignore[arg-type]

    async def work() -> None:
        queue = aio_pika.Queue(aio_channel(observer, waiting), "billing", False, False, False, None)
        for _ in range(MESSAGES):
            await (await queue.get()).ack()

    return work


CLIENTS = {
    "confluent-kafka": (confluent_produce, confluent_consume),
    "aiokafka": (aiokafka_produce, aiokafka_consume),
    "pika": (pika_produce, pika_consume),
    "aio-pika": (aio_pika_produce, aio_pika_consume),
}
