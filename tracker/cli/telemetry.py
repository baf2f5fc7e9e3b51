"""The tracker seen by what its users have: with OTEL_EXPORTER_OTLP_ENDPOINT set, its own metrics and spans go there.

All that OpenTelemetry defines for its SDK by environment variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) is as anywhere else: headers, a part
of the traces only, the interval, the name of the service.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

import tracker
from tracker.cli.errors import CommandError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry

    from tracker.slo.metrics import Metrics

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_MS = 60_000.0
"""Between two exports of metrics, where the variable says nothing: OpenTelemetry's default."""
ENDING_S = 5.0
"""Seconds that the last export gets."""


def wanted() -> bool:
    """Whether the environment says where to."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


@contextmanager
def telling(metrics: Metrics, refresh: Callable[[], None]) -> Iterator[None]:
    """Metrics and spans go out while this is open, and once more at its end; where nobody wants them, nothing happens.
    `refresh` brings the metrics up to date. Whoever takes them may be away: that is logged and costs nothing else.

    Raises CommandError when they are wanted and cannot be sent.
    """
    if not wanted():
        yield
        return
    interval = _interval()
    if find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise CommandError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but what sends to it is not installed: "
            "pip install 'message-tracker[telemetry]', or unset it"
        )
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "tracker"}
    resource = Resource.create({"service.version": tracker.__version__, **named})
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(spans)
    pushing = Pushing(metrics.registry, resource, refresh, interval)
    try:
        yield
    finally:
        pushing.close()
        spans.shutdown()


class Pushing:
    """Exports all metrics every `interval` seconds, in a thread."""

    def __init__(
        self, registry: CollectorRegistry, resource: Resource, refresh: Callable[[], None], interval: float
    ) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        self._registry, self._resource, self._refresh, self._interval = registry, resource, refresh, interval
        self._exporter, self._began = OTLPMetricExporter(), time.time_ns()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._push()
        self._push()

    def _push(self) -> None:
        from tracker.slo.otlp import converted

        try:
            self._refresh()
            self._exporter.export(converted(self._registry, self._resource, self._began, time.time_ns()))
        except Exception as error:  # noqa: BLE001 - foreign code at the top of a thread; the next export has it all
            log.warning("metrics_not_exported", reason=str(error))

    def close(self) -> None:
        """Once more, and no more."""
        self._stop.set()
        self._thread.join(ENDING_S)
        self._exporter.shutdown(ENDING_S * 1000)


def _interval() -> float:
    text = os.environ.get(INTERVAL, "") or str(INTERVAL_MS)
    try:
        seconds = float(text) / 1000
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise CommandError(f"{INTERVAL}={text!r}: milliseconds between two exports, more than 0")
    return seconds
