"""docs/idempotency.md: its programs, run as they stand, on real brokers and stores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest

from collectors.idempotency.statements import Statements
from tests.brokers.effects import Effects, own_effects
from tests.brokers.kafka_topic import own_topic, wait_for
from tests.contract.http_tracker import HttpTracker
from tests.servers.postgres import Databases
from tests.servers.rabbitmq import RabbitMQ
from tracker.model.carry import MESSAGE_ID, REPLAY_ATTEMPT, REPLAY_ID, REPLAY_OF

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/idempotency.md").read_text("utf-8")
PROGRAMS = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))
MESSAGES = 1000
KILLS = (300, 900)
"""So many effects are there when the consumer is killed."""


@contextmanager
def program(name: str, folder: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the page, as a process; killed in the end."""
    (folder / name).write_text(PROGRAMS[name])
    given = os.environ | {"PYTHONPATH": str(ROOT), **env}
    with subprocess.Popen([sys.executable, str(folder / name)], env=given, stderr=subprocess.PIPE) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            print(process.stderr.read().decode())
            raise
        finally:
            process.kill()


@pytest.mark.brokers
def test_the_consumer_in_a_transaction(kafka_server: str, postgres_server: Databases, tmp_path: Path) -> None:
    """1,000 messages, each sent twice, half of the second copies with the headers of a replay. The consumer is killed
    twice in the middle. Every effect is there exactly once, and the ledger hears an ack of each replayed copy."""
    messages = [f"m-{number}" for number in range(MESSAGES)]
    replayed = messages[: MESSAGES // 2]
    with own_topic(kafka_server, 2) as topic, own_effects(postgres_server) as effects, HttpTracker() as tracker:
        with psycopg.connect(effects.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE payments (order_id text NOT NULL)")
        topic.put(messages)
        headers = {REPLAY_ID: b"r-1", REPLAY_ATTEMPT: b"1", REPLAY_OF: b"kafka-eu/0/1"}
        topic.put(replayed, headers=headers)
        topic.put(messages[MESSAGES // 2 :])
        env = {
            "KAFKA": kafka_server,
            "TOPIC": topic.name,
            "DATABASE": effects.url,
            "TRACKER_URL": tracker.url,
            "SPOOL": str(tmp_path / "spool"),
        }
        for kill in KILLS:
            with program("billing.py", tmp_path, **env) as process:
                wait_for(lambda kill=kill: paid(effects).total() >= kill, f"{kill} effects", 60)  # type: ignore[misc]
                assert process.poll() is None
        with program("billing.py", tmp_path, **env):
            wait_for(lambda: acked(tracker) >= set(replayed), "acks of all replayed copies", 60)
            wait_for(lambda: paid(effects).total() >= MESSAGES, "all effects", 60)
        assert paid(effects) == Counter(messages)


def paid(effects: Effects) -> Counter[str]:
    """How often each effect is there."""
    with psycopg.connect(effects.url, autocommit=True) as connection:
        return Counter(name for (name,) in connection.execute("SELECT order_id FROM payments"))


def acked(tracker: HttpTracker) -> set[str]:
    """The messages whose replayed copy was acked, as the tracker heard it."""
    lines = [line for request in list(tracker.stored) for line in request.lines]
    return {line["message_id"] for line in lines if line["stage"] == "ack" and line.get("replay_id") == "r-1"}


class Payments(ThreadingHTTPServer):
    """An HTTP API that counts what it is asked to charge, and whether two ask at a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Charge)
        self.charged: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Charge(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Charge; the first attempt of some is refused."""
        self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        name = self.headers["Idempotency-Key"]
        refused = name.endswith("7") and not server.charged[f"refused {name}"]
        server.charged[f"refused {name}" if refused else name] += 1
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.mark.brokers
def test_the_consumer_of_an_api(rabbitmq_server: RabbitMQ, redis_server: str, tmp_path: Path) -> None:
    """Each message comes twice, and some are refused at first: every one is charged once, and the queue is empty."""
    queue, messages = f"orders-{uuid.uuid4().hex[:8]}", [f"{uuid.uuid4().hex[:8]}-{number}" for number in range(50)]
    with Payments() as payments, pika.BlockingConnection(pika.URLParameters(rabbitmq_server.url)) as connection:
        threading.Thread(target=payments.serve_forever, daemon=True).start()
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for name in messages * 2:
            by_header = int(name.partition("-")[2]) % 2
            properties = pika.BasicProperties(headers={MESSAGE_ID: name}) if by_header else None
            channel.basic_publish("", queue, b"10 EUR", properties or pika.BasicProperties(message_id=name))
        env = {"REDIS": redis_server, "PAYMENTS": payments.url, "RABBITMQ": rabbitmq_server.url, "QUEUE": queue}

        def waiting() -> int:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

        for _ in range(5):  # what a killed one had not acked comes back
            with program("charging.py", tmp_path, **env):
                wait_for(lambda: len(payments.charged) >= 55 and not waiting(), "all charges", 60)
            if not waiting():
                break
        assert waiting() == 0
        charged = {name: count for name, count in payments.charged.items() if not name.startswith("refused")}
        assert charged == dict.fromkeys(messages, 1)
        channel.queue_delete(queue)
        payments.shutdown()


def test_the_plain_one() -> None:
    """What the page asserts, and each answer by hand."""
    space: dict[str, Any] = {}
    exec(PROGRAMS["plain.py"], space)
    once, handle, sent = space["once"], space["handle"], space["sent"]
    assert [handle("m-2"), handle("m-2")] == [True, True]
    assert sent == ["m-1", "m-2"]
    claim = once.begin("m-3")
    assert handle("m-3") is False
    once.release(claim, doubt=True)
    assert handle("m-3") is True
    assert sent == ["m-1", "m-2", "m-3"]


def test_the_table_of_the_page_is_the_one_that_is_made() -> None:
    """`create()` and the page say the same."""
    shown = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
    assert shown == [Statements().create]
