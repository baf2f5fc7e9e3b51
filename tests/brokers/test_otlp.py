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


def run(role: str, *arguments: str) -> None:
    """An application from start to end."""
    command = [sys.executable, "-m", "tests.brokers.otlp_apps", role, *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Failed to export" not in done.stderr


def timeline(service: Service, flow: str, message: str) -> list[dict[str, Any]]:
    """What was seen of a message, once a pass has called it delivered."""
    path = f"/v1/flows/{flow}/messages/{message}"
    answered = service.until(
        lambda: service.http.get(path), lambda got: got.status_code == 200 and got.json()["verdict"] == "delivered"
    )
    return list(answered.json()["timeline"])


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
