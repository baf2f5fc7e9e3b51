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
from tracker.model.units import rfc3339
from tracker.reconcile.abandon import Abandoned, abandon, handed_to
from tracker.store.held import Place

routes = APIRouter(prefix="/v1/hops", tags=["hops"])


@routes.post("/abandon", response_model=declared.Abandoned)
def post_abandon(
    request: Request, wanted: declared.Abandonment, by: Annotated[Principal, Depends(allowed("admin"))]
) -> Response:
    """Declare that what a hop took since then is gone for good: a disk, a region. With `dry_run` it is only counted.

    Each copy is written off by a `drop` with reason `abandoned`, which cannot be taken back; messages whose last copy
    it was become `lost`. About 200,000 copies a call; `next` says where to go on.
    """
    service = service_of(request)
    place = _place(service, wanted)

    def work() -> Answer:
        if wanted.dry_run:
            held = service.store.holdings(place)
            return _answer(place, Abandoned(held.messages, held.copies, ""), held.verdicts)
        now, span = service.clock(), {"since": rfc3339(place.since), "until": rfc3339(place.until)}
        # Before the deed, which has no transaction in common with it.
        detail = span | {"after": wanted.after}
        service.control.audit.append(now, by.name, "abandon", f"hop/{place.flow}/{place.hop}", wanted.reason, detail)
        return _answer(place, abandon(service.store, place, now, by.name, wanted.reason, wanted.after))

    return once_apart(request, by, wanted.model_dump_json().encode(), work)


def _place(service: Service, wanted: declared.Abandonment) -> Place:
    spec, now = service.specs.of(wanted.flow).spec, service.clock()
    if wanted.hop not in spec.hops:
        raise NotFound(f"flow {spec.flow!r} has no hop {wanted.hop!r}; it has: {', '.join(spec.hops)}")
    since, until = moment(wanted.since, now, "since"), moment(wanted.until, now, "until")
    if until <= since:
        raise Invalid("`until` must lie after `since`")
    outbox = any(point.outbox and wanted.hop in point.hop for point in spec.checkpoints)
    handed = handed_to(spec, wanted.hop) if wanted.unseen else ()
    if wanted.unseen and not handed:
        why = "what it was handed has a copy, or another hop may have taken it"
        raise Invalid(f"`unseen`: {wanted.hop} is not the one hop that comes right after a `produce`: {why}")
    return Place(spec.flow, wanted.hop, since, until, outbox, handed)


def _answer(place: Place, done: Abandoned, verdicts: dict[str, int] | None = None) -> Answer:
    shown = declared.Abandoned(
        flow=place.flow,
        hop=place.hop,
        since=place.since,
        until=place.until,
        dry_run=verdicts is not None,
        messages=done.messages,
        copies=done.copies,
        verdicts=verdicts or {},
        next=done.next or None,
    )
    return Answer(200, shown.model_dump_json())
