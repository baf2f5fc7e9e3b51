"""OpenTelemetry's own SDK and exporter, sending to a real service."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from tests.e2e.service import Service, tracker
from tests.servers.ports import free_port
from tests.unit.ingest.spans import PROCESSED, SENT, body, span
from tracker.api.rpc import EXPORT

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce, match: {service: checkout, destination: orders}}
  - {hop: billing, stage: ack, after: checkout, within: 1m, at_most: 1, match: {service: bill*, destination: orders}}
"""
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def otlp_port() -> int:
    """The second port that the service listens on."""
    return free_port()


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """Where it takes calls over gRPC."""
    return free_port()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, otlp_port: int, grpc_port: int) -> Iterator[Service]:
    """A tracker that knows the flow."""
    folder: Path = tmp_path_factory.mktemp("otlp")
    ports = {"TRACKER_OTLP_PORT": str(otlp_port), "TRACKER_OTLP_GRPC_PORT": str(grpc_port)}
    started = Service(folder, "--insecure", **ports).start()
    try:
        started.http.put("/v1/flows", content=SPEC).raise_for_status()
        started.until(lambda: _ready(started), bool)
        yield started
    finally:
        started.close()


def _ready(service: Service) -> bool:
    answer = service.http.post("/v1/traces", content=b"", headers=PROTOBUF)
    assert answer.status_code in (200, 503)
    return answer.status_code == 200


def provider(endpoint: str, name: str, exporter: SpanExporter | None = None) -> TracerProvider:
    """As the application `name` sets it up."""
    made = TracerProvider(resource=Resource.create({"service.name": name, "service.instance.id": "pod-1"}))
    exporter = exporter or OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def verdict(service: Service, message: str) -> str:
    """What became of a message, once a pass has seen it."""
    path = f"/v1/flows/orders/messages/{message}"
    answered = service.until(lambda: service.http.get(path), lambda got: got.status_code == 200)
    return str(answered.json()["verdict"])


def test_a_message_is_followed_by_spans_alone(service: Service, otlp_port: int) -> None:
    """Sent by one application, failed and then processed by another: delivered, by way of a nack."""
    shop = provider(service.url, "checkout")
    billing = provider(f"http://127.0.0.1:{otlp_port}", "billing").get_tracer("t")
    identified = {"messaging.message.id": "o-1"}
    with shop.get_tracer("t").start_as_current_span(
        "orders send", kind=SpanKind.PRODUCER, attributes=SENT | identified
    ):
        time.sleep(0.001)
    with billing.start_as_current_span("p", kind=SpanKind.CONSUMER, attributes=PROCESSED | identified) as first:
        first.set_attribute("error.type", "Timeout")
        first.set_status(Status(StatusCode.ERROR))
    with billing.start_as_current_span("p", kind=SpanKind.CONSUMER, attributes=PROCESSED | identified):
        pass
    service.until(lambda: verdict(service, "o-1"), lambda said: said == "delivered")
    told = service.get("/v1/flows/orders/messages/o-1")["timeline"]
    assert [(e["hop"], e["stage"]) for e in told] == [("checkout", "produce"), ("billing", "nack"), ("billing", "ack")]
    assert {e["node"] for e in told} == {"pod-1"}


@pytest.mark.parametrize("placed", [{}, {"messaging.destination.partition.id": "0", "messaging.kafka.offset": 7}])
def test_a_body_that_is_sent_again_counts_once(service: Service, placed: dict[str, object]) -> None:
    """Also in another batch: the delivery is the place in the log, or else the span."""
    message = f"again-{len(placed)}"
    said = {"messaging.message.id": message, **placed}
    now = time.time_ns()
    sent = span(SENT | said, number=21, start=now, end=now + 1000)
    taken = span(PROCESSED | said, "consumer", number=22, start=now, end=now + 2000)
    bodies = [body([sent]), body([taken], "billing"), body([sent, sent]), body([taken], "billing")]
    for one in bodies:
        service.http.post("/v1/traces", content=one, headers=PROTOBUF).raise_for_status()
    service.until(lambda: verdict(service, message), lambda said: said == "delivered")
    told = service.get(f"/v1/flows/orders/messages/{message}")
    assert (told["flags"], len(told["timeline"])) == ([], 2)


