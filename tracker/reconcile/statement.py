"""What a statement says of one flow and span: the books, every exception, every blind spot, as one pass left them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from tracker.control import Control
from tracker.control.errors import Conflict
from tracker.control.flows import FlowVersion
from tracker.model.errors import Unavailable
from tracker.model.spec import FlowSpec
from tracker.model.statement import FORMAT, LISTED, SPOTS
from tracker.model.units import rfc3339
from tracker.model.verdict import Verdict
from tracker.reconcile.books import BlindSpot, Reconciliation, reconcile
from tracker.store import Store
from tracker.store.exceptions import Asked, Totals

TRIES = 10
NOTHING_YET = "no pass has finished yet, so there is nothing to state; is the reconciler running?"
TOO_FAST = "messages of this span are judged faster than they can be listed: try again, or end it earlier"


def statement(store: Store, control: Control, spec: FlowSpec, start: int, end: int) -> dict[str, Any]:
    """What became of the messages of a flow whose origin lies in [start, end), µs, but for number, link and who asked.

    Reads states and findings three times as of one pass; again when two passes went by over one of the span's messages
    meanwhile. Raises Unavailable when that goes on, Invalid for an empty span, Conflict before the first pass.
    """
    for _ in range(TRIES):
        books = reconcile(store, control, spec, start, end)
        if not books.number:
            raise Conflict(NOTHING_YET)
        asked = Asked(spec.flow, start, end, books.number, books.as_of)
        totals, listed = store.exception_totals(asked), store.exceptions(asked, limit=LISTED)
        if totals is not None and listed is not None:
            return _head(control, asked) | _books(books, end) | _exceptions(totals, listed)
    raise Unavailable(TOO_FAST)


def exceptions(
    store: Store, control: Control, flow: str, start: int, end: int, after: str, limit: int
) -> tuple[int, list[dict[str, str]]]:
    """(number of a pass, a page of the exceptions as it left them). Raises as `statement`, and Invalid for a cursor
    that is none."""
    for _ in range(TRIES):
        last = control.passes.last_finished()
        if last is None:
            raise Conflict(NOTHING_YET)
        rows = store.exceptions(Asked(flow, start, end, last.number, last.started_at), after, limit)
        if rows is not None:
            return last.number, rows
    raise Unavailable(TOO_FAST)


def _head(control: Control, asked: Asked) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "flow": asked.flow,
        "from": rfc3339(asked.start),
        "to": rfc3339(asked.end),
        "specs": _specs(control.flows.versions(asked.flow), asked.start, asked.end),
    }


def _exceptions(totals: Totals, listed: list[dict[str, str]]) -> dict[str, Any]:
    return {"exceptions": msgspec.to_builtins(totals) | {"listed": listed}}


def _books(books: Reconciliation, end: int) -> dict[str, Any]:
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
