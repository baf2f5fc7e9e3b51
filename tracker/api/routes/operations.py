"""What machines ask of the service itself: is it alive, is it ready, what does it measure."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Request, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.problem import Problem
from tracker.api.service import Service
from tracker.control.errors import ControlError
from tracker.model.errors import TrackerError
from tracker.model.units import SECOND

routes = APIRouter(tags=["operations"])


@routes.get("/healthz", response_model_exclude_none=True)
def healthz(request: Request) -> shapes.Health:
    """The process answers. Restart it only when this fails; `/readyz` says whether it can work."""
    return shapes.Health(status="ok", spool=_spool(service_of(request)))


@routes.get("/readyz", response_model_exclude_none=True)
def readyz(request: Request, to: Literal["everything", "ingest"] = "everything") -> shapes.Health:
    """Store, control database and worker threads can do their work; 503 names those that cannot.

    `to=ingest`: ready to take events; a store that is down is no obstacle while its spool has room.
    """
    service = service_of(request)
    wrong, spool = _wrong(service), _spool(service)
    if to == "ingest" and spool and spool.bytes < spool.limit:
        wrong.pop("store", None)
    if wrong:
        told = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        raise Problem(503, told, checks=wrong, spool=spool.model_dump() if spool else None)
    return shapes.Health(status="ready", spool=spool)


@routes.get("/metrics", dependencies=[Depends(allowed("read"))])
def metrics(request: Request) -> Response:
    """Prometheus text format, or OpenMetrics with exemplars when asked for; docs/metrics.md lists every name."""
    service = service_of(request)
    request.app.state.snapshot.refresh(service.clock())
    text, kind = service.metrics.exposition(request.headers.get("accept", ""))
    return Response(text, media_type=kind)


def _spool(service: Service) -> shapes.SpoolState | None:
    committer = service.intake.committer
    spool = committer.spool
    if spool is None:
        return None
    oldest = spool.oldest()
    return shapes.SpoolState(
        bytes=spool.size,
        limit=spool.limit,
        oldest_s=(service.clock() - oldest) / SECOND if oldest else 0.0,
        drained_rows=committer.drained,
        set_aside=spool.set_aside,
    )


def _wrong(service: Service) -> dict[str, str]:
    wrong = {}
    for name, ping in (("store", service.store.ping), ("control", service.control.ping)):
        try:
            ping()
        except (TrackerError, ControlError) as error:
            wrong[name] = str(error)
    ended = {
        name: "its thread has ended; see the log, restart" for name, alive in service.threads.items() if not alive()
    }
    return wrong | ended
