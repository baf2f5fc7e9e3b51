"""Designs for reading OTLP protobuf, on one body: `python -m tests.benchmarks.otlp [--cold]` prints one JSON line.

Processor time per span, all threads, µs: `walk` is what the tracker does until it has columns (`walk_alone` the walk
over the bytes, the rest is gathering and matching), `prepare` the checks that follow; `python_walk` parses with
protobuf's own C library and looks at each attribute in Python, `python_parse` is that library alone; `engine` is the
embedded engine reading the same bytes by a trimmed schema and giving the same columns back. `json` is the same request
in JSON.

With `--cold` it also measures a process that loads the reader: `import_s` and `ready_s` with its code kept on disk,
`compile_s` without, `rss_mb` and `compile_rss_mb` what it adds to a process that has polars and pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracker.model.spec import load_spec

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, match: {service: checkout, destination: orders}}
  - {hop: billing, stage: ack, after: checkout, within: 1m, match: {service: billing, destination: orders}}
"""
AT = 1_800_000_000_000_000_000
PER_RESOURCE = 512
"""What a batch span processor sends at a time; a collector joins such batches."""
SCHEMA = """syntax = "proto3";
message AnyValue { string string_value = 1; int64 int_value = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message Status { uint32 code = 3; }
message Span { bytes trace_id = 1; bytes span_id = 2; uint32 kind = 6; fixed64 start_time_unix_nano = 7;
  fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; Status status = 15; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Request { repeated ResourceSpans resource_spans = 1; }
"""
_PAIRS = "Array(Tuple(key String, value Tuple(string_value String, int_value Int64)))"
_TYPE = f"""resource_spans Array(Tuple(resource Tuple(attributes {_PAIRS}), scope_spans Array(Tuple(spans Array(Tuple(
trace_id String, span_id String, kind UInt32, start_time_unix_nano UInt64, end_time_unix_nano UInt64,
attributes {_PAIRS}, status Tuple(code UInt32)))))))"""
_KEYS = ("messaging.system", "messaging.destination.name", "messaging.operation.type", "messaging.operation.name",
         "messaging.message.id", "messaging.destination.partition.id", "messaging.consumer.group.name",
         "messaging.kafka.offset")  # fmt: skip


def request(spans: int, seed: int = 1) -> ExportTraceServiceRequest:
    """Sends and processes of one topic: 8 attributes a span, 8 of each resource, 413 bytes a span."""
    rng = random.Random(seed)
    made = ExportTraceServiceRequest()
    at = AT
    for first in range(0, spans, PER_RESOURCE):
        group, consumer = made.resource_spans.add(), first // PER_RESOURCE % 2
        said = {"service.name": "billing" if consumer else "checkout", "service.instance.id": f"pod-{first % 16}",
                "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", "host.name": "node-7",
                "telemetry.sdk.version": "1.45.1", "cloud.region": "eu-central-1",
                "k8s.namespace.name": "shop"}  # fmt: skip
        _say(group.resource.attributes, said)
        scope = group.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.confluent_kafka"
        for number in range(first, min(first + PER_RESOURCE, spans)):
            at += rng.randrange(100_000)
            _span(scope.spans.add(), rng, number, consumer, at)
    return made


def _span(span: Any, rng: random.Random, number: int, consumer: int, at: int) -> None:
    what = "process" if consumer else "send"
    span.trace_id, span.span_id, span.parent_span_id = rng.randbytes(16), rng.randbytes(8), rng.randbytes(8)
    span.name, span.kind = f"orders {what}", 5 if consumer else 4
    span.start_time_unix_nano, span.end_time_unix_nano = at, at + 2_000_000
    said = {"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": what,
            "messaging.operation.name": what, "messaging.message.id": str(uuid.UUID(int=rng.getrandbits(128))),
            "messaging.destination.partition.id": str(rng.randrange(12)),
            "server.address": "broker-3.kafka.internal"}  # fmt: skip
    _say(span.attributes, said | ({"messaging.consumer.group.name": "billing"} if consumer else {}))
    if consumer:
        offset = span.attributes.add()
        offset.key, offset.value.int_value = "messaging.kafka.offset", 1_000_000 + number
    span.status.code = 1 if number % 100 else 0


def _say(attributes: Any, said: dict[str, str]) -> None:
    for key, value in said.items():
        one = attributes.add()
        one.key, one.value.string_value = key, value


def body(spans: int, seed: int = 1) -> bytes:
    """The request as bytes."""
    return bytes(request(spans, seed).SerializeToString())


def as_json(sent: ExportTraceServiceRequest) -> bytes:
    """The request in OTLP's JSON, whose ids are hex, unlike those of protobuf's own."""
    said = json_format.MessageToDict(sent, use_integers_for_enums=True)
    for group, of in zip(said["resourceSpans"], sent.resource_spans, strict=True):
        for one, span in zip(group["scopeSpans"][0]["spans"], of.scope_spans[0].spans, strict=True):
            one |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "parentSpanId": ""}
    return json.dumps(said).encode()


def python_walk(raw: bytes) -> list[tuple[Any, ...]]:
    """What a service without columns does."""
    rows = []
    for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
        inherited = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                said = dict(inherited)
                for one in span.attributes:
                    said[one.key] = getattr(one.value, one.value.WhichOneof("value"))
                rows.append((span.trace_id.hex(), span.span_id.hex(), span.kind, span.start_time_unix_nano,
                             span.end_time_unix_nano, span.status.code, *map(said.get, _KEYS)))  # fmt: skip
    return rows


