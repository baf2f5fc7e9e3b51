"""Consuming applications on asyncio, to be killed: `python -m tests.brokers.aio_consuming CLIENT SERVERS PLACE SPOOL`.

`aiokafka` acks each record, commits, and says on stdout how many it has processed. `aio-pika` acks in threes
(`multiple`), says `acked N` when the observations of N acks are in the spool and the broker is about to be told, and
waits for a line on stdin first. The tracker is away: all that is observed stays in the spool.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aio_pika
from aiokafka import AIOKafkaConsumer

from collectors.emitter import Emitter
from collectors.instrument import aio_pika as instrument_rabbitmq
from collectors.instrument import aiokafka as instrument_kafka
from collectors.instrument.observe import Observer
from tracker.model.event import Stage


def observer(spool: str) -> Observer:
    """Of hop `billing`, with nobody to send to."""
    emitter = Emitter("http://127.0.0.1:1", collector="billing", spool=spool)
    return Observer(emitter, "orders", "billing", stages=[Stage.deliver, Stage.ack], source="app")


async def kafka(servers: str, topic: str, spool: str) -> None:
    """Group `app-TOPIC`."""
    plain = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=f"app-{topic}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    processed = 0
    async with instrument_kafka.consumer(plain, observer(spool)) as consumer:
        async for record in consumer:
            processed += 1
            consumer.ack(record)
            await consumer.commit()
            print(processed, record.offset, flush=True)


async def rabbitmq(url: str, queue: str, spool: str) -> None:
    """A prefetch of ten."""
    async with await aio_pika.connect_robust(url) as connection:
        plain = await connection.channel()
        await plain.set_qos(prefetch_count=10)
        beneath: Any = await plain.get_underlay_channel()
        tell_broker, seen = beneath.basic_ack, 0

        async def hesitating(*args: Any, **options: Any) -> None:
            print(f"acked {seen}", flush=True)
            sys.stdin.readline()
            await tell_broker(*args, **options)

        beneath.basic_ack = hesitating
        channel = instrument_rabbitmq.channel(plain, observer(spool))
        async with (await channel.get_queue(queue)).iterator() as messages:
            async for message in messages:
                seen += 1
                if seen % 3 == 0:
                    await message.ack(multiple=True)


if __name__ == "__main__":
    asyncio.run({"aiokafka": kafka, "aio-pika": rabbitmq}[sys.argv[1]](*sys.argv[2:]))