def test_a_flow_is_drafted_from_what_was_seen(service: Service, tmp_path: Path) -> None:
    """From spans that no flow takes to a spec that takes them, by the command line."""
    shop = provider(service.url, "till").get_tracer("t")
    said = {"messaging.destination.name": "bills", "messaging.message.id": "b-1"}
    with shop.start_as_current_span("bills send", kind=SpanKind.PRODUCER, attributes=SENT | said):
        pass
    shown = service.cli("flows", "discover")
    assert "bills" in shown.stdout
    assert "flow: bills" in shown.stdout
    service.cli("flows", "discover", "--out", str(tmp_path / "drafts")).check_returncode()
    service.cli("flows", "put", str(tmp_path / "drafts" / "bills.yaml")).check_returncode()
    with shop.start_as_current_span("bills send", kind=SpanKind.PRODUCER, attributes=SENT | said):
        pass
    path = "/v1/flows/bills/messages/b-1"
    service.until(lambda: service.http.get(path).status_code, lambda status: status == 200)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_is_followed_over_grpc(service: Service, grpc_port: int, compression: grpc.Compression) -> None:
    """By the SDK's exporter for gRPC, as by the one for HTTP."""
    message = f"grpc-{compression.name}"
    for name, said, kind in (("checkout", SENT, SpanKind.PRODUCER), ("billing", PROCESSED, SpanKind.CONSUMER)):
        exporter = GrpcExporter(endpoint=f"http://127.0.0.1:{grpc_port}", insecure=True, compression=compression)
        application = provider("", name, exporter)
        attributes = said | {"messaging.message.id": message, "note": "x" * 2000}
        with application.get_tracer("t").start_as_current_span("o", kind=kind, attributes=attributes):
            pass
        application.shutdown()
    service.until(lambda: verdict(service, message), lambda said: said == "delivered")
    told = service.get(f"/v1/flows/orders/messages/{message}")["timeline"]
    assert [(e["hop"], e["stage"], e["node"]) for e in told] == [
        ("checkout", "produce", "pod-1"), ("billing", "ack", "pod-1")]  # fmt: skip


def test_what_came_over_grpc_and_http_counts_once(service: Service, grpc_port: int) -> None:
    """Which way a span comes does not matter to what it is."""
    now = time.time_ns()
    said = {"messaging.message.id": "both-ways"}
    sent = body([span(SENT | said, number=31, start=now, end=now + 1000)])
    taken = body([span(PROCESSED | said, "consumer", number=32, start=now, end=now + 2000)], "billing")
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        export: Any = channel.unary_unary(EXPORT)
        for one in (sent, taken, taken):
            assert export(one, timeout=30) == b""
            service.http.post("/v1/traces", content=one, headers=PROTOBUF).raise_for_status()
    service.until(lambda: verdict(service, "both-ways"), lambda said: said == "delivered")
    told = service.get("/v1/flows/orders/messages/both-ways")
    assert (told["flags"], len(told["timeline"])) == ([], 2)


def test_a_port_for_grpc_that_is_taken(service: Service, grpc_port: int, tmp_path: Path) -> None:
    """Told before the ledger is opened, with the setting that names another."""
    done = tracker("serve", "--port", "0", TRACKER_STORE=f"chdb://{tmp_path}/l", TRACKER_OTLP_GRPC_PORT=str(grpc_port))
    assert done.returncode == 3
    assert f"port {grpc_port} of 127.0.0.1 is taken" in done.stderr
    assert "TRACKER_OTLP_GRPC_PORT" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_is_set_up_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/otlp.md has it, with a token; what comes before spans can be read is sent again when we asked for it."""
    port = free_port()
    started = Service(tmp_path, TRACKER_OTLP_GRPC_PORT=str(port)).start()
    try:
        token = re.search(r"mt_\w+_\S+", started.process.log.read_text())[0]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{token}")
        started.http.headers["Authorization"] = f"Bearer {token}"
        started.http.put("/v1/flows", content=SPEC).raise_for_status()
        shop = provider("", "checkout", GrpcExporter())
        attributes = SENT | {"messaging.message.id": "by-environment"}
        with shop.get_tracer("t").start_as_current_span("o", kind=SpanKind.PRODUCER, attributes=attributes):
            pass
        started.until(lambda: verdict(started, "by-environment"), lambda said: said == "in_flight")
        shop.shutdown()
    finally:
        started.close()


def test_the_service_stops_with_connections_open(tmp_path: Path) -> None:
    """It ends in time and in order while an exporter holds a connection over gRPC."""
    port = free_port()
    started = Service(tmp_path, "--insecure", TRACKER_OTLP_GRPC_PORT=str(port)).start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            export: Any = channel.unary_unary(EXPORT)
            for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
                with pytest.raises(grpc.RpcError):
                    export(b"\x0a\xff" * 99, timeout=30, compression=compression)
            started.process.stop()
        told = started.process.tail()
        assert "everything that was answered is stored" in told
        assert "deflate" not in told, "what senders do wrong is not written to stderr by gRPC"
    finally:
        started.close()
