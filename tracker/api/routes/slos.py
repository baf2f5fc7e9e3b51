"""What was promised and how it stands."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.reading import Cursor, Limit
from tracker.api.service import Service
from tracker.model.spec import FlowSpec
from tracker.model.units import say
from tracker.reconcile.books import verdicts
from tracker.slo.delivery import Delivery

routes = APIRouter(prefix="/v1/slos", tags=["slos"], dependencies=[Depends(allowed("read"))])


@routes.get("")
def list_slos(request: Request, cursor: Cursor = "", limit: Limit = 100) -> shapes.Page[shapes.Slo]:
    """Delivery objectives by flow. Other objectives of a spec are kept and not measured yet."""
    service = service_of(request)
    specs = [known.spec for name, known in sorted(service.specs.known().items()) if name > cursor]
    promised = [spec for spec in specs if spec.objectives.delivery]
    items = [slo_of(service, spec) for spec in promised[:limit]]
    return shapes.Page(items=items, next=items[-1].flow if len(promised) > limit else None)


def slo_of(service: Service, spec: FlowSpec) -> shapes.Slo:
    """The delivery objective of a flow over its window, as of the last pass."""
    promise = spec.objectives.delivery
    assert promise is not None
    now = service.clock()
    found, as_of = verdicts(service.store, service.control, spec, now - promise.window, now)
    counts = Delivery.of(found)
    return shapes.Slo(
        flow=spec.flow,
        owner=spec.owner,
        objective="delivery",
        target=promise.target,
        window=say(promise.window),
        good=counts.good,
        bad=counts.bad,
        blind=counts.blind,
        explained=counts.explained,
        in_flight=counts.in_flight,
        ratio=counts.ratio,
        met=counts.met(promise.target),
        as_of=as_of or None,
    )
