"""The fixtures themselves: each gives a real server that does what its clients expect."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from confluent_kafka import Consumer, Producer

from tests.servers.kafka import Kafka
from tests.servers.ports import FIRST, LAST, free_port
from tests.servers.process import NotReady, Process
from tests.servers.prometheus import Alertmanager, Prometheus
from tests.servers.rabbitmq import RabbitMQ


def _no_answer() -> None:
    raise ConnectionError("nothing listens")


def _produce(bootstrap: str, topic: str, count: int) -> None:
    failed: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in range(count):
        producer.produce(
            topic,
            value=f"payload {number}".encode(),
            headers=[("x-message-id", f"m-{number}".encode())],
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
    assert producer.flush(20) == 0
    assert failed == []


def _consume(bootstrap: str, topic: str, count: int) -> list[str]:
    settings = {"bootstrap.servers": bootstrap, "group.id": f"g-{topic}", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None
            headers: Any = message.headers()
            found += [value.decode() for _, value in headers]
    consumer.commit(asynchronous=False)
    consumer.close()
    return found


@pytest.mark.brokers
class TestKafka:
    def test_records_written_are_read_with_their_headers(self, kafka_server: str) -> None:
        """A real broker stores records and gives them back, in order, to a consumer group."""
        _produce(kafka_server, "servers-plain", 1000)
        assert _consume(kafka_server, "servers-plain", 1000) == [f"m-{n}" for n in range(1000)]

    def test_a_second_cluster_survives_sigkill_with_its_data(
        self, kafka_server: str, kafka_factory: Callable[..., Kafka]
    ) -> None:
        """Two small clusters fit beside each other, share nothing, and a killed one comes back on its port."""
        other = kafka_factory()
        assert other.bootstrap != kafka_server
        _produce(other.bootstrap, "servers-kill", 100)
        other.kill()
        assert not other.process.running
        other.start()
        assert len(_consume(other.bootstrap, "servers-kill", 100)) == 100
        other.stop()

    def test_properties_given_win(self, kafka_factory: Callable[..., Kafka]) -> None:
        """A test may set any broker property, and the broker runs with it."""
        cluster = kafka_factory(properties={"num.partitions": "3"})
        _produce(cluster.bootstrap, "servers-partitions", 1)
        metadata = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "look"}).list_topics(
            "servers-partitions", 10
        )
        assert len(metadata.topics["servers-partitions"].partitions) == 3
        cluster.kill()


@pytest.mark.brokers
class TestRabbitMQ:
    def test_the_firehose_shows_what_was_published(self, rabbitmq_server: RabbitMQ) -> None:
        """With the firehose on, a publish to the default exchange reaches a queue bound to the trace exchange."""
        rabbitmq_server.trace(True)
        with pika.BlockingConnection(pika.URLParameters(rabbitmq_server.url)) as connection:
            channel = connection.channel()
            channel.queue_declare("servers.work", durable=True)
            channel.queue_declare("servers.trace", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("servers.trace", "amq.rabbitmq.trace", "publish.#")
            channel.basic_publish("", "servers.work", b"hello", pika.BasicProperties(message_id="m-1"))
            method, properties, body = next(channel.consume("servers.trace", auto_ack=True, inactivity_timeout=10))
            assert method is not None, "no trace within 10 s"
            channel.cancel()
            channel.queue_delete("servers.trace")
            channel.queue_delete("servers.work")
        rabbitmq_server.trace(False)
        assert body == b"hello"
        headers: Any = properties.headers
        assert headers["routed_queues"] == ["servers.work"]
        assert headers["properties"]["message_id"] == "m-1"

    def test_the_management_api_answers(self, rabbitmq_server: RabbitMQ) -> None:
        """The management API, which counters are read from, answers at the URL given."""
        overview = httpx.get(f"{rabbitmq_server.management_url}/api/overview", timeout=10).json()
        assert overview["rabbitmq_version"]


@pytest.mark.brokers
class TestPrometheus:
    def test_a_server_scrapes_and_answers(self, prometheus_server: Callable[[str], Prometheus]) -> None:
        """Prometheus runs with the configuration given and answers PromQL."""
        server = prometheus_server("global: {scrape_interval: 1s}\n")
        assert server.query("vector(42)")[0]["value"][1] == "42"

    def test_an_alertmanager_takes_alerts(self, alertmanager_server: Callable[[str], Alertmanager]) -> None:
        """Alertmanager runs with the configuration given and lists an alert that was posted."""
        server = alertmanager_server("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        alert = [{"labels": {"alertname": "Try"}}]
        httpx.post(
            f"{server.url}/api/v2/alerts", content=json.dumps(alert), headers={"content-type": "application/json"}
        ).raise_for_status()
        assert httpx.get(f"{server.url}/api/v2/alerts").json()[0]["labels"] == {"alertname": "Try"}


class TestProcess:
    def test_a_server_that_dies_says_why(self, tmp_path: Path) -> None:
        """A server that ends before it is ready fails with its status and its own last words."""
        process = Process("broken", ["/bin/sh", "-c", "echo no such key: colour; exit 3"], tmp_path)
        with pytest.raises(NotReady, match=r"(?s)status 3.*no such key: colour"):
            process.start(_no_answer, 5.0)

    def test_a_server_that_never_answers_is_ended(self, tmp_path: Path) -> None:
        """A server that does not become ready in time is ended, and the error names the probe's own error."""
        process = Process("deaf", ["/bin/sleep", "60"], tmp_path)
        with pytest.raises(NotReady, match=r"deaf not ready within 0 s \(ConnectionError"):
            process.start(_no_answer, 0.2)
        assert not process.running

    def test_the_server_does_not_outlive_the_test_run(self, tmp_path: Path) -> None:
        """When the test run is killed, the guard's stdin ends and it takes the server along."""
        process = Process("orphan", ["/bin/sleep", "60"], tmp_path)
        process.start(lambda: None, 5.0)
        assert process._guard is not None
        assert process._guard.stdin is not None
        process._guard.stdin.close()
        assert process._child is not None
        assert process._child.wait(10) == -signal.SIGKILL
        process.kill()

    def test_ports_are_given_once(self) -> None:
        """A port is never handed out twice, and lies where no outgoing connection takes it."""
        ports = [free_port() for _ in range(50)]
        assert len(set(ports)) == 50
        assert all(FIRST <= port <= LAST for port in ports)
