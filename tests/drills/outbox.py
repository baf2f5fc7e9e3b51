"""A shop that promises messages in an outbox, and a relay that sends them on to Kafka. Nothing of ours is in it."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import psycopg
from confluent_kafka import KafkaError, Message, Producer

TABLE = """CREATE TABLE outbox (number bigserial PRIMARY KEY, id text UNIQUE, payload text, sent_at timestamptz,
    created_at timestamptz DEFAULT clock_timestamp())"""
COLLECTED = {
    "table": "outbox", "flow": "orders", "payload": "payload", "origin": "created_at", "relayed": {"column": "sent_at"},
}  # fmt: skip
"""The table as its collector has it, but for the hop."""
KEPT = {"table": "outbox", "payload": "payload", "origin": "created_at", "key": "id"}
"""The same as a replay reads it."""
BATCH = 1000


class Shop:
    """Writes messages `m-1`, `m-2`, ... into a database; the relay sends what is not marked, and marks what the brokers
    confirmed, until `close`."""

    def __init__(self, url: str, bootstrap: str, topic: str) -> None:
        self.url, self.sold = url, 0
        self._bootstrap, self._topic = bootstrap, topic
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(TABLE)
        self._done = threading.Event()
        self._relay = threading.Thread(target=self._run, name="relay", daemon=True)

    def open(self) -> None:
        """Start the relay."""
        self._relay.start()

    def sell(self, count: int) -> None:
        """Commit so many messages, in transactions of a thousand."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for first in range(self.sold + 1, self.sold + count + 1, BATCH):
                last = min(first + BATCH, self.sold + count + 1) - 1
                connection.execute(
                    "INSERT INTO outbox (id, payload) "
                    "SELECT 'm-' || n, 'order m-' || n FROM generate_series(%s::int, %s::int) n",
                    (first, last),
                )
        self.sold += count

    def waiting(self) -> int:
        """How many are not marked as sent."""
        return int(self._ask("SELECT count(*) FROM outbox WHERE sent_at IS NULL")[0][0])

    def clean(self, first: int, last: int) -> int:
        """Forget what was sent of these numbers, as a cleaner does; how many."""
        gone = "DELETE FROM outbox WHERE sent_at IS NOT NULL AND number BETWEEN %s AND %s RETURNING 1"
        return len(self._ask(gone, (first, last)))

    def close(self) -> None:
        """The relay ends: its region is gone."""
        self._done.set()
        if self._relay.is_alive():
            self._relay.join()

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def _run(self) -> None:
        producer = Producer({
            "bootstrap.servers": self._bootstrap, "acks": "all", "linger.ms": 5, "message.timeout.ms": 5000,
            "partitioner": "murmur2_random", "log_level": 0,
        })  # fmt: skip
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self._done.is_set():
                rows = connection.execute(
                    "SELECT id, payload FROM outbox WHERE sent_at IS NULL ORDER BY number LIMIT %s", (BATCH,)
                ).fetchall()
                confirmed: list[str] = []
                for name, payload in rows:
                    about = [("x-message-id", name.encode())]
                    told = partial(_confirmed, confirmed, name)
                    producer.produce(self._topic, payload.encode(), name, headers=about, on_delivery=told)
                producer.flush(10)
                connection.execute("UPDATE outbox SET sent_at = now() WHERE id = ANY(%s)", (confirmed,))
                self._done.wait(0 if rows else 0.05)


def _confirmed(names: list[str], name: str, error: KafkaError | None, _: Message) -> None:
    if error is None:
        names.append(name)
