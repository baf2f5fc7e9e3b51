"""What the overview shows: every flow's books, what is open, who is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracker.api.runbooks import link
from tracker.api.service import Service
from tracker.console.looks import TONES
from tracker.control.incidents import Incident
from tracker.model.verdict import WRONG

NEWEST = 25
"""Missing messages that are named on the page."""
WIDTH = 1000
"""A bar's width in its own units."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: `x` and `width` in units of a bar of `WIDTH`."""

    verdict: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow with its messages by verdict."""

    name: str
    owner: str
    total: int
    wrong: int
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident and where its runbook is."""

    incident: Incident
    runbook: str


def overview(service: Service) -> dict[str, Any]:
    """Values for `overview.html`."""
    counts = service.store.counts()
    known = service.specs.known()
    flows = [_row(name, known[name].spec.owner, counts.get(name, {})) for name in sorted(known)]
    flows.sort(key=lambda row: (-row.wrong, row.name))
    open_ = service.control.incidents.page(status=("open", "acknowledged"), limit=50)
    solved = service.control.incidents.page(status=("resolved",), limit=5)
    findings = service.store.findings(status="open", limit=NEWEST)
    last = service.control.passes.last_finished()
    tally = {"open": 0, "recovered": 0}
    for row in service.store.finding_counts():
        if row["flow"] in known and row["status"] in tally:
            tally[row["status"]] += row["n"]
    return {
        "flows": flows,
        "total": sum(row.total for row in flows),
        "wrong": sum(row.wrong for row in flows),
        "tally": tally,
        "incidents": [IncidentRow(one, link(service, one)) for one in open_.items],
        "solved": [IncidentRow(one, link(service, one)) for one in solved.items],
        "findings": findings,
        "replays": service.replays.list(limit=5).items if service.replays else [],
        "as_of": last.finished_at if last else None,
        "insecure": service.insecure,
    }


def _row(name: str, owner: str, verdicts: dict[str, int]) -> FlowRow:
    total = sum(verdicts.values())
    return FlowRow(name, owner, total, sum(verdicts.get(v, 0) for v in WRONG), bar(verdicts))


def bar(verdicts: dict[str, int]) -> list[Segment]:
    """Segments in the fixed order; one that would vanish is still 6 wide, because one lost message matters."""
    present = [(verdict, verdicts[verdict]) for verdict in TONES if verdicts.get(verdict)]
    total = sum(count for _, count in present)
    widths = [max(count / total * WIDTH, 6.0) for _, count in present]
    scale = WIDTH / sum(widths) if widths else 0
    segments, x = [], 0.0
    for (verdict, count), width in zip(present, widths, strict=True):
        segments.append(Segment(verdict, count, round(x, 2), round(width * scale, 2)))
        x += width * scale
    return segments
