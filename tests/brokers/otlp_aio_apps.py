"""Applications on asyncio, with the public OpenTelemetry instrumentations: run as processes.

python -m tests.brokers.otlp_aio_apps aiokafka-send|aiokafka-take|aiokafka-take-many|aio-pika-send|aio-pika-take
    ENDPOINT SERVERS PLACE ID...
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aio_pika
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.trace import Span

from tests.brokers.otlp_apps import HEADER, observed, sent, taken


async def later_sent(span: Span, arguments: Any, named: dict[str, Any]) -> None:
    """docs/otlp.md: a hook of the instrumentation gives the span the id that the header has."""
    sent(span, arguments, named)


async def later_taken(span: Span, record: ConsumerRecord[Any, Any], *_: Any) -> None:
    """The same on the other side."""
    taken(span, record)


async def kafka_send(servers: str, topic: str, ids: list[str]) -> None:
    """The id is a header."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for one in ids:
            await producer.send_and_wait(topic, b"...", headers=[(HEADER, one.encode())])


async def kafka_take(servers: str, topic: str, ids: list[str]) -> None:
    """One by one."""
    async with _consumer(servers, topic) as consumer:
        left = len(ids)
        async for _ in consumer:
            left -= 1
            if not left:
                return


async def kafka_take_many(servers: str, topic: str, ids: list[str]) -> None:
    """As many as there are."""
    async with _consumer(servers, topic) as consumer:
        left = len(ids)
        while left:
            left -= sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))


def _consumer(servers: str, topic: str) -> Any:
    return AIOKafkaConsumer(topic, bootstrap_servers=servers, group_id=f"g-{topic}", auto_offset_reset="earliest")


async def rabbitmq_send(servers: str, exchange: str, ids: list[str]) -> None:
    """With the message id that AMQP has a property for."""
    async with await aio_pika.connect_robust(servers) as connection:
        place = await (await connection.channel()).get_exchange(exchange)
        for one in ids:
            await place.publish(aio_pika.Message(b"...", message_id=one), "new.eu")


async def rabbitmq_take(servers: str, queue: str, ids: list[str]) -> None:
    """By a callback, which is what the instrumentation sees."""
    async with await aio_pika.connect_robust(servers) as connection:
        left, done = len(ids), asyncio.Event()

        async def work(message: Any) -> None:
            nonlocal left
            async with message.process():
                left -= 1
            if not left:
                done.set()

        await (await (await connection.channel()).get_queue(queue)).consume(work)
        await done.wait()


def main() -> None:
    """One application."""
    role, endpoint, servers, place, *ids = sys.argv[1:]
    provider = observed(endpoint, "checkout" if role.endswith("send") else "billing")
    AIOKafkaInstrumentor().instrument(async_produce_hook=later_sent, async_consume_hook=later_taken)
    AioPikaInstrumentor().instrument()
    roles = {
        "aiokafka-send": kafka_send,
        "aiokafka-take": kafka_take,
        "aiokafka-take-many": kafka_take_many,
        "aio-pika-send": rabbitmq_send,
        "aio-pika-take": rabbitmq_take,
    }
    asyncio.run(roles[role](servers, place, ids))
    provider.shutdown()


if __name__ == "__main__":
    main()
