"""What a decoder gave -> a batch: checked, good rows apart from bad ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import polars as pl
import pyarrow as pa

from tracker.ingest import check, reports, rows
from tracker.ingest.batch import MAX_ERRORS, Accepted, Batch, LineError
from tracker.ingest.decoded import Decoded, Raws, Words, text
from tracker.ingest.fields import TEXTS
from tracker.model.coverage import Report
from tracker.model.errors import Invalid

_BAD = check.PROBLEM


@dataclass(frozen=True, slots=True)
class Context:
    """What a body is read against. `flows`: every known flow, true where its keys may be kept in plain text.

    `salt` keys the hash of all other keys, 64 bits. `source` names who sent it. `now` is the tracker's clock, µs.
    """

    flows: Mapping[str, bool]
    salt: int
    source: str
    now: int


def prepare(decoded: Decoded, header: str, context: Context) -> Batch:
    """The batch that events and the coverage header make. Never raises for what is in them.

    A line that quarantine got is an observation that we lost: the report then says so (`dropped`), because
    otherwise its collector would vouch for an event that no verdict can see.
    """
    report, error = _reported(header)
    clock, doubt = reports.clock_of(report)
    words = decoded.words
    frame = check.typed(decoded.frame, clock.correction if clock else 0)
    bad = check.problems(frame, words, check.rules(frame, words, context.flows, context.now))
    good = _without(frame, bad)
    nested = _nested(good, decoded.lines) if decoded.retold else bad.clear()
    good = _without(good, nested)
    events = good.filter(~pl.col("is_range"))
    attributes, reasons = rows.attribute_maps(events)
    unfit = _unfit(events, words, reasons)
    if reasons:
        kept = pl.Series([row not in reasons for row in range(events.height)])
        events, attributes = events.filter(kept), attributes and attributes.filter(kept.to_arrow())
    bad = pl.concat([_broken(decoded), bad, nested, unfit])
    bad = bad.sort("line")
    lost = bad.filter(pl.col("flow").is_null() | pl.col("flow").is_in([*context.flows])).height
    if report:
        report = msgspec.structs.replace(report, dropped=report.dropped + lost)
    plain = [flow for flow, readable in context.flows.items() if readable]
    ranges = good.filter(pl.col("is_range"))
    return Batch(
        answer=_answer(events.height + ranges.height, bad, error or doubt),
        events=rows.events(events, words, attributes, rows.Stamp(context.now, context.salt, plain, clock)),
        ranges=rows.ranges(text(ranges, words), context.now),
        quarantine=_quarantine(bad, error, header, decoded, context),
        reports=reports.rows([report] if report else [], context.now),
    )


def _broken(decoded: Decoded) -> pl.DataFrame:
    return pl.DataFrame([(b.line, "", b.reason, None) for b in decoded.broken], schema=_BAD, orient="row")


def _without(frame: pl.DataFrame, bad: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(~pl.col("line").is_in(bad["line"].implode())) if bad.height else frame


def _nested(frame: pl.DataFrame, lines: Raws) -> pl.DataFrame:
    """Objects and arrays where a text belongs. Columns show them as their JSON, like a text that looks the same, so
    the few lines that look so are read again, one by one."""
    texts = sorted(check.present(frame) & TEXTS.keys())
    if not texts:
        return pl.DataFrame(schema=_BAD)
    suspects = frame.filter(pl.any_horizontal(pl.col(name).str.contains(r"^[\[{]") for name in texts))
    found = []
    raws = lines.raws(suspects["line"].to_list())
    for (line, flow), raw in zip(suspects.select("line", "flow").iter_rows(), raws, strict=True):
        said = msgspec.json.decode(raw)
        field = next((name for name in TEXTS if isinstance(said.get(name), dict | list)), "")
        if field:
            found.append((line, field, "must be a text", flow))
    return pl.DataFrame(found, schema=_BAD, orient="row")


def _unfit(events: pl.DataFrame, words: Words, reasons: Mapping[int, str]) -> pl.DataFrame:
    picked = text(events[list(reasons)], words, ["flow"])
    told = pl.Series("reason", list(reasons.values()), pl.String)
    return picked.select("line", pl.lit("attributes").alias("field"), told, "flow")


def _reported(header: str) -> tuple[Report | None, LineError | None]:
    if not header:
        return None, None
    try:
        return reports.report_of(header), None
    except Invalid as error:
        return None, LineError(0, reports.HEADER, f"{error}; the events of this batch are vouched for by nobody")


def _answer(accepted: int, bad: pl.DataFrame, error: LineError | None) -> Accepted:
    first = [LineError(*row) for row in bad.head(MAX_ERRORS).select("line", "field", "reason").iter_rows()]
    return Accepted(accepted, bad.height, [error, *first] if error else first)


def _quarantine(
    bad: pl.DataFrame, error: LineError | None, header: str, decoded: Decoded, context: Context
) -> pa.Table:
    raws = decoded.lines.raws(bad["line"].to_list())
    if error:
        bad = pl.DataFrame([(0, error.field, error.reason, None)], schema=_BAD, orient="row").vstack(bad)
        raws.insert(0, header.encode())
    return rows.quarantine(bad, raws, context.source, context.now)
