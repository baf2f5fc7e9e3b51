"""Coverage reports off the wire -> rows of REPORTS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from tracker.ingest.batch import LineError
from tracker.model.clock import Offset, unbelievable
from tracker.model.coverage import Report, SourceRef
from tracker.model.errors import Invalid
from tracker.model.event import Stage
from tracker.model.spec import NAME
from tracker.store.columns import REPORTS

HEADER = "Tracker-Coverage"
MAX_SOURCES = 10_000
MAX_LAG_MS = 10 * 366 * 86_400_000
_COUNTS = {"epoch": 0, "sequence": 1, "events": 0, "lag_ms": 0, "backlog": 0, "dropped": 0}
"""Each number and the least it may be."""
_SOURCES = pl.List(pl.Struct(dict.fromkeys(("flow", "hop", "stage", "source", "evidence"), pl.String)))
_SCHEMA: dict[str, Any] = {
    "tenant": pl.String,
    "collector": pl.String,
    **dict.fromkeys(_COUNTS, pl.UInt64),
    "sources": _SOURCES,
    "signed_off": _SOURCES,
    "received_at": pl.Int64,
    "clock_offset": pl.Int64,
    "clock_error": pl.Int64,
}


def report_of(text: str | bytes) -> Report:
    """The report that a header or body says. Raises Invalid naming the field."""
    try:
        report = msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the coverage report cannot be read: {error}") from None
    for field, least in _COUNTS.items():
        if not least <= getattr(report, field) < 2**63:
            raise Invalid(f"the coverage report's {field} is {getattr(report, field)}; it counts from {least}")
    if report.lag_ms > MAX_LAG_MS:
        raise Invalid(f"the coverage report's lag_ms is {report.lag_ms}: more than ten years; it counts milliseconds")
    if not 0 < len(report.collector.encode()) <= 256:
        raise Invalid("the coverage report's collector must be a name of 1 to 256 bytes")
    every = [*report.sources, *report.signed_off]
    if len(every) > MAX_SOURCES:
        raise Invalid(f"the coverage report lists {len(every)} sources; at most {MAX_SOURCES} fit in one")
    for source in every:
        _check(source)
    return report


def _check(source: SourceRef) -> None:
    for field in ("flow", "hop"):
        if not NAME.fullmatch(getattr(source, field)):
            raise Invalid(f"a source of the coverage report has {field} {getattr(source, field)!r}, which is no name")
    if source.stage not in Stage.__members__:
        raise Invalid(f"a source of the coverage report has stage {source.stage!r}; one of {', '.join(Stage)}")
    if len(source.source.encode()) > 512:
        raise Invalid("a source of the coverage report is longer than 512 bytes")


def clock_of(report: Report | None) -> tuple[Offset | None, LineError | None]:
    """The measured clock that a report tells of; or why what it says is not used: its lines are stored as observed."""
    if report is None or report.offset_us is None:
        return None, None
    reason = unbelievable(report.offset_us, report.error_us)
    if reason:
        return None, LineError(0, HEADER, f"{reason} The lines of this batch were stored with their times as they came")
    return Offset(report.offset_us, report.error_us), None


def rows(reports: Sequence[Report], now: int) -> pa.Table:
    """Rows of REPORTS, received at `now` (µs)."""
    if not reports:
        return REPORTS.empty_table()
    every = [{"tenant": "", "received_at": now, **msgspec.to_builtins(report), **_clock(report)} for report in reports]
    return pl.DataFrame(every, schema=_SCHEMA).to_arrow().select(REPORTS.names).cast(REPORTS)


def _clock(report: Report) -> dict[str, int]:
    """The offset as measured, also where it is too small to be applied."""
    clock, _ = clock_of(report)
    return {"clock_offset": clock.offset if clock else 0, "clock_error": clock.error if clock else -1}
