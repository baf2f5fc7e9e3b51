"""Checked columns -> the rows that the store takes (`tracker.store.columns`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tracker.ingest.check import present
from tracker.ingest.decoded import Words, text
from tracker.ingest.fields import RAW
from tracker.model.clock import Offset
from tracker.store.columns import EVENTS, QUARANTINE, RANGES

_MAP = pa.map_(pa.string(), pa.string())
_TEXTS = {"flow": "flow", "message_id": "message_id", "hop": "hop", "stage": "stage", "reason": "reason",
          "delivery": "delivery", "node": "node", "region": "region", "partition": "partition",
          "group": "consumer_group", "trace_id": "trace_id", "span_id": "span_id", "correlation_id": "correlation_id",
          "causation_id": "causation_id", "replay_id": "replay_id"}  # fmt: skip
"""Columns of text, by their names on the wire."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the tracker adds: `now` becomes `received_at` (µs); `plain` are the flows whose keys stay readable, all
    others keep a hash keyed by `salt`. `clock` is what observed times were corrected by already, None where it was not
    measured."""

    now: int
    salt: int
    plain: Collection[str] = ()
    clock: Offset | None = None


def events(frame: pl.DataFrame, words: Words, attributes: pa.Array | None, stamp: Stamp) -> pa.Table:
    """Rows of EVENTS out of checked ones, without the columns of which there is nothing; `attributes` beside them."""
    if not frame.height:
        return EVENTS.empty_table()
    given = present(frame)
    columns: dict[str, pa.Array] = {
        column: _texts(frame[name], words.get(name), EVENTS.field(column).type)
        for name, column in _TEXTS.items()
        if name in given
    }
    numbers = frame.select(_numbers(frame, given, stamp)).to_arrow()
    columns |= dict(zip(numbers.column_names, numbers.columns, strict=True))
    if "key" in given:
        columns |= _keys(text(frame.select("flow", "key"), words), stamp)
    if attributes is not None:
        columns["attributes"] = attributes
    fields = [field for field in EVENTS if field.name in columns]
    return pa.table([columns[field.name] for field in fields], names=[field.name for field in fields]).cast(
        pa.schema(fields)
    )


def _texts(column: pl.Series, words: pl.Series | None, kind: pa.DataType) -> pa.Array:
    if words is not None:
        known = words.to_arrow().cast(pa.string())
        if known.null_count:
            known = pc.fill_null(known, "")
        coded = pa.DictionaryArray.from_arrays(column.cast(pl.Int32).to_arrow(), known)
        return coded if pa.types.is_dictionary(kind) else coded.dictionary_decode()
    found = column.to_arrow().cast(pa.string())
    return found.dictionary_encode() if pa.types.is_dictionary(kind) else found


def _numbers(frame: pl.DataFrame, given: Collection[str], stamp: Stamp) -> Iterator[pl.Expr]:
    yield pl.col("observed_at_").alias("observed_at")
    yield pl.lit(stamp.now, pl.Int64).alias("received_at")
    if "observed_from" in given:
        yield (pl.col("observed_at_") - pl.col("observed_from_")).fill_null(0).alias("observed_span")
    if "origin_at" in given:
        yield pl.col("origin_at_").fill_null(0).alias("origin_at")
    if "digest" in given:
        digest = pl.col("digest")
        read = digest.str.to_integer(base=16, dtype=pl.UInt64, strict=False)
        yield (read if frame.schema["digest"] == pl.String else digest).fill_null(0).alias("digest")
    if "size" in given:
        yield pl.col("size_").fill_null(0).cast(pl.UInt64).alias("size")
    if "offset" in given:
        yield pl.col("offset_").fill_null(-1).alias("offset")
    if "attempt" in given:
        yield pl.col("attempt_").fill_null(0).cast(pl.UInt16).alias("attempt")
    if "backfill" in given:
        said = pl.col("backfill")
        yield (said if frame.schema["backfill"] == pl.Boolean else said == "true").fill_null(False).alias("backfill")
    if stamp.clock:
        yield pl.lit(stamp.clock.correction, pl.Int64).alias("clock_offset")
        yield pl.lit(stamp.clock.error, pl.Int64).alias("clock_error")


def _keys(frame: pl.DataFrame, stamp: Stamp) -> dict[str, pa.Array]:
    plain = pl.when(pl.col("flow").is_in(sorted(stamp.plain))).then(pl.col("key")).otherwise(pl.lit("")).fill_null("")
    return {
        "key_hash": _key_hash(frame["key"], stamp.salt).to_arrow(),
        "key": frame.select(plain).to_series().to_arrow(),
    }


def ranges(frame: pl.DataFrame, words: Words, now: int) -> pa.Table:
    """Rows of RANGES out of checked lines with `evidence: range`."""
    if not frame.height:
        return RANGES.empty_table()
    frame = text(frame, words)
    ready = frame.select(
        pl.lit("").alias("tenant"),
        *(pl.col(name) for name in ("flow", "hop", "stage", "log", "partition")),
        offset=pl.col("offset_"),
        offset_to=pl.col("offset_to_"),
        reason=_said(frame, "reason"),
        consumer_group=_said(frame, "group"),
        node=_said(frame, "node"),
        observed_from=pl.col("observed_from_"),
        observed_at=pl.col("observed_at_"),
        received_at=pl.lit(now, pl.Int64),
    )
    return ready.to_arrow().select(RANGES.names).cast(RANGES)


def _said(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).fill_null("") if name in frame.columns else pl.lit("")


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


def attribute_maps(frame: pl.DataFrame) -> tuple[pa.Array | None, dict[int, str]]:
    """The attributes as maps of text, one per row (null is an empty one), None where no row has any; and why, by row,
    where that is impossible.

    Values in JSON that are numbers or booleans become their JSON; anything nested is refused.
    """
    if "attributes" not in present(frame):
        return None, {}
    found = frame["attributes"]
    if found.dtype != pl.String:
        return _paired(found), {}
    found = found.replace("", None).fill_null("{}")
    joined = b"[" + ",".join(found.to_list()).encode() + b"]"
    try:
        return pa.array(msgspec.json.decode(joined, type=list[dict[str, str]]), _MAP), {}
    except (msgspec.DecodeError, RecursionError):
        return _attribute_maps_singly(found)


def _paired(lists: pl.Series) -> pa.Array:
    """Lists of (key, value) as maps; a null value says as little as an empty one."""
    pairs = lists.list.explode(keep_nulls=False, empty_as_null=False).struct.unnest()
    texts = [pairs[name].fill_null("").to_arrow().cast(pa.string()) for name in ("key", "value")]
    ends = lists.list.len().fill_null(0).cum_sum().cast(pl.Int32)
    return pa.MapArray.from_arrays(pl.concat([pl.Series(ends.name, [0], pl.Int32), ends]).to_arrow(), *texts)


def _attribute_maps_singly(texts: pl.Series) -> tuple[pa.Array, dict[int, str]]:
    maps: list[Mapping[str, str]] = []
    bad: dict[int, str] = {}
    for row, written in enumerate(texts):
        try:
            found = msgspec.json.decode(written, type=dict[str, str | int | float | bool])
            maps.append({k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in found.items()})
        except (msgspec.DecodeError, RecursionError) as error:
            maps.append({})
            bad[row] = f"must be an object of texts: {error}"
    return pa.array(maps, _MAP), bad


def _key_hash(keys: pl.Series, salt: int) -> pl.Series:
    """xxh3-64 of each distinct key, seeded by `salt`; 0 where there is none. The loop over keys is `map`'s own."""
    distinct = keys.drop_nulls().unique()
    hashes = pl.Series(
        list(map(partial(xxhash.xxh3_64_intdigest, seed=salt), distinct.cast(pl.Binary).to_list())), dtype=pl.UInt64
    )
    return keys.replace_strict(distinct, hashes, default=0, return_dtype=pl.UInt64).fill_null(0).alias("key_hash")
