"""What refused lines may have told of: nobody may vouch for that. Pure.

A line that quarantine got is an observation that we lost. Where nobody reports, a coverage report of our own says so; a
collector's report that came with the line vouches for the other places only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

import msgspec
import polars as pl

from tracker.ingest.asked import KnownFlow
from tracker.ingest.decoded import Broken, Words, text
from tracker.model.coverage import Report, SourceRef
from tracker.model.event import Stage
from tracker.model.spec import NAME

Place = tuple[str, str, str]
"""flow, hop and stage; empty where it cannot be told which."""

MOST = 100
"""So many places of one batch are told apart; of more, only their flows."""
_CLOSING = frozenset({Stage.drop.value, Stage.dead_letter.value})
"""What ends a message: whoever did not hear of it misses the message at every place behind."""
WHERE = {"flow": pl.String, "hop": pl.String, "stage": pl.String}
_ELSEWHERE = {"line": pl.UInt32, "hop": pl.String, "stage": pl.String}


def places(bad: pl.DataFrame, frame: pl.DataFrame, words: Words, broken: Sequence[Broken]) -> pl.DataFrame:
    """flow, hop and stage of each line of `bad`, as written in `frame`, or as told of those that are `broken`; null or
    empty where that says nothing of it."""
    if not bad.height:
        return pl.DataFrame(schema=WHERE)
    there = [name for name in ("hop", "stage") if name in frame.columns]
    said = text(frame.filter(pl.col("line").is_in(bad["line"].implode())), words, there)
    said = said.select("line", *(pl.col(name).cast(pl.String) for name in there))
    missing = (pl.lit(None, pl.String).alias(name) for name in ("hop", "stage") if name not in there)
    others = pl.DataFrame([(one.line, one.hop, one.stage) for one in broken], schema=_ELSEWHERE, orient="row")
    every = pl.concat([said.with_columns(*missing).select(*_ELSEWHERE), others])
    return bad.select("line", "flow").join(every, on="line", how="left").select(*WHERE)


def known(found: pl.DataFrame, flows: Mapping[str, KnownFlow]) -> tuple[int, list[Place]]:
    """(how many of these lines may concern one of `flows`, the different places they may be from)."""
    mine = found.filter(pl.col("flow").is_null() | pl.col("flow").is_in([*flows]))
    anybodys = frozenset[str]().union(*(flow.hops for flow in flows.values())) if mine["flow"].null_count() else ()
    every = {
        _place(row, flows[row["flow"]].hops if row["flow"] else anybodys) for row in mine.unique().iter_rows(named=True)
    }
    if len(every) > MOST:
        every = {(flow, "", "") for flow, _, _ in every}
    return mine.height, sorted(every)


def _place(row: Mapping[str, str | None], hops: Collection[str]) -> Place:
    """`hops`: all that it may be; empty where these are not known. One that is made up tells nothing."""
    flow, hop, stage = (row[name] or "" for name in WHERE)
    if stage in _CLOSING:
        return flow, "", ""
    named = hop in hops if hops else NAME.fullmatch(hop)
    return flow, hop if named else "", stage if stage in Stage.__members__ else ""


def told(report: Report | None, lost: int, refused: Sequence[Place], now: int) -> list[Report]:
    """What is stored instead of the report, or none, that came with a batch of which `lost` lines were `refused`.

    First a report of our own, from nobody, on the places. Then the collector's: for what else it watches. And what it
    says of those places: that it signed off there, but not that it saw what happened since its last report. How late
    the refused events were nobody knows; it was before the next report, from which on these are vouched for again.
    """
    if not lost:
        return [report] if report else []
    where = [SourceRef(flow, hop, stage, "") for flow, hop, stage in refused]
    ours = Report(collector="", epoch=0, sequence=now, dropped=lost, sources=where)
    if report is None:
        return [ours]
    hit_by = frozenset(refused)
    listed = [
        [[source for source in some if _hit(source, hit_by) is hit] for some in (report.sources, report.signed_off)]
        for hit in (False, True)
    ]
    (sources, signed_off), (_, gone) = listed
    rest = msgspec.structs.replace(report, sources=sources, signed_off=signed_off)
    broken = msgspec.structs.replace(report, dropped=report.dropped + lost, sources=[], signed_off=gone)
    return [ours, *[rest] * bool(sources or signed_off), broken]


def _hit(source: SourceRef, refused: Collection[Place]) -> bool:
    """Whether one of the places is that of the source, told or left open. A few look-ups, for there may be thousands
    of sources."""
    return any(where in refused for where in product((source.flow, ""), (source.hop, ""), (source.stage, "")))
