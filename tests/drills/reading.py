"""An application that reads a topic as a member of a group, and remembers which ids it was given. Nothing of ours is in
it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, Message, Producer


def produce(bootstrap: str, topic: str, ids: list[str], acks: str = "all") -> dict[str, tuple[int, int]]:
    """Where the brokers confirmed each of these to lie: partition and offset."""
    placed: dict[str, tuple[int, int]] = {}
    producer = Producer({"bootstrap.servers": bootstrap, "acks": acks, "linger.ms": 1, "log_level": 0})

    def confirmed(error: KafkaError | None, message: Message) -> None:
        if error is None:
            placed[key(message)] = (number(message.partition()), number(message.offset()))

    for one in ids:
        producer.produce(topic, b"{}", one, headers=[("x-message-id", one.encode())], on_delivery=confirmed)
    if producer.flush(60) or len(placed) < len(ids):
        raise AssertionError(f"{len(ids) - len(placed)} records were not confirmed")
    return placed


def key(message: Message) -> str:
    """The id, which is the key, too."""
    return (message.key() or b"").decode()


def number(found: int | None) -> int:
    """What a confirmed record has."""
    return -1 if found is None else found


@contextmanager
def reading(bootstrap: str, group: str, topic: str) -> Iterator[set[str]]:
    """The ids that the group is given, while this lasts; they grow. Offsets are committed as the client does it by
    itself, and for the last time when it leaves."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "auto.commit.interval.ms": 500, "log_level": 0})  # fmt: skip
    consumer.subscribe([topic])
    read, done = set[str](), threading.Event()

    def read_on() -> None:
        while not done.is_set():
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    read.add(key(message))

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        yield read
    finally:
        done.set()
        thread.join()
        consumer.close()
