"""Applications as their owners would write them, with the public OpenTelemetry instrumentations: run as processes.

python -m tests.brokers.otlp_apps kafka-send|kafka-take|kafka-python-send|kafka-python-take|rabbitmq-send|rabbitmq-take
    ENDPOINT SERVERS PLACE ID...
"""

from __future__ import annotations

import sys
from typing import Any

import pika
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.instrumentation.kafka import KafkaInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ID, HEADER = "tracker.message_id", "x-message-id"


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
        producer.produce(topic, b"...", headers=[(HEADER, one.encode())])
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
        span.set_attribute(ID, dict(message.headers())[HEADER].decode())
        if taken == 1:
            span.set_status(trace.Status(trace.StatusCode.ERROR))
    consumer.poll(0.1)  # ends the span of the last one
    consumer.close()


def kafka_python_send(servers: str, topic: str, ids: list[str]) -> None:
    """By kafka-python; the instrumentation's hook takes the id from the header."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=servers)
    for one in ids:
        producer.send(topic, b"...", headers=[(HEADER, one.encode())])
    producer.flush()
    producer.close()


def kafka_python_take(servers: str, topic: str, ids: list[str]) -> None:
    """By iteration, which is what the instrumentation sees; it does not see `poll`."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(topic, bootstrap_servers=servers, group_id=f"g-{topic}", auto_offset_reset="earliest")
    for _ in ids:
        next(consumer)
    consumer.close()


def sent(span: trace.Span, arguments: Any, named: dict[str, Any]) -> None:
    """docs/otlp.md: a hook that gives the span the id that the header has."""
    span.set_attribute(ID, dict(named["headers"])[HEADER].decode())


def taken(span: trace.Span, record: Any, *_: Any) -> None:
    """The same on the other side."""
    span.set_attribute(ID, dict(record.headers)[HEADER].decode())


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
    KafkaInstrumentor().instrument(produce_hook=sent, consume_hook=taken)
    PikaInstrumentor().instrument()
    {
        "kafka-send": kafka_send,
        "kafka-take": kafka_take,
        "kafka-python-send": kafka_python_send,
        "kafka-python-take": kafka_python_take,
        "rabbitmq-send": rabbitmq_send,
        "rabbitmq-take": rabbitmq_take,
    }[role](servers, place, ids)
    provider.shutdown()


if __name__ == "__main__":
    main()
