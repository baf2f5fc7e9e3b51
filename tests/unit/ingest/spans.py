"""OTLP bodies as SDKs send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tracker.ingest.otlp.read import Reader
from tracker.model.spec import load_spec

AT = 1_800_000_000_000_000_000
KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
ORDERS = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, match: {service: checkout, destination: orders}}
  - {hop: billing, stage: ack, after: checkout, within: 1m, match: {service: billing, destination: orders}}
"""
SENT = {"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "send"}
PROCESSED = SENT | {"messaging.operation.type": "process"}


def value(said: Any) -> AnyValue:
    """A Python value as an attribute's."""
    match said:
        case bool():
            return AnyValue(bool_value=said)
        case int():
            return AnyValue(int_value=said)
        case float():
            return AnyValue(double_value=said)
        case bytes():
            return AnyValue(bytes_value=said)
        case list():
            made = AnyValue()
            made.array_value.values.extend(value(one) for one in said)
            return made
        case _:
            return AnyValue(string_value=said)


def pairs(said: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes."""
    return [KeyValue(key=key, value=value(one)) for key, one in said.items()]


def span(said: Mapping[str, Any], kind: str = "producer", number: int = 1, **more: Any) -> Span:
    """A span of two milliseconds. `links` are the attributes of each; `error` sets the status."""
    made = Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name="orders",
        kind=Span.SpanKind.ValueType(KINDS[kind]),
        start_time_unix_nano=more.get("start", AT),
        end_time_unix_nano=more.get("end", AT + 2_000_000),
        attributes=pairs(said),
    )
    for link in more.get("links", ()):
        made.links.append(Span.Link(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=pairs(link)))
    if more.get("error"):
        made.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="no"))
    return made


def request(spans: Sequence[Span], service: str = "checkout", **resource: Any) -> ExportTraceServiceRequest:
    """Spans of one service; `resource` has further attributes, `_` for a dot."""
    said = {"service.name": service} | {key.replace("_", "."): one for key, one in resource.items()}
    group = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    group.resource.attributes.extend(pairs(said))
    return ExportTraceServiceRequest(resource_spans=[group])


def body(spans: Sequence[Span], service: str = "checkout", **resource: Any) -> bytes:
    """The same as protobuf."""
    return request(spans, service, **resource).SerializeToString()


@cache
def reader(*specs: str) -> Reader:
    """A reader of these flows; of orders when none is given."""
    return Reader([load_spec(spec) for spec in specs or (ORDERS,)])


def told(body: bytes, *specs: str) -> list[dict[str, Any]]:
    """The events of a body, without what is null."""
    decoded, _ = reader(*specs).read(body)
    frame = decoded.frame
    for name, words in decoded.words.items():
        frame = frame.with_columns(words.gather(frame[name]).alias(name)) if name in frame.columns else frame
    return [{key: one for key, one in row.items() if one is not None} for row in frame.to_dicts()]
