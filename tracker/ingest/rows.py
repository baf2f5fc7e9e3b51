"""Checked columns -> the rows that the store takes (`tracker.store.columns`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import msgspec
import polars as pl
import pyarrow as pa
import xxhash

from tracker.ingest.fields import RAW
from tracker.model.clock import Offset
from tracker.store.columns import EVENTS, QUARANTINE, RANGES

_NO_TEXT = pl.Series([], dtype=pl.String).to_arrow().cast(pa.string())
_TEXTS = ("flow", "message_id", "hop", "stage", "reason", "delivery", "node", "region", "partition", "trace_id",
          "span_id", "correlation_id", "causation_id", "replay_id")  # fmt: skip


def events(
    frame: pl.DataFrame, attributes: pa.Array, plain: Collection[str], salt: int, now: int, clock: Offset | None = None
) -> pa.Table:
    """Rows of EVENTS out of checked lines; `attributes` beside them. `plain` are the flows whose keys stay readable,
    all others keep a hash keyed by `salt`. `now` becomes `received_at`. `clock` is what the lines' observed times were
    corrected by already, None where it was not measured."""
    if not frame.height:
        return EVENTS.empty_table()
    said_plain = pl.col("flow").is_in(sorted(plain))
    ready = frame.select(
        pl.lit("").alias("tenant"),
        *(pl.col(name).fill_null("") for name in _TEXTS),
        observed_at=pl.col("observed_at_"),
        observed_span=(pl.col("observed_at_") - pl.col("observed_from_")).fill_null(0),
        origin_at=pl.col("origin_at_").fill_null(0),
        digest=pl.col("digest").str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0),
        size=pl.col("size_").fill_null(0).cast(pl.UInt64),
        key_hash=_key_hash(frame["key"], salt),
        key=pl.when(said_plain).then(pl.col("key")).otherwise(pl.lit("")).fill_null(""),
        offset=pl.col("offset_").fill_null(-1),
        consumer_group=pl.col("group").fill_null(""),
        attempt=pl.col("attempt_").fill_null(0).cast(pl.UInt16),
        backfill=(pl.col("backfill") == "true").fill_null(False),
        received_at=pl.lit(now, pl.Int64),
        clock_offset=pl.lit(clock.correction if clock else 0, pl.Int64),
        clock_error=pl.lit(clock.error if clock else -1, pl.Int64),
    )
    table = ready.to_arrow().append_column("attributes", attributes)
    return table.select(EVENTS.names).cast(EVENTS)


def ranges(frame: pl.DataFrame, now: int) -> pa.Table:
    """Rows of RANGES out of checked lines with `evidence: range`."""
    if not frame.height:
        return RANGES.empty_table()
    ready = frame.select(
        pl.lit("").alias("tenant"),
        *(pl.col(name) for name in ("flow", "hop", "stage", "log", "partition")),
        offset=pl.col("offset_"),
        offset_to=pl.col("offset_to_"),
        consumer_group=pl.col("group").fill_null(""),
        node=pl.col("node").fill_null(""),
        observed_from=pl.col("observed_from_"),
        observed_at=pl.col("observed_at_"),
        received_at=pl.lit(now, pl.Int64),
    )
    return ready.to_arrow().select(RANGES.names).cast(RANGES)


def quarantine(bad: pl.DataFrame, raws: list[bytes], source: str, now: int) -> pa.Table:
    """Rows of QUARANTINE: `bad` has line, field, reason and flow; `raws` the lines themselves. Bytes that are no UTF-8
    are kept readable, with backslashes."""
    if not bad.height:
        return QUARANTINE.empty_table()
    texts = [raw[:RAW].decode("utf-8", "backslashreplace") for raw in raws]
    ready = bad.select(
        pl.lit("").alias("tenant"),
        pl.lit(source).alias("source"),
        "line",
        pl.col("field").fill_null(""),
        pl.col("reason").fill_null(""),
        pl.Series("raw", texts, pl.String),
        pl.col("flow").fill_null("").str.slice(0, 128),
        pl.lit(now, pl.Int64).alias("received_at"),
    )
    return ready.to_arrow().select(QUARANTINE.names).cast(QUARANTINE)


def attribute_maps(texts: pl.Series) -> tuple[pa.Array, dict[int, str]]:
    """JSON objects as maps of text, one per row (null is an empty one), and why, by row, where that is impossible.

    Values that are numbers or booleans become their JSON; anything nested is refused.
    """
    kind = pa.map_(pa.string(), pa.string())
    if texts.null_count() == len(texts):
        offsets = pl.zeros(len(texts) + 1, pl.Int32, eager=True).to_arrow()
        return pa.MapArray.from_arrays(offsets, _NO_TEXT, _NO_TEXT), {}
    joined = b"[" + ",".join(texts.fill_null("{}").to_list()).encode() + b"]"
    try:
        return pa.array(msgspec.json.decode(joined, type=list[dict[str, str]]), kind), {}
    except (msgspec.DecodeError, RecursionError):
        return _attribute_maps_singly(texts, kind)


def _attribute_maps_singly(texts: pl.Series, kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    maps: list[Mapping[str, str]] = []
    bad: dict[int, str] = {}
    for row, text in enumerate(texts.fill_null("{}")):
        try:
            found = msgspec.json.decode(text, type=dict[str, str | int | float | bool])
            maps.append({k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in found.items()})
        except (msgspec.DecodeError, RecursionError) as error:
            maps.append({})
            bad[row] = f"must be an object of texts: {error}"
    return pa.array(maps, kind), bad


def _key_hash(keys: pl.Series, salt: int) -> pl.Series:
    """xxh3-64 of each distinct key, seeded by `salt`; 0 where there is none. The loop over keys is `map`'s own."""
    if keys.null_count() == len(keys):
        return pl.Series("key_hash", [0], pl.UInt64).new_from_index(0, len(keys))
    distinct = keys.drop_nulls().unique()
    hashes = pl.Series(
        list(map(partial(xxhash.xxh3_64_intdigest, seed=salt), distinct.cast(pl.Binary).to_list())), dtype=pl.UInt64
    )
    return keys.replace_strict(distinct, hashes, default=0, return_dtype=pl.UInt64).fill_null(0).alias("key_hash")
