"""Lines of the quarantine through the way in again, after what was wrong with them was mended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.fields import RAW
from tracker.ingest.intake import Intake
from tracker.store.columns import QUARANTINE, REPORTS

Line = Mapping[str, Any]
"""A line of the quarantine, as the store lists it."""


@dataclass(frozen=True, slots=True)
class Again:
    """`batch` holds the good ones, which are `taken`; the others are `refused`, with field and reason of now."""

    batch: Batch
    taken: Sequence[Line] = ()
    refused: Sequence[Line] = ()


def again(lines: Sequence[Line], intake: Intake, by: str, now: int) -> Again:
    """What the way in says of these lines at `now` (µs), sent by `by`. Nothing is stored, and what is still bad is not
    put into quarantine a second time."""
    refused = [{**line, "field": "", "reason": reason} for line in lines if (reason := _hopeless(line))]
    tried = [line for line in lines if not _hopeless(line)]
    if not tried:
        return Again(Batch(Accepted(0, 0)), refused=refused)
    body = "\n".join(line["raw"].replace("\n", " ").replace("\r", " ") for line in tried)
    batch = intake.prepare(body.encode(), "application/x-ndjson", "", "", by, now)
    bad = {row["line"]: row for row in batch.quarantine.select(["line", "field", "reason"]).to_pylist()}
    refused += [{**line, "field": bad[n]["field"], "reason": bad[n]["reason"]}
                for n, line in enumerate(tried, 1) if n in bad]  # fmt: skip
    taken = [line for n, line in enumerate(tried, 1) if n not in bad]
    good = dataclasses.replace(
        batch,
        answer=Accepted(len(taken), 0),
        quarantine=QUARANTINE.empty_table(),
        reports=REPORTS.empty_table(),
    )
    return Again(good, taken, refused)


def _hopeless(line: Line) -> str:
    """Why it cannot be sent again at all; empty when it can."""
    if line["line"] == 0:
        return "it is a coverage report, and what it vouched for is over"
    raw = line["raw"].encode()
    if not raw.strip():
        return "nothing of it was kept; send it again from its source"
    if len(raw) >= RAW and not _complete(raw):
        return f"only its first {RAW} bytes were kept; send it again from its source"
    return ""


def _complete(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
