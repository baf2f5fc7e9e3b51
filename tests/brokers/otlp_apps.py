"""Applications as their owners would write them, with the public OpenTelemetry instrumentations: run as processes.

python -m tests.brokers.otlp_apps kafka-send|kafka-take|rabbitmq-send|rabbitmq-take ENDPOINT SERVERS PLACE ID...
"""

from __future__ import annotations

import sys
from typing import Any

import pika
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ID = "tracker.message_id"


class Named(SpanProcessor):
    """docs/otlp.md: gives each span the message id that the application put into the baggage."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Before the span is filled."""
        found = baggage.get_baggage(ID, parent_context)
        if isinstance(found, str):
            span.set_attribute(ID, found)


def observed(endpoint: str, service: str) -> TracerProvider:
    """The SDK, set up."""
    made = TracerProvider(resource=Resource.create({"service.name": service, "service.instance.id": "pod-1"}))
    made.add_span_processor(Named())
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(made)
    return made


def kafka_send(servers: str, topic: str, ids: list[str]) -> None:
    """The id is a header, and in the baggage while the message is sent."""
    from confluent_kafka import Producer  # the instrumented one

    producer = Producer({"bootstrap.servers": servers})
    for one in ids:
        token = context.attach(baggage.set_baggage(ID, one))
        producer.produce(topic, b"...", headers=[("x-message-id", one.encode())])
        context.detach(token)
    producer.flush(20)


def kafka_take(servers: str, topic: str, ids: list[str]) -> None:
    """Says which message it works on, once it has read its header; fails at the first one."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"g-{topic}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    taken = 0
    while taken < len(ids):
        message: Any = consumer.poll(1.0)
        if message is None or message.error():
            continue
        taken += 1
        span = trace.get_current_span()
        span.set_attribute(ID, dict(message.headers())["x-message-id"].decode())
        if taken == 1:
            span.set_status(trace.Status(trace.StatusCode.ERROR))
    consumer.poll(0.1)  # ends the span of the last one
    consumer.close()


def rabbitmq_send(servers: str, exchange: str, ids: list[str]) -> None:
    """With the message id that AMQP has a property for."""
    channel = pika.BlockingConnection(pika.URLParameters(servers)).channel()
    for one in ids:
        channel.basic_publish(exchange, "new.eu", b"...", pika.BasicProperties(message_id=one))
    channel.connection.close()


def rabbitmq_take(servers: str, queue: str, ids: list[str]) -> None:
    """By a callback, which is what the instrumentation sees."""
    channel = pika.BlockingConnection(pika.URLParameters(servers)).channel()
    left = len(ids)

    def work(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal left
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if not left:
            channel.stop_consuming()

    channel.basic_consume(queue, work)
    channel.start_consuming()
    channel.connection.close()


def main() -> None:
    """One application."""
    role, endpoint, servers, place, *ids = sys.argv[1:]
    sends = role.endswith("send")
    provider = observed(endpoint, "checkout" if sends else "billing")
    ConfluentKafkaInstrumentor().instrument()
    PikaInstrumentor().instrument()
    {
        "kafka-send": kafka_send,
        "kafka-take": kafka_take,
        "rabbitmq-send": rabbitmq_send,
        "rabbitmq-take": rabbitmq_take,
    }[role](servers, place, ids)
    provider.shutdown()


if __name__ == "__main__":
    main()
