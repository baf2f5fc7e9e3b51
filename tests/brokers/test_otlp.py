"""Public OpenTelemetry instrumentations, as their users have them, in front of real brokers and a real tracker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.kafka_topic import own_topic
from tests.brokers.rabbitmq_vhost import own_vhost
from tests.e2e.service import Service, environment

pytestmark = pytest.mark.brokers

KAFKA = """flow: {topic}
identity: {{attribute: tracker.message_id}}
checkpoints:
  - {{hop: checkout, stage: produce, match: {{service: checkout, destination: {topic}}}}}
  - {{hop: billing, stage: ack, after: checkout, within: 5m, match: {{service: billing, destination: {topic}}}}}
"""
RABBITMQ = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, match: {service: checkout, destination: orders}}
  - {hop: billing, stage: ack, after: checkout, within: 5m, at_most: 1,
     match: {service: billing, system: rabbitmq, destination: orders, operation: receive}}
"""
RECEIVED = """flow: {topic}
identity: {{attribute: tracker.message_id}}
checkpoints:
  - {{hop: checkout, stage: produce, match: {{service: checkout, destination: {topic}}}}}
  - {{hop: billing, stage: deliver, after: checkout, within: 5m, at_most: 1,
     match: {{service: billing, destination: {topic}, {more}}}}}
"""
AIO_PIKA = RABBITMQ.replace("destination: orders}", 'destination: "orders,*"}', 1)
CELERY = """flow: bills
checkpoints:
  - {hop: checkout, stage: produce, match: {service: checkout, destination: bills}}
  - {hop: billing, stage: ack, after: checkout, within: 5m, match: {service: billing, destination: bills}}
"""
AIO, TASKS = "tests.brokers.otlp_aio_apps", "tests.brokers.otlp_celery_app"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A tracker."""
    started = Service(tmp_path_factory.mktemp("otlp"), "--insecure").start()
    try:
        yield started
    finally:
        started.close()


def put(service: Service, spec: str) -> None:
    """Put the spec, and wait until spans are read."""
    service.http.put("/v1/flows", content=spec).raise_for_status()
    kind = {"Content-Type": "application/x-protobuf"}
    service.until(lambda: service.http.post("/v1/traces", content=b"", headers=kind).status_code, lambda s: s == 200)


def run(role: str, *arguments: str, module: str = "tests.brokers.otlp_apps") -> None:
    """An application from start to end."""
    command = [sys.executable, "-m", module, role, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Failed to export" not in done.stderr


def timeline(service: Service, flow: str, message: str) -> list[dict[str, Any]]:
    """What was seen of a message, once a pass has called it delivered."""
    path = f"/v1/flows/{flow}/messages/{message}"
    answered = service.until(
        lambda: service.http.get(path), lambda got: got.status_code == 200 and got.json()["verdict"] == "delivered"
    )
    return list(answered.json()["timeline"])


def nameless(service: Service, flow: str) -> int:
    """Spans that match the flow and name no message."""
    seen = service.get("/v1/flows/discovered")["items"]
    return sum(one["count"] for one in seen if (one["flow"], one["reason"]) == (flow, "no_id"))


def test_confluent_kafka(service: Service, kafka_server: str) -> None:
    """Ids by baggage and by the current span; partition and offset by the instrumentation."""
    with own_topic(kafka_server) as topic:
        put(service, KAFKA.format(topic=topic.name))
        run("kafka-send", service.url, kafka_server, topic.name, "k-1", "k-2")
        run("kafka-take", service.url, kafka_server, topic.name, "k-1", "k-2")
        second = timeline(service, topic.name, "k-2")
        assert [(e["hop"], e["stage"], e["node"]) for e in second] == [
            ("checkout", "produce", "pod-1"), ("billing", "ack", "pod-1")]  # fmt: skip
        first = service.get(f"/v1/flows/{topic.name}/messages/k-1")
        assert [(e["hop"], e["stage"]) for e in first["timeline"]] == [("checkout", "produce"), ("billing", "nack")]


@pytest.mark.parametrize("taking", ["aiokafka-take", "aiokafka-take-many"])
def test_aiokafka(service: Service, kafka_server: str, taking: str) -> None:
    """Ids by the instrumentation's hooks. Spans of batches, which name no message, are told from those of records by
    the offset."""
    with own_topic(kafka_server) as topic:
        put(service, RECEIVED.format(topic=topic.name, more='attributes: {messaging.kafka.message.offset: "*"}'))
        run("aiokafka-send", service.url, kafka_server, topic.name, "a-1", "a-2", module=AIO)
        run(taking, service.url, kafka_server, topic.name, "a-1", "a-2", module=AIO)
        for number, message in enumerate(("a-1", "a-2")):
            told = timeline(service, topic.name, message)
            assert [(e["hop"], e["stage"]) for e in told] == [("checkout", "produce"), ("billing", "deliver")]
            assert (told[1]["partition"], told[1]["offset"]) == (f"{topic.name}/0", number)
        assert nameless(service, topic.name) == 0


def test_kafka_python(service: Service, kafka_server: str) -> None:
    """Its spans have no operation; what they tell of is that a record was handed over, so the flow says `deliver`."""
    with own_topic(kafka_server) as topic:
        put(service, RECEIVED.format(topic=topic.name, more="operation: process"))
        run("kafka-python-send", service.url, kafka_server, topic.name, "p-1")
        run("kafka-python-take", service.url, kafka_server, topic.name, "p-1")
        told = timeline(service, topic.name, "p-1")
        assert [(e["hop"], e["stage"]) for e in told] == [("checkout", "produce"), ("billing", "deliver")]


def test_aio_pika(service: Service, rabbitmq_server: Any) -> None:
    """As pika, but that a producer's destination is exchange and routing key."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        put(service, AIO_PIKA)
        run("aio-pika-send", service.url, vhost.url, "orders", "i-1", module=AIO)
        run("aio-pika-take", service.url, vhost.url, "billing", "i-1", module=AIO)
        told = timeline(service, "orders", "i-1")
        assert [(e["hop"], e["stage"]) for e in told] == [("checkout", "produce"), ("billing", "ack")]


