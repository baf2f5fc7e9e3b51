"""OTLP traces over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp): spans about messages become events."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
import structlog
from fastapi import APIRouter, Depends, Header, Request, Response

from tracker.api.auth import allowed, service_of
from tracker.api.gate import Gate
from tracker.api.problem import RETRY_AFTER, Problem, status_of
from tracker.api.reading import body_of
from tracker.api.routes.events import count, durable
from tracker.api.service import Service
from tracker.control.errors import ControlError
from tracker.control.sightings import Sighting
from tracker.control.tokens import Principal
from tracker.ingest import body as bodies
from tracker.ingest.batch import Batch
from tracker.ingest.otlp import answer
from tracker.ingest.otlp.account import FAILED, NO_FLOW, NO_ID, NO_STAGE, Account, Seen
from tracker.ingest.otlp.traces import Traces, media_type
from tracker.model.errors import TrackerError
from tracker.slo.metrics import REFUSED, SPANS

log = structlog.get_logger()


def router(gate: Gate, traces: Traces) -> APIRouter:
    """The route, behind the same gate as events."""
    routes = APIRouter(tags=["ingest"])

    @routes.post("/v1/traces", response_class=Response)
    async def post_traces(
        request: Request,
        by: Annotated[Principal, Depends(allowed("ingest"))],
        content_type: Annotated[str, Header()] = "",
        content_encoding: Annotated[str, Header()] = "",
    ) -> Response:
        """Take an ExportTraceServiceRequest, protobuf or JSON; gzip or zstd. Answered when its events are durable.

        Spans that are not about messages are left out. `partial_success` counts the spans that match a flow and could
        not be taken: without a message id, or quarantined.
        """
        service, kind = service_of(request), answer.PROTOBUF
        try:
            kind = media_type(content_type)
            async with gate.slot(by.id):
                traces.check()
                now = service.clock()
                body = await body_of(request)
                gate.charge(by.id, size=len(body))

                def read() -> tuple[Batch, Account]:
                    whole = bodies.inflate(body, content_encoding, service.intake.inflated)
                    decoded, account = traces.read(whole, kind)
                    return service.intake.prepared([decoded], "", by.name, now), account

                batch, account = await gate.decode(by.id, read)
                gate.charge(by.id, events=batch.answer.accepted + batch.answer.quarantined)
                taken = await durable(service, batch)
            await anyio.to_thread.run_sync(_note, service, batch, account, now)
        except (TrackerError, ControlError, Problem) as error:
            return _refused(service, kind, error)
        lost = account.count(NO_ID)
        rejected = taken.quarantined + lost
        return Response(answer.response(kind, rejected, _why(batch, account)), media_type=kind)

    return routes


def _refused(service: Service, kind: str, error: TrackerError | ControlError | Problem) -> Response:
    code = error.status if isinstance(error, Problem) else status_of(error)
    service.metrics.count(REFUSED, 1, str(code))
    headers = {"Retry-After": RETRY_AFTER} if code in (429, 503) else {}
    if isinstance(error, Problem):
        headers |= error.headers
    return Response(answer.status(kind, code, str(error)), code, headers, kind)


def _note(service: Service, batch: Batch, account: Account, now: int) -> None:
    """Count, and remember what became no event."""
    count(service, batch)
    outcomes = {"event": batch.answer.accepted, "other": account.other, "quarantined": batch.answer.quarantined}
    outcomes |= {reason: account.count(reason) for reason in (NO_FLOW, NO_ID, NO_STAGE, FAILED)}
    for outcome, spans in outcomes.items():
        service.metrics.count(SPANS, spans, outcome)
    try:
        service.discovered.note([_sighting(seen, now) for seen in account.seen])
    except ControlError as error:  # the events are stored: to refuse them now would only bring them again
        log.warning("discovered_not_kept", error=str(error))


def _sighting(seen: Seen, now: int) -> Sighting:
    return Sighting(
        service=seen.sort.service,
        system=seen.sort.system,
        destination=seen.sort.destination,
        operation=seen.sort.told,
        reason=seen.reason,
        flow=seen.flow,
        count=seen.count,
        first_seen=now,
        last_seen=now,
        samples=[seen.sample] if seen.sample else [],
    )


def _why(batch: Batch, account: Account) -> str:
    """One sentence for the client's log: of what was rejected the first case of each kind."""
    said = []
    nameless = [seen for seen in account.seen if seen.reason == NO_ID]
    if nameless:
        first = nameless[0]
        said.append(
            f"{account.count(NO_ID)} spans match flow {first.flow} and name no message (service {first.sort.service!r},"
            f" operation {first.sort.told!r}): set messaging.message.id or tracker.message_id on them, or name the"
            " attribute by `identity: {attribute: ...}` in the flow"
        )
    if batch.answer.errors:
        error = batch.answer.errors[0]
        said.append(f"{batch.answer.quarantined} events are in quarantine, the first: {error.field} {error.reason}")
    return "; ".join(said)
