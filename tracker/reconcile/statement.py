"""What a statement says of one flow and span: the books, every exception, every blind spot, as one pass left them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tracker.control import Control
from tracker.control.errors import Conflict
from tracker.control.flows import FlowVersion
from tracker.model.spec import FlowSpec
from tracker.model.statement import FORMAT, LISTED, SPOTS
from tracker.model.units import rfc3339
from tracker.model.verdict import Verdict
from tracker.reconcile.books import BlindSpot, Reconciliation, reconcile
from tracker.store import Store
from tracker.store.exceptions import Asked


def statement(store: Store, control: Control, spec: FlowSpec, start: int, end: int) -> dict[str, Any]:
    """What became of the messages of a flow whose origin lies in [start, end), µs, but for number, link and who asked.

    Raises Invalid for an empty span, Conflict before the first pass. Reads states and findings three times; again when
    two passes went by meanwhile.
    """
    while True:
        books = reconcile(store, control, spec, start, end)
        if not books.number:
            raise Conflict("no pass has finished yet, so there is nothing to state; is the reconciler running?")
        asked = Asked(spec.flow, start, end, books.number, books.as_of)
        totals, listed = store.exception_totals(asked), store.exceptions(asked, limit=LISTED)
        if store.newest_pass(spec.flow) <= books.number + 1:
            break
    exceptions = {"total": totals.total, "messages": totals.messages, "kinds": totals.kinds, "digest": totals.digest}
    return {
        "format": FORMAT,
        "flow": spec.flow,
        "from": rfc3339(start),
        "to": rfc3339(end),
        "specs": _specs(control.flows.versions(spec.flow), start, end),
        "exceptions": exceptions | {"listed": listed},
        **_books(books, end),
    }


def _books(books: Reconciliation, end: int) -> Mapping[str, Any]:
    """`settled`: the span lies before what the pass has seen, and nothing of it waits for a deadline."""
    spots = sorted(books.blind_spots, key=lambda spot: (spot.hop, spot.stage, spot.start, spot.source))
    return {
        "pass": books.number,
        "as_of": rfc3339(books.as_of),
        "settled": end <= books.as_of and not books.verdicts.get(Verdict.in_flight, 0),
        "produced": books.produced,
        "orphans": books.orphans,
        "delivered": books.verdicts.get(Verdict.delivered, 0),
        "verdicts": books.verdicts,
        "conserved": books.conserved,
        "blind_spots": {"total": len(spots), "listed": [_spot(spot) for spot in spots[:SPOTS]]},
    }


def _spot(spot: BlindSpot) -> dict[str, str]:
    said = {"hop": spot.hop, "stage": spot.stage, "source": spot.source, "cause": spot.cause}
    return said | {"from": rfc3339(spot.start), "to": rfc3339(spot.end)}


def _specs(versions: Sequence[FlowVersion], start: int, end: int) -> list[dict[str, Any]]:
    """The versions that judge messages of the span: number, from when on, and the hash of what each says. The first
    one reaches back without limit."""
    known = [version for version in versions if version.deleted_at is None]
    begins = [0, *(version.in_force_from for version in known[1:])]
    ends = [*begins[1:], end + 1]
    return [
        {
            "version": version.version,
            "in_force_from": rfc3339(begin) if begin else "",
            "sha256": hashlib.sha256(version.canonical.encode()).hexdigest(),
        }
        for version, begin, until in zip(known, begins, ends, strict=True)
        if begin < end and until > start
    ]