def test_celery(service: Service, rabbitmq_server: Any) -> None:
    """The id of a task is the message's. One that fails, or asks to be run again, was not acknowledged."""
    with own_vhost(rabbitmq_server) as vhost:
        put(service, CELERY)
        run("send", service.url, vhost.url, "good-1", "again-1", "bad-1", module=TASKS)
        command = [sys.executable, "-m", TASKS, "work", service.url, vhost.url]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL) as worker:
            try:
                stages = {one: [e["stage"] for e in timeline(service, "bills", one)] for one in ("good-1", "again-1")}
                assert stages == {"good-1": ["produce", "ack"], "again-1": ["produce", "nack", "ack"]}
                bad = service.get("/v1/flows/bills/messages/bad-1")
                assert [e["stage"] for e in bad["timeline"]] == ["produce", "nack"]
            finally:
                worker.terminate()


def test_pika(service: Service, rabbitmq_server: Any) -> None:
    """The message id of AMQP is all that is needed; a callback that returns is an ack, by the flow's word."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        put(service, RABBITMQ)
        run("rabbitmq-send", service.url, vhost.url, "orders", "r-1")
        run("rabbitmq-take", service.url, vhost.url, "billing", "r-1")
        told = timeline(service, "orders", "r-1")
        # The instrumentation wraps the blocking channel and the one inside it: a publish is two spans.
        sent = ("checkout", "produce")
        assert [(e["hop"], e["stage"]) for e in told] == [sent, sent, ("billing", "ack")]
        assert service.get("/v1/flows/orders/messages/r-1")["flags"] == []
        assert all(e["delivery"] == e["span_id"] for e in told), (
            "a queue has no offsets: the span tells deliveries apart"
        )
