"""What the brokers themselves say. Imports nothing of ours, for nothing of ours may decide what is true."""

from __future__ import annotations

import asyncio
import io
import queue
import struct
from pathlib import Path

import nats
import nats.js.errors
import pika
import psycopg
import redis
import stomp
from confluent_kafka import Consumer, KafkaError, TopicPartition
from pyarrow import parquet


def in_topic(bootstrap: str, topic: str, header: str = "x-message-id") -> set[str]:
    """The ids of all records that a topic holds, by header."""
    return set(records(bootstrap, topic, header))


def records(bootstrap: str, topic: str, header: str = "x-message-id") -> dict[str, list[bytes]]:
    """All records that a topic holds, by id: their payloads, of one partition in the order of the log."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "truth", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: dict[str, list[bytes]] = {}
        ended: set[int | None] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(1000, 5.0):
                error = message.error()
                if error is None:
                    headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
                    if header in headers:
                        found.setdefault(headers[header].decode(), []).append(message.value() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        return found
    finally:
        consumer.close()


def begins(bootstrap: str, topic: str) -> dict[int, int]:
    """The first offset that each partition still holds."""
    return {number: low for number, (low, _) in _watermarks(bootstrap, topic).items()}


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The offset that each partition's next record will have."""
    return {number: high for number, (_, high) in _watermarks(bootstrap, topic).items()}


def _watermarks(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "truth"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in partitions}
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Where a group stands in each partition; 0 where it has committed nothing."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=10)
        return {place.partition: max(place.offset, 0) for place in found}
    finally:
        consumer.close()


def in_table(url: str, query: str) -> set[str]:
    """The first column of a query's answer."""
    with psycopg.connect(url) as connection:
        return {str(row[0]) for row in connection.execute(query)}


def in_archive(folder: Path) -> set[str]:
    """The ids in the segments of an archive without encryption: Parquet between a header of ours and a checksum."""
    found: set[str] = set()
    for path in folder.rglob("*.segment"):
        data = path.read_bytes()
        (length,) = struct.unpack_from("<I", data, 8)
        found |= set(parquet.read_table(io.BytesIO(data[12 + length : -32]), columns=["message_id"])[0].to_pylist())
    return found


def in_queue(url: str, queue: str) -> set[str]:
    """The ids of all messages that wait in a queue. They are taken and given back, so they look redelivered after."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        found: set[str] = set()
        while True:
            method, properties, _ = channel.basic_get(queue, auto_ack=False)
            if method is None:
                return found
            found.add(str(properties.message_id))
    finally:
        connection.close()


def in_stream(url: str, stream: str, field: str = "x-message-id") -> set[str]:
    """The ids of all entries that a Redis stream holds, by field."""
    with redis.Redis.from_url(url) as client:
        return {fields[field.encode()].decode() for _, fields in client.xrange(stream)}


def in_nats_stream(url: str, stream: str, header: str = "x-message-id") -> set[str]:
    """The ids of all messages that a stream of NATS holds."""

    async def held() -> set[str]:
        client = await nats.connect(url)
        try:
            js = client.jetstream()
            state = (await js.stream_info(stream)).state
            found: set[str] = set()
            for seq in range(state.first_seq, state.last_seq + 1):
                try:
                    message = await js.get_msg(stream, seq)
                except nats.js.errors.NotFoundError:
                    continue
                found.add((message.headers or {})[header])
            return found
        finally:
            await client.close()

    return asyncio.run(held())


def in_activemq_queue(port: int, name: str) -> set[str]:
    """The ids of all messages that a queue of the ActiveMQ on this port of the host holds. They are taken and given
    back: a browser is shown the first 400 only."""
    came: queue.Queue[str] = queue.Queue()

    class Listener(stomp.ConnectionListener):  # type: ignore[misc] # no types of its own
        def on_message(self, frame: stomp.utils.Frame) -> None:
            came.put(frame.headers["x-message-id"])

    connection = stomp.Connection12([("127.0.0.1", port)])
    connection.set_listener("truth", Listener())
    connection.connect(wait=True)
    held = {"activemq.prefetchSize": "65535"}
    connection.subscribe(f"/queue/{name}", "1", "client-individual", headers=held)
    found: set[str] = set()
    try:
        while True:
            found.add(came.get(timeout=2.0))
    except queue.Empty:
        return found
    finally:
        connection.transport.disconnect_socket()
