"""What machines ask of the service itself: is it alive, is it ready, what does it measure."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tracker.api.auth import allowed, service_of
from tracker.api.problem import Problem
from tracker.api.service import Service
from tracker.control.errors import ControlError
from tracker.model.errors import TrackerError

routes = APIRouter(tags=["operations"])


@routes.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers. Restart it only when this fails; `/readyz` says whether it can work."""
    return {"status": "ok"}


@routes.get("/readyz")
def readyz(request: Request) -> dict[str, str]:
    """Store, control database and worker threads can do their work; 503 names those that cannot."""
    wrong = _wrong(service_of(request))
    if wrong:
        raise Problem(503, "; ".join(f"{name}: {reason}" for name, reason in wrong.items()), checks=wrong)
    return {"status": "ready"}


@routes.get("/metrics", dependencies=[Depends(allowed("read"))])
def metrics(request: Request) -> Response:
    """Prometheus text format; docs/metrics.md lists every name."""
    service = service_of(request)
    request.app.state.snapshot.refresh(service.clock())
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


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