def engine_reader(folder: Path, raw: bytes) -> Callable[[], Any]:
    """The embedded engine on a file of these bytes; its columns come back as Arrow."""
    import clickhouse_connect

    (folder / "body.bin").write_bytes(raw)
    client = clickhouse_connect.get_client(interface="chdb", path=str(folder / "data"))
    value = "concat(a.value.string_value, if(a.value.int_value != 0, toString(a.value.int_value), ''))"
    to_map = f"CAST((arrayMap(a -> a.key, %s), arrayMap(a -> {value}, %s)), 'Map(LowCardinality(String), String)')"
    said = ", ".join(f"said['{key}'] AS c{n}" for n, key in enumerate(_KEYS))
    query = f"""
        WITH groups AS (SELECT arrayJoin(resource_spans) AS g FROM file('{folder / "body.bin"}', 'ProtobufSingle',
                '{_TYPE.replace(chr(10), " ")}')),
            spans AS (SELECT g.resource.attributes AS r, arrayJoin(arrayJoin(g.scope_spans).spans) AS s FROM groups),
            read AS (SELECT s, {to_map % ("r", "r")} AS resource, {to_map % ("s.attributes", "s.attributes")} AS said
                FROM spans)
        SELECT lower(hex(s.trace_id)), lower(hex(s.span_id)), s.kind, s.start_time_unix_nano, s.end_time_unix_nano,
            s.status.code, resource['service.name'], resource['service.instance.id'], resource['cloud.region'], {said}
        FROM read"""
    settings = {"format_schema": SCHEMA, "format_schema_source": "string", "format_schema_message_name": "Request"}
    return lambda: client.query_arrow(query, settings=settings)


def cpu(work: Callable[[], Any], rounds: int) -> float:
    """The least processor time of one call, s: the machine has other things to do."""

    def used() -> float:
        now = resource.getrusage(resource.RUSAGE_SELF)
        return now.ru_utime + now.ru_stime

    taken = []
    for _ in range(rounds):
        before = used()
        work()
        taken.append(used() - before)
    return min(taken)


def warm(spans: int, rounds: int) -> dict[str, Any]:
    """Every design on the same body."""
    import numpy as np

    from tracker.ingest.asked import KnownFlow
    from tracker.ingest.otlp import walk
    from tracker.ingest.otlp.jsoned import protobuf
    from tracker.ingest.otlp.read import Reader
    from tracker.ingest.prepare import Context, prepare

    sent = request(spans)
    raw, few = bytes(sent.SerializeToString()), min(spans, 4000)
    said = as_json(request(few))  # a body in JSON may not be as large
    reader = Reader([load_spec(SPEC)])
    context = Context({"orders": KnownFlow()}, salt=7, source="benchmark", now=AT // 1000)
    decoded, account = reader.read(raw)
    assert (decoded.frame.height, account.spans, len(python_walk(raw))) == (spans, spans, spans)
    table, buf = reader.table, np.frombuffer(raw, np.uint8)
    alone = lambda: walk.walk(  # noqa: E731
        table.lines, table.letters, buf, table.naming, np.empty((spans + 1, walk.HEAD + table.slots), np.int64)
    )
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)  # the engine keeps the schema in the working folder
        engine = engine_reader(Path(folder), raw)
        designs = {
            "walk": lambda: reader.read(raw),
            "walk_alone": alone,
            "prepare": lambda: prepare([reader.read(raw)[0]], "", context),
            "python_walk": lambda: python_walk(raw),
            "python_parse": lambda: ExportTraceServiceRequest.FromString(raw),
            "engine": engine,
        }
        json_taken = cpu(lambda: reader.read(protobuf(said)), rounds) / few * 1e6
        taken = {name: cpu(work, rounds) / spans * 1e6 for name, work in designs.items()}
        os.chdir(before)
    taken["json"] = json_taken
    taken["prepare"] -= taken["walk"]
    return {"spans": spans, "bytes_per_span": len(raw) // spans, **{name: round(us, 2) for name, us in taken.items()}}


_COLD = """
import time
import polars, pyarrow, numpy
def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
before = rss()
t = time.process_time()
import numba
imported = time.process_time() - t
from tracker.ingest.otlp.traces import Traces
t = time.process_time()
assert Traces(dict).wait(300)
print(imported, time.process_time() - t, rss() - before)
"""


def cold() -> dict[str, float]:
    """Processes of their own: once without kept code, then with it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}

        def once() -> list[float]:
            done = subprocess.run([sys.executable, "-c", _COLD], env=environment, capture_output=True, text=True)
            return [float(number) for number in done.stdout.split()]

        _, compiled, peak = once()
        imported, ready, rss = once()
    return {"import_s": round(imported, 2), "ready_s": round(ready, 2), "rss_mb": round(rss),
            "compile_s": round(compiled, 2), "compile_rss_mb": round(peak)}  # fmt: skip


def main() -> None:
    """One JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--spans", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--cold", action="store_true", help="also the cost of a process that begins")
    told = options.parse_args()
    print(json.dumps(warm(told.spans, told.rounds) | (cold() if told.cold else {})))


if __name__ == "__main__":
    main()
