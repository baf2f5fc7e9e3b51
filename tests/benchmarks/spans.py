"""OTLP bodies: the spans that instrumented clients of a broker send, one service's spans of one block each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.benchmarks.wire import PARTITIONS, Block, Body, Numbers, Template
from tests.benchmarks.workload import FLOW, Bytes

SPEC = f"""
flow: {FLOW}
owner: team-payments
checkpoints:
  - {{hop: checkout, stage: produce, match: {{service: checkout, destination: {FLOW}}}}}
  - {{hop: inbox, stage: deliver, after: checkout, within: 30s, match: {{service: billing, operation: receive}}}}
  - {{hop: billing, stage: ack, after: inbox, within: 60s, match: {{service: billing, operation: process}}}}
  - {{hop: ledger, stage: ack, after: checkout, within: 120s, match: {{service: ledger, destination: {FLOW}}}}}
"""
HOPS = [("checkout", "send"), ("billing", "receive"), ("billing", "process"), ("ledger", "process")]
"""Who makes the spans of each checkpoint, and of which operation."""
RESOURCE = {
    "service.instance.id": "pod-7", "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": "1.45.1", "host.name": "node-7", "cloud.region": "eu-central-1",
}  # fmt: skip
SCOPE = b"\x0a\x2dopentelemetry.instrumentation.confluent_kafka"
MARKS = {
    "trace": b"T" * 16, "span": b"S" * 8, "start": b"1" * 8, "end": b"2" * 8, "id": b"i" * 36, "partition": b"#",
    "offset": b"\xc1\xc2\xc3\xc4\xc5\x46", "size": b"\xd1\x52",
}  # fmt: skip
"""What stands in the example where something is different in each span."""


def spans(hop: int) -> Callable[[Block], Body]:
    """Makes bodies of this hop's spans."""
    service, operation = HOPS[hop]
    resource = _block(0x0A, b"".join(_pair(n, v) for n, v in {"service.name": service, **RESOURCE}.items()))
    template = Template(_block(0x12, _example(operation)), MARKS)

    def body(block: Block) -> Body:
        made = template.filled(len(block), _places(block, hop)).tobytes()
        scope = _block(0x12, _block(0x0A, SCOPE) + made)
        return _block(0x0A, resource + scope)

    return body


def _example(operation: str) -> bytes:
    sending = operation == "send"
    texts = {
        "messaging.system": "kafka", "messaging.destination.name": FLOW, "messaging.operation.type": operation,
        "messaging.operation.name": operation, "messaging.message.id": MARKS["id"].decode(),
        "server.address": "broker-3.kafka.internal", "messaging.destination.partition.id": "#",
    } | ({} if sending else {"messaging.consumer.group.name": "billing"})  # fmt: skip
    sizes = {"messaging.kafka.offset": MARKS["offset"], "messaging.message.body.size": MARKS["size"]}
    made = Span(
        trace_id=MARKS["trace"], span_id=MARKS["span"], parent_span_id=b"P" * 8, name=f"{FLOW} {operation}",
        kind=Span.SPAN_KIND_PRODUCER if sending else Span.SPAN_KIND_CONSUMER,
        start_time_unix_nano=int.from_bytes(MARKS["start"], "little"),
        end_time_unix_nano=int.from_bytes(MARKS["end"], "little"),
    )  # fmt: skip
    made.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in texts.items())
    made.attributes.extend(KeyValue(key=key, value=AnyValue(int_value=_number(mark))) for key, mark in sizes.items())
    return bytes(made.SerializeToString())


def _places(block: Block, hop: int) -> Mapping[str, Bytes]:
    seen = block.seen[hop] * 1000
    number = np.arange(len(block), dtype=np.int64)
    return {
        "trace": block.traces,
        "span": (block.digests ^ np.uint8(hop)),
        "start": _fixed(seen - 2_000_000),
        "end": _fixed(seen),
        "id": block.ids,
        "partition": (number[:, None] % PARTITIONS + ord("0")).astype(np.uint8),
        "offset": _varints(block.offsets, 6),
        "size": _varints(block.sizes, 2),
    }


def _fixed(numbers: Numbers) -> Bytes:
    return numbers.astype("<u8").view(np.uint8).reshape(-1, 8)


def _varints(numbers: Numbers, width: int) -> Bytes:
    """All of one width, so numbers have to be of one magnitude."""
    out = np.stack([(numbers >> (7 * i)) & 127 | 128 for i in range(width)], axis=1).astype(np.uint8)
    out[:, -1] &= 127
    return out


def _number(varint: bytes) -> int:
    return sum((byte & 127) << (7 * i) for i, byte in enumerate(varint))


def _pair(key: str, text: str) -> bytes:
    return _block(0x0A, KeyValue(key=key, value=AnyValue(string_value=text)).SerializeToString())


def _block(tag: int, content: bytes) -> bytes:
    size, left = b"", len(content)
    while left > 127:
        size, left = size + bytes([left & 127 | 128]), left >> 7
    return bytes([tag]) + size + bytes([left]) + content


def walked(body: bytes) -> tuple[int, float]:
    """What Python needs to parse a body and walk over its attributes: spans, processor seconds."""
    began, count = time.process_time(), 0
    rows = []
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        known = {pair.key: pair.value.string_value for pair in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                said = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}
                rows.append((known, span.trace_id.hex(), span.span_id.hex(), span.end_time_unix_nano, span.kind, said))
                count += 1
    return count, time.process_time() - began
