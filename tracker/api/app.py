"""The HTTP app: every route on one service."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

import tracker
from tracker.api import problem
from tracker.api.exports import Exports
from tracker.api.gate import Gate
from tracker.api.guard import Guard
from tracker.api.routes import (
    anomalies,
    audit,
    clickhouse,
    coverage,
    discovered,
    events,
    findings,
    flows,
    hops,
    incidents,
    messages,
    operations,
    reconciliation,
    recovery,
    replays,
    runbooks,
    slos,
    statements,
    traces,
)
from tracker.api.service import Service
from tracker.api.snapshot import Snapshot
from tracker.console import pages
from tracker.slo.metrics import BUILD

TITLE = "message tracker"
ABOUT = "Every message accounted for, by name, at every hop. Errors are problem details (RFC 9457), times RFC 3339 UTC."

SPANS: TelemetryConfig = {
    "tracing": True,
    "metrics": False,  # ours are defined in tracker.slo.metrics
    "logs": False,
    "auto_configure": False,  # tracker.cli.telemetry says where to
    "exclude": lambda scope: scope["path"] in ("/healthz", "/readyz", "/metrics"),  # asked all the time, by machines
}
"""What FastAPI tells OpenTelemetry of each request, where somebody listens."""


def create_app(service: Service) -> FastAPI:
    """The app. It owns nothing: whoever made `service` closes it after the app has ended."""
    app = FastAPI(
        title=TITLE, version=tracker.__version__, description=ABOUT, docs_url=None, redoc_url=None, telemetry=SPANS
    )
    app.state.service = service
    app.state.snapshot = Snapshot(service)
    service.metrics.replace(BUILD, {(tracker.__version__,): 1})
    problem.install(app)
    gate = Gate(service.limits, service.insecure, service.intake.turn_away)
    app.state.exports = Exports(service, gate)
    app.state.exports.traces.expect()
    app.include_router(events.router(gate))
    app.include_router(traces.router(app.state.exports))
    if service.reader:
        app.include_router(clickhouse.router(service.reader))
    for part in (
        coverage,
        discovered,  # before flows, for its path would be that of a flow of this name
        flows,
        reconciliation,
        statements,
        messages,
        findings,
        anomalies,
        incidents,
        hops,
        recovery,
        replays,
        slos,
        audit,
        runbooks,
        operations,
        pages,
    ):
        app.include_router(part.routes)
    app.add_middleware(Guard, service=service)
    return app
