"""The same events in every format that the way in reads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.unit.ingest.spans import pairs

Events = Sequence[Mapping[str, Any]]
"""As a client writes them: fields of the wire, times in µs, digests as hex."""

TIMES = ("observed_at", "observed_from", "origin_at")
NUMBERS = ("size", "offset", "offset_to", "attempt")


@dataclass(frozen=True)
class Format:
    """Where bodies go, what they are called, how they are made."""

    path: str
    content_type: str
    body: Callable[[Events], bytes]

    @property
    def headers(self) -> dict[str, str]:
        """What a request says of its body."""
        return {"Content-Type": self.content_type}


def ndjson(events: Events) -> bytes:
    """One object a line."""
    return b"\n".join(json.dumps(event).encode() for event in events)


def array(events: Events) -> bytes:
    """One JSON array."""
    return json.dumps(list(events)).encode()


def arrow(events: Events) -> bytes:
    """An Arrow IPC stream of one batch, typed, with dictionaries for words, compressed as an emitter's is."""
    names = {name: None for event in events for name in event}
    columns = {name: _column(name, [event.get(name) for event in events]) for name in names}
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _column(name: str, values: list[Any]) -> pa.Array:
    if name in TIMES:
        return pa.array(values, pa.int64()).cast(pa.timestamp("us", "UTC"))
    if name in NUMBERS:
        return pa.array(values, pa.int64())
    if name == "digest":
        return pa.array([None if value is None else int(value, 16) for value in values], pa.uint64())
    if name == "attributes":
        return pa.array([list(value.items()) if value else None for value in values], pa.map_(pa.string(), pa.string()))
    if name == "backfill":
        return pa.array(values, pa.bool_())
    column = pa.array(values, pa.string())
    return column if name in ("message_id", "trace_id", "delivery") else column.dictionary_encode()


def otlp(events: Events) -> bytes:
    """An ExportTraceServiceRequest of protobuf: a span for each event, which says itself what it is."""
    return bytes(_request(events).SerializeToString())


def otlp_json(events: Events) -> bytes:
    """The same as OTLP's JSON, where ids are hex."""
    said = json_format.MessageToDict(_request(events), use_integers_for_enums=True)
    for span in said["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId"):
            span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(said).encode()


def _request(events: Events) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=map(_span, events))])])


def _span(event: Mapping[str, Any]) -> Span:
    """Its id follows from what it tells: the same event is the same span."""
    said = {ATTRIBUTES[name]: value for name, value in event.items() if name in ATTRIBUTES}
    if "partition" in event:
        topic, _, number = event["partition"].rpartition("/")
        said |= {"messaging.destination.name": topic, "messaging.destination.partition.id": number}
    ident = hashlib.sha256(json.dumps(event, sort_keys=True).encode()).digest()
    trace, end = bytes.fromhex(event.get("trace_id", "")), event["observed_at"] * 1000
    return Span(
        trace_id=trace or ident[:16], span_id=ident[16:24], name="event", kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=end, end_time_unix_nano=end, attributes=pairs(said),
    )  # fmt: skip


ATTRIBUTES = {
    "flow": "tracker.flow",
    "hop": "tracker.hop",
    "stage": "tracker.stage",
    "message_id": "tracker.message_id",
    "reason": "tracker.reason",
    "delivery": "tracker.delivery",
    "origin_at": "tracker.origin_at",
    "digest": "tracker.digest",
    "node": "service.instance.id",
    "offset": "messaging.kafka.offset",
    "group": "messaging.consumer.group.name",
    "size": "messaging.message.body.size",
}
"""Which attribute of a span says what a field of an event does."""

FORMATS = {
    "ndjson": Format("/v1/events", "application/x-ndjson", ndjson),
    "json": Format("/v1/events", "application/json", array),
    "arrow": Format("/v1/events", "application/vnd.apache.arrow.stream", arrow),
    "otlp": Format("/v1/traces", "application/x-protobuf", otlp),
    "otlp-json": Format("/v1/traces", "application/json", otlp_json),
}
