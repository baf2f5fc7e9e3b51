"""An outbox relay that skips rows: it asks for rows behind the last number it saw, and transactions do not commit in
the order of their numbers. Rows that come later than a higher number are never sent, and nobody is told.

    python -m tests.drills.outbox_relay --json
    python -m tests.drills.outbox_relay --kill --json
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from tests.drills import truth
from tests.drills.result import Result, end, main
from tests.drills.scene import scene, started_kafka, started_postgres

TABLE = """CREATE TABLE outbox (number bigserial, id text PRIMARY KEY, payload text, sent_at timestamptz,
    created_at timestamptz DEFAULT clock_timestamp())"""
SPEC = """flow: orders
checkpoints:
  - {hop: shop, stage: produce, outbox: true, coverage: watermark}
  - {hop: kafka, stage: persist, after: shop, within: 3s, coverage: watermark, same_payload: true}
"""
WRITERS, TRANSACTIONS, SEED = 4, 400, 11


def drill(folder: Path, kill: bool) -> Result:
    """Four writers, one relay; the truth is the table without the topic."""
    with started_kafka(folder / "kafka") as broker, started_postgres() as database:
        url = database.url()
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(TABLE)
        table = {"table": "outbox", "flow": "orders", "hop": "shop", "payload": "payload", "origin": "created_at",
                 "relayed": {"column": "sent_at"}}  # fmt: skip
        collectors = [
            {"name": "outbox", "kind": "postgres-outbox", "url": url, "tables": [table]},
            {"name": "kafka", "kind": "kafka", "url": f"kafka://{broker.bootstrap}",
             "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka"}]},
        ]  # fmt: skip
        producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 1, "log_level": 0})
        producer.produce("orders", b"", headers=[("x-message-id", b"")])  # the topic is made by its first record
        producer.flush()
        with scene(folder, SPEC, collectors) as made:
            made.watch(sources=3)
            done = threading.Event()
            relay = threading.Thread(target=_relay, args=(url, producer, done))
            relay.start()
            with ThreadPoolExecutor(WRITERS) as writers:
                writing = [writers.submit(_write, url, writer) for writer in range(WRITERS)]
                early: set[str] = set()
                if kill:
                    time.sleep(2)
                    made.kill_collectors()
                    time.sleep(5)  # longer than `within`: what is not covered must not be called missing
                    early = {one["message_id"] for one in made.findings()}
                    made.watch(sources=3)
                rows = sum(one.result() for one in writing)
            time.sleep(1)  # the relay sends what it will ever send
            done.set()
            relay.join()
            books = made.settled(rows)
            lost = truth.in_table(url, "SELECT id FROM outbox") - truth.in_topic(broker.bootstrap, "orders")
            result = made.result("outbox_relay", sorted(lost), killed=kill)
            assert not early - lost, f"named too early: {sorted(early - lost)[:5]}"
            assert books["verdicts"].get("unacknowledged", 0) == len(lost), books
            return result


def _write(url: str, writer: int) -> int:
    """Transactions of some rows, each open for a moment; how many rows."""
    chance, rows = random.Random(f"{SEED} {writer}"), 0
    with psycopg.connect(url) as connection:
        for transaction in range(TRANSACTIONS):
            for row in range(chance.randint(1, 4)):
                name = f"{writer}-{transaction}-{row}"
                connection.execute("INSERT INTO outbox (id, payload) VALUES (%s, %s)", (name, f"order {name}"))
                rows += 1
            time.sleep(chance.choice([0.0, 0.0, 0.0, 0.01, 0.03]))
            connection.commit()
    return rows


def _relay(url: str, producer: Producer, done: threading.Event) -> None:
    """Sends what is behind the last number, marks it, and believes that this is all."""
    last = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while not done.is_set():
            rows = connection.execute(
                "SELECT number, id, payload FROM outbox WHERE number > %s ORDER BY number LIMIT 500", (last,)
            ).fetchall()
            for number, name, payload in rows:
                producer.produce("orders", payload.encode(), name, headers=[("x-message-id", name.encode())])
                last = number
            producer.flush()
            connection.execute("UPDATE outbox SET sent_at = now() WHERE id = ANY(%s)", ([row[1] for row in rows],))
            time.sleep(0.005)


if __name__ == "__main__":
    end(main(drill, __doc__))
