"""The way in: one request's bytes become durable rows and an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
import structlog

from tracker.ingest import body as bodies
from tracker.ingest import reports
from tracker.ingest.asked import KnownFlow
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.commit import Committer
from tracker.ingest.decoded import Decoded
from tracker.ingest.errors import Unreadable
from tracker.ingest.formats import decode
from tracker.ingest.prepare import Context, prepare

log = structlog.get_logger()

INFLATED = 64 << 20
"""Bytes of a body after its compression was taken off."""


@dataclass(frozen=True)
class Intake:
    """`flows()` gives every known flow; it is asked for each request."""

    committer: Committer
    flows: Callable[[], Mapping[str, KnownFlow]]
    salt: int
    inflated: int = INFLATED

    def prepare(
        self, body: bytes, content_type: str, content_encoding: str, coverage: str, principal: str, now: int
    ) -> Batch:
        """The batch of a request. Raises Refused when the request as a whole cannot be read."""
        with _unpanicked(principal):
            decoded = decode(bodies.inflate(body, content_encoding, self.inflated), content_type, self.inflated)
        return self.prepared(decoded, coverage, principal, now)

    def prepared(
        self,
        parts: Sequence[Decoded],
        coverage: str,
        principal: str,
        now: int,
        flows: Mapping[str, KnownFlow] | None = None,
    ) -> Batch:
        """The batch of what a decoder gave; a coverage report in the request's header comes before its own. `flows`
        where somebody asked for them already. Raises Unreadable."""
        header = coverage or next((part.coverage for part in parts if part.coverage), "")
        with _unpanicked(principal):
            known = self.flows() if flows is None else flows
            return prepare(parts, header, Context(known, self.salt, principal, now))

    def submit(self, batch: Batch) -> Future[Accepted]:
        """The answer, once all rows are durable. Raises Busy."""
        return self.committer.submit(batch)

    def turn_away(self) -> None:
        """There was no slot for a batch."""
        self.committer.turn_away()

    def accept(
        self, body: bytes, content_type: str, content_encoding: str, coverage: str, principal: str, now: int
    ) -> Accepted:
        """Both, for callers that may block. `principal` names the sender, `now` is the tracker's clock, µs.

        Raises Refused, Unavailable.
        """
        batch = self.prepare(body, content_type, content_encoding, coverage, principal, now)
        return self.submit(batch).result()

    def report(self, body: bytes, content_encoding: str, now: int) -> Batch:
        """The batch of a coverage report alone, which is a heartbeat too. Raises Invalid."""
        report = reports.report_of(bodies.inflate(body, content_encoding, self.inflated))
        return Batch(Accepted(0, 0), reports=reports.rows([report], now))


@contextmanager
def _unpanicked(principal: str) -> Iterator[None]:
    """What makes a parser panic is a body that cannot be read, not a reason to end the thread that reads it."""
    try:
        yield
    except pl.exceptions.PanicException as panic:
        log.error("parser_panicked", error=str(panic), sender=principal, next="report it, with the body if you can")
        raise Unreadable(f"the body cannot be read: {panic}; nothing of it was stored") from None
