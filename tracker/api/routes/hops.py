"""That a hop is gone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from tracker.api import declared
from tracker.api.auth import allowed, service_of
from tracker.api.reading import moment, once_apart
from tracker.api.service import Service
from tracker.control.errors import Invalid, NotFound
from tracker.control.idempotency import Answer
from tracker.control.tokens import Principal
from tracker.reconcile.abandon import Abandoned, abandon
from tracker.store.held import Holdings, Place

routes = APIRouter(prefix="/v1/hops", tags=["hops"])


@routes.post("/abandon", response_model=declared.Abandoned)
def post_abandon(
    request: Request, wanted: declared.Abandonment, by: Annotated[Principal, Depends(allowed("admin"))]
) -> Response:
    """Declare that what a hop took since then is gone for good: a disk, a region. With `dry_run` it is only counted.

    Each copy is written off by a `drop` with reason `abandoned`, which cannot be taken back; messages whose last copy
    it was become `lost`. About 500,000 copies a call; `more` says that there may be others.
    """
    service = service_of(request)
    place = _place(service, wanted)

    def work() -> Answer:
        held = service.store.holdings(place)
        if wanted.dry_run:
            return _answer(place, held, Abandoned(held.messages, held.copies, False), dry_run=True)
        now, subject = service.clock(), f"hop/{place.flow}/{place.hop}"
        span = {"since": place.since, "until": place.until, "messages": held.messages, "copies": held.copies}
        if held.copies:  # before the deed, which has no transaction in common with it
            service.control.audit.append(now, by.name, "abandon", subject, wanted.reason, span)
        done = abandon(service.store, place, now, by.name, wanted.reason)
        return _answer(place, held, done, dry_run=False)

    return once_apart(request, by, wanted.model_dump_json().encode(), work)


def _place(service: Service, wanted: declared.Abandonment) -> Place:
    spec, now = service.specs.of(wanted.flow).spec, service.clock()
    if wanted.hop not in spec.hops:
        raise NotFound(f"flow {spec.flow!r} has no hop {wanted.hop!r}; it has: {', '.join(spec.hops)}")
    since, until = moment(wanted.since, now, "since"), moment(wanted.until, now, "until")
    if until <= since:
        raise Invalid("`until` must lie after `since`")
    outbox = any(point.outbox and wanted.hop in point.hop for point in spec.checkpoints)
    return Place(spec.flow, wanted.hop, since, until, outbox)


def _answer(place: Place, held: Holdings, done: Abandoned, dry_run: bool) -> Answer:
    shown = declared.Abandoned(
        flow=place.flow,
        hop=place.hop,
        since=place.since,
        until=place.until,
        dry_run=dry_run,
        messages=done.messages,
        copies=done.copies,
        verdicts=held.verdicts,
        more=done.more,
    )
    return Answer(200, shown.model_dump_json())
