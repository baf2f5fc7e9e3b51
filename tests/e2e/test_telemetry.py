"""The tracker as others see it by OpenTelemetry: its metrics and spans arrive at whoever takes OTLP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.service import Service, now_us, tracker

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
ASKS_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class Taker:
    """Takes OTLP over HTTP and keeps it."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        taker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                taker._take(self.path, body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            [one] = ExportMetricsServiceRequest.FromString(body).resource_metrics
            self.metrics = {metric.name: metric for scope in one.scope_metrics for metric in scope.metrics}
        else:
            [one] = ExportTraceServiceRequest.FromString(body).resource_spans
            self.spans += [span for scope in one.scope_spans for span in scope.spans]
        self.resources.append({a.key: a.value.string_value for a in one.resource.attributes})

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def taker() -> Iterator[Taker]:
    """Somebody who takes OTLP."""
    made = Taker()
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Any, taker: Taker) -> Iterator[Service]:
    """One that tells the taker of itself, often."""
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "300", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    made = Service(tmp_path, "--insecure", OTEL_EXPORTER_OTLP_ENDPOINT=taker.url, **often).start()
    yield made
    made.close()


def test_metrics_and_spans_arrive(service: Service, taker: Taker) -> None:
    """Counters without `_total`, histograms bucket by bucket, the caller's trace goes on, a pass is a span; and the
    trace is the example of its bucket."""
    event = {"flow": "orders", "message_id": "m-1", "hop": "checkout", "stage": "produce", "observed_at": now_us()}
    spec = "flow: orders\ncheckpoints: [{hop: checkout, stage: produce}]\n"
    service.http.put("/v1/flows", content=spec).raise_for_status()
    service.send([event], **CALLER)
    service.until(lambda: {span.name for span in taker.spans}, {"POST /v1/events", "reconcile.pass"}.issubset)
    [taken] = [span for span in taker.spans if span.name == "POST /v1/events"]
    assert (taken.trace_id.hex(), taken.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
    attributes = {a.key: a.value.int_value or a.value.string_value for a in taken.attributes}
    assert attributes["http.response.status_code"] == 200
    assert not [span.name for span in taker.spans if "/readyz" in span.name]
    service.until(lambda: taker.metrics.get("tracker_ingest_events"), bool)
    [counted] = taker.metrics["tracker_ingest_events"].sum.data_points
    assert (counted.as_double, {a.key: a.value.string_value for a in counted.attributes}) == (1.0, {"flow": "orders"})
    assert taker.metrics["tracker_ingest_events"].sum.is_monotonic
    [sizes] = taker.metrics["tracker_ingest_commit_rows"].histogram.data_points
    assert (sizes.count, sum(sizes.bucket_counts), sizes.bucket_counts[0]) == (sizes.count, sizes.count, 1)
    assert taker.metrics["tracker_store_up"].gauge.data_points[0].as_double == 1.0
    assert {(one["service.name"], bool(one["service.version"])) for one in taker.resources} == {("tracker", True)}
    shown = service.http.get("/metrics", headers=ASKS_OPENMETRICS)
    assert shown.headers["content-type"].startswith("application/openmetrics-text")
    assert f'# {{trace_id="{TRACE}"}}' in shown.text
    assert TRACE not in service.http.get("/metrics").text


def test_nobody_takes_them(tmp_path: Any) -> None:
    """The tracker works all the same, says so in its log, and ends as quickly as ever."""
    gone = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    service = Service(tmp_path, "--insecure", **gone).start()
    try:
        service.until(lambda: httpx.get(f"{service.url}/readyz").status_code, lambda status: status == 200)
        service.until(service.process.tail, lambda log: "Connection refused" in log or "metrics_not_exported" in log)
    finally:
        service.close()


def test_an_interval_that_is_none(tmp_path: Any) -> None:
    """Told at the start, with the variable's name."""
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRIC_EXPORT_INTERVAL": "soon"}
    done = tracker("serve", "--insecure", "--port", "0", TRACKER_STORE=f"chdb://{tmp_path}/ledger", **wrong)
    assert done.returncode == 2
    assert "OTEL_METRIC_EXPORT_INTERVAL='soon'" in done.stderr
