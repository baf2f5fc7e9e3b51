"""Spans on their way in, whatever brought them: HTTP (`tracker.api.routes.traces`) or gRPC (`tracker.api.rpc`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio.to_thread
import structlog

from tracker.api.gate import Gate
from tracker.api.problem import RETRY_AFTER, Problem, turned_away
from tracker.api.routes.events import count, durable
from tracker.api.service import Service
from tracker.control.errors import ControlError
from tracker.control.sightings import Sighting
from tracker.control.tokens import Principal
from tracker.ingest import body as bodies
from tracker.ingest.batch import Batch
from tracker.ingest.otlp.account import FAILED, NO_FLOW, NO_ID, NO_STAGE, Account, Seen
from tracker.ingest.otlp.traces import Traces
from tracker.model.errors import TrackerError
from tracker.slo.metrics import SPANS

log = structlog.get_logger()

RefusedExport = TrackerError | ControlError | Problem
"""What `Exports.take` raises; nothing of the request was stored."""


@dataclass(frozen=True, slots=True)
class Taken:
    """`rejected` spans match a flow and could not be taken, `why` says what to do about them."""

    rejected: int
    why: str


class Exports:
    """Takes requests; behind the same `gate` as events."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self.service, self.gate = service, gate
        self.traces = Traces(service.specs.known)

    async def take(self, by: Principal, kind: str, sent: Callable[[], Awaitable[tuple[bytes, str]]]) -> Taken:
        """The answer, once the events are durable. `kind` is the body's media type; `sent()` reads the body and says
        its content encoding, and is called when a slot is free. Raises RefusedExport."""
        service, gate = self.service, self.gate
        async with gate.slot(by.id, by.rates):
            self.traces.check()
            now = service.clock()
            body, encoding = await sent()
            gate.charge(by.id, size=len(body))

            def read() -> tuple[Batch, Account]:
                whole = bodies.inflate(body, encoding, service.intake.inflated)
                flows = service.specs.known()  # once: the control database is asked each time
                decoded, account = self.traces.read(whole, kind, flows)
                asked = {name: flow.at_ingest for name, flow in flows.items()}
                return service.intake.prepared([decoded], "", by.name, now, asked), account

            batch, account = await gate.decode(by.id, read)
            gate.charge(by.id, events=batch.answer.accepted + batch.answer.quarantined)
            taken = await durable(service, batch)
        await anyio.to_thread.run_sync(_note, service, batch, account, now)
        return Taken(taken.quarantined + account.count(NO_ID), _why(batch, account))

    def refused(self, error: RefusedExport) -> tuple[int, int | None]:
        """The HTTP status that `error` stands for, and the seconds after which the sender may come back, if it may.
        Counts it."""
        status = turned_away(self.service.metrics, error)
        if status not in (429, 503):
            return status, None
        headers = error.headers if isinstance(error, Problem) else {}
        return status, int(headers.get("Retry-After", RETRY_AFTER))


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
