"""OTLP bodies, any of them: read as protobuf's own reader does, refused or taken as a whole, never anything else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.unit.ingest.lines import CONTEXT
from tests.unit.ingest.spans import ORDERS, body, reader, request, span, told
from tracker.ingest.errors import Refused
from tracker.ingest.otlp.jsoned import protobuf
from tracker.ingest.otlp.names import FIELDS
from tracker.ingest.prepare import prepare

SPEC = ORDERS.replace("service: checkout", "service: '*'").replace("service: billing", "service: '*'")
NAMES = [*sorted({name for names in FIELDS.values() for name in names}), "http.route", "x", ""]
scalars = (
    st.text(max_size=30)
    | st.sampled_from(["orders", "send", "process", "settle", "ack", "m-1"])
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.binary(max_size=10)
)
values = scalars | st.lists(scalars, max_size=3)
attributes = st.dictionaries(st.sampled_from(NAMES), values, max_size=10)
spans = st.builds(
    span,
    attributes,
    st.sampled_from(["internal", "client", "producer", "consumer"]),
    st.integers(1, 2**60),
    links=st.lists(attributes, max_size=3),
    error=st.booleans(),
    end=st.sampled_from([0, 1_800_000_000_000_000_000, 2**64 - 1]),
)
sane = settings(deadline=None, max_examples=60)


def whole(raw: bytes) -> None:
    """Reads a body; every span is accounted for, and every event is stored or in quarantine."""
    decoded, account = reader(SPEC).read(raw)
    batch = prepare([decoded], "", CONTEXT)
    events = decoded.frame.height + len(decoded.broken)
    assert batch.answer.accepted + batch.answer.quarantined == events
    assert account.spans >= account.other + sum(seen.count for seen in account.seen)
    assert events or account.spans == account.other + sum(seen.count for seen in account.seen)


@sane
@given(st.lists(spans, max_size=8))
def test_any_spans(found: list[Any]) -> None:
    """Whatever attributes they have."""
    whole(body(found))


@sane
@given(st.lists(spans, max_size=6), st.text(max_size=20))
def test_json_and_protobuf_say_the_same(found: list[Any], service: str) -> None:
    """One request in both encodings gives the same events."""
    sent = request(found, service)
    said = json_format.MessageToDict(sent)
    for group in said["resourceSpans"]:  # protobuf's own JSON has ids as base64 and enums as names, OTLP's has not
        for one, of in zip(group["scopeSpans"][0].get("spans", []), found, strict=True):
            one |= {"traceId": of.trace_id.hex(), "spanId": of.span_id.hex(), "kind": of.kind}
            one["status"] = {"code": of.status.code}
    assert told(protobuf(json.dumps(said).encode()), SPEC) == told(sent.SerializeToString(), SPEC)


@sane
@given(st.lists(spans, min_size=1, max_size=3), st.data())
def test_damaged_bodies(found: list[Any], data: st.DataObject) -> None:
    """A body cut off, or with some bytes changed, is taken or refused; what protobuf's own reader takes, is taken."""
    raw = bytearray(body(found))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    damaged = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        whole(damaged)
    except Refused:
        with suppress(DecodeError):
            ExportTraceServiceRequest.FromString(damaged)
            raise AssertionError("protobuf reads what we refuse") from None


@sane
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    """Taken or refused."""
    with suppress(Refused):
        whole(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["resourceSpans", "resource", "scopeSpans", "spans", "attributes", "key", "value", "links",
                         "stringValue", "intValue", "arrayValue", "values", "traceId", "kind", "status", "code"]),
        inner, max_size=4),
)  # fmt: skip


@sane
@given(json_values | st.binary(max_size=40))
def test_any_json(said: Any) -> None:
    """Taken or refused."""
    with suppress(Refused):
        whole(protobuf(said if isinstance(said, bytes) else json.dumps(said).encode()))


@sane
@given(st.lists(spans, max_size=6), st.lists(spans, max_size=6))
def test_the_same_spans_in_other_batches_have_the_same_keys(first: list[Any], second: list[Any]) -> None:
    """Who sends again may cut batches anew: what makes an event the same is in the span alone."""
    together = {_key(event) for event in told(body([*first, *second]), SPEC)}
    apart = {_key(event) for one in (*first, *second) for event in told(body([one]), SPEC)}
    assert together == apart


def _key(event: dict[str, Any]) -> tuple[Any, ...]:
    fields = ("flow", "message_id", "hop", "stage", "node", "delivery", "partition", "offset", "group", "attempt",
              "digest", "observed_at")  # fmt: skip
    return tuple(event.get(name) for name in fields)
