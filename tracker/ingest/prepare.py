"""What a decoder gave -> a batch: checked, good rows apart from bad ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl
import pyarrow as pa

from tracker.ingest import check, refused, reports, rows
from tracker.ingest.asked import PROBLEM, Asked, KnownFlow
from tracker.ingest.batch import MAX_ERRORS, Accepted, Batch, LineError
from tracker.ingest.decoded import Decoded, Raws, Words, text
from tracker.ingest.fields import TEXTS
from tracker.model.coverage import Report
from tracker.model.errors import Invalid
from tracker.store.columns import together


@dataclass(frozen=True, slots=True)
class Context:
    """What a body is read against. `flows`: every known flow, by name.

    `salt` keys the hash of all other keys, 64 bits. `source` names who sent it. `now` is the tracker's clock, µs.
    """

    flows: Mapping[str, KnownFlow]
    salt: int
    source: str
    now: int


@dataclass(frozen=True, slots=True)
class _Sorted:
    """One part: good rows, the bad ones with what was sent, and where these are from."""

    events: pa.Table
    ranges: pa.Table
    bad: pl.DataFrame
    refused: pl.DataFrame


def prepare(parts: Sequence[Decoded], header: str, context: Context) -> Batch:
    """The batch that events and the coverage header make. Never raises for what is in them.

    A line that quarantine got is an observation that we lost: what it may have told of is vouched for by nobody
    (`refused.told`), because no verdict can see it.
    """
    report, error = _reported(header)
    clock, doubt = reports.clock_of(report)
    plain = [name for name, flow in context.flows.items() if flow.plain]
    stamp = rows.Stamp(context.now, context.salt, plain, clock)
    every = [done for part in parts for done in _sorted(part, context, stamp)]
    bad = pl.concat([part.bad for part in every]).sort("line")
    lost, where = refused.known(pl.concat([part.refused for part in every]), context.flows)
    events, ranges = (together([getattr(part, name) for part in every]) for name in ("events", "ranges"))
    return Batch(
        answer=_answer(events.num_rows + ranges.num_rows, bad, error or doubt),
        events=events,
        ranges=ranges,
        quarantine=_quarantine(bad, error, header, context),
        reports=reports.rows(refused.told(report, lost, where, context.now), context.now),
    )


def _sorted(part: Decoded, context: Context, stamp: rows.Stamp) -> Iterator[_Sorted]:
    words = part.words
    asked = Asked(check.typed(part.frame, stamp.clock.correction if stamp.clock else 0), words, context.flows)
    frame = asked.marked
    bad = check.problems(frame, words, check.rules(frame, words, context.flows, context.now))
    good = _without(frame, bad)
    if part.again and bad.height:
        yield from _sorted(part.again(bad["line"].to_list()), context, stamp)
        bad = bad.clear()
    nested = _nested(good, part.lines) if part.retold else bad.clear()
    good = _without(good, nested)
    ranges = good.filter(pl.col("is_range")) if good["is_range"].any() else good.clear()
    events = good.filter(~pl.col("is_range")) if ranges.height else good
    attributes, reasons = rows.attribute_maps(events)
    unfit = _unfit(events, words, reasons)
    events, attributes = _both_without(events, attributes, unfit)
    lacking = asked.lacking(events, words, attributes)
    events, attributes = _both_without(events, attributes, lacking)
    bad = pl.concat([_broken(part), bad, nested, unfit, lacking])
    raws = pl.Series("raw", part.lines.raws(bad["line"].to_list()), pl.Binary)
    yield _Sorted(
        rows.events(events, words, attributes, stamp),
        rows.ranges(ranges, words, stamp.now),
        bad.with_columns(raws),
        refused.places(bad, frame, words, part.broken),
    )


def _broken(decoded: Decoded) -> pl.DataFrame:
    return pl.DataFrame([(b.line, "", b.reason, b.flow or None) for b in decoded.broken], schema=PROBLEM, orient="row")


def _without(frame: pl.DataFrame, bad: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(~pl.col("line").is_in(bad["line"].implode())) if bad.height else frame


def _both_without(
    events: pl.DataFrame, attributes: pa.Array | None, bad: pl.DataFrame
) -> tuple[pl.DataFrame, pa.Array | None]:
    if not bad.height:
        return events, attributes
    kept = ~events["line"].is_in(bad["line"].implode())
    return events.filter(kept), None if attributes is None else attributes.filter(kept.to_arrow())


def _nested(frame: pl.DataFrame, lines: Raws) -> pl.DataFrame:
    """Objects and arrays where a text belongs. Columns show them as their JSON, like a text that looks the same, so
    the few lines that look so are read again, one by one."""
    texts = sorted(check.present(frame) & TEXTS.keys())
    if not texts:
        return pl.DataFrame(schema=PROBLEM)
    suspects = frame.filter(pl.any_horizontal(pl.col(name).str.contains(r"^[\[{]") for name in texts))
    found = []
    raws = lines.raws(suspects["line"].to_list())
    for (line, flow), raw in zip(suspects.select("line", "flow").iter_rows(), raws, strict=True):
        said = msgspec.json.decode(raw)
        field = next((name for name in TEXTS if isinstance(said.get(name), dict | list)), "")
        if field:
            found.append((line, field, "must be a text", flow))
    return pl.DataFrame(found, schema=PROBLEM, orient="row")


def _unfit(events: pl.DataFrame, words: Words, reasons: Mapping[int, str]) -> pl.DataFrame:
    if not reasons:
        return pl.DataFrame(schema=PROBLEM)
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


def _quarantine(bad: pl.DataFrame, error: LineError | None, header: str, context: Context) -> pa.Table:
    if error:
        first = pl.DataFrame([(0, error.field, error.reason, None, header.encode())], schema=bad.schema, orient="row")
        bad = first.vstack(bad)
    return rows.quarantine(bad, bad["raw"].to_list(), context.source, context.now)
