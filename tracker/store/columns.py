"""The columns that the store takes, as Arrow schemas. Times are int64 µs; the writer types them for the engine."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

_text, _int, _uint = pa.string(), pa.int64(), pa.uint64()
WORD = pa.dictionary(pa.int32(), pa.string())
"""Text of which a batch holds few different ones: the engine keeps it in the same way."""
_sources = pa.list_(pa.struct([(name, pa.string()) for name in ("flow", "hop", "stage", "source", "evidence")]))

EVENTS = pa.schema(
    [
        ("tenant", WORD),
        ("flow", WORD),
        ("message_id", _text),
        ("hop", WORD),
        ("stage", WORD),
        ("observed_at", _int),
        ("observed_span", _int),
        ("origin_at", _int),
        ("reason", WORD),
        ("delivery", _text),
        ("node", WORD),
        ("region", WORD),
        ("digest", _uint),
        ("size", _uint),
        ("key_hash", _uint),
        ("key", _text),
        ("partition", WORD),
        ("offset", _int),
        ("consumer_group", WORD),
        ("attempt", pa.uint16()),
        ("trace_id", _text),
        ("span_id", _text),
        ("correlation_id", _text),
        ("causation_id", _text),
        ("replay_id", WORD),
        ("attributes", pa.map_(_text, _text)),
        ("backfill", pa.bool_()),
        ("received_at", _int),
        ("clock_offset", _int),
        ("clock_error", _int),
    ]
)
"""One event a row. A column may be left out, and a null stands for nothing, as 0 and an empty text do. `observed_span`
is observed_at - observed_from (0: a point in time), `origin_at` 0 is not carried, `delivery` only an explicit one,
`digest` and `key_hash` 0 are none, `offset` -1 is none. `observed_at` is corrected already, by `clock_offset` µs;
`clock_error` -1: the clock was not measured."""

RANGES = pa.schema(
    [
        *((name, _text) for name in ("tenant", "flow", "hop", "stage", "log", "partition")),
        ("offset", _int),
        ("offset_to", _int),
        ("reason", _text),
        ("consumer_group", _text),
        ("node", _text),
        ("observed_from", _int),
        ("observed_at", _int),
        ("received_at", _int),
    ]
)

QUARANTINE = pa.schema(
    [
        ("tenant", _text),
        ("source", _text),
        ("line", pa.uint32()),
        ("field", _text),
        ("reason", _text),
        ("raw", _text),
        ("flow", _text),
        ("received_at", _int),
    ]
)

REPORTS = pa.schema(
    [
        ("tenant", _text),
        ("collector", _text),
        *((name, _uint) for name in ("epoch", "sequence", "events", "lag_ms", "backlog", "dropped")),
        ("sources", _sources),
        ("signed_off", _sources),
        ("received_at", _int),
        ("clock_offset", _int),
        ("clock_error", _int),
    ]
)

TIMES = frozenset({"observed_at", "observed_from", "origin_at", "received_at"})
"""Columns that the engine holds as DateTime64(6, 'UTC')."""


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all, each with nothing in the columns that only others have; at least one table."""
    filled = [table for table in tables if table.num_rows] or tables[:1]
    return pa.concat_tables(filled, promote_options="default")
