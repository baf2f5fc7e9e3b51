"""An Arrow IPC stream -> columns. What the emitter sends, and anybody with an Arrow library.

The stream is not trusted: how many rows it says to hold, and how many bytes its compressed buffers say to become, is
read from its messages before anything is made of them, and every offset and index is checked.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from tracker.ingest.arrow.messages import inflated
from tracker.ingest.decoded import MAX_LINES, Decoded, Retold
from tracker.ingest.errors import TooLarge, Unreadable
from tracker.ingest.fields import INTEGERS, NAMES, TEXTS, TIMES, WIRE
from tracker.ingest.reports import HEADER

_FAR = 100_000_000_000_000_000
"""µs: the years from -1199 to 5138, as numbers in lines of JSON can say."""
_WORDS = {*NAMES, "stage", *TEXTS}
"""Of these a dictionary is kept, for the engine keeps one, too."""
_PAIRS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))


def decode(body: bytes, limit: int) -> Decoded:
    """Columns by their names on the wire; other columns are left out.

    Raises Unreadable naming the column, TooLarge for more than `MAX_LINES` rows or more than `limit` bytes of buffers.
    """
    table = _table(body, limit)
    words: dict[str, pl.Series] = {}
    columns = [pl.Series("line", range(1, table.num_rows + 1), pl.UInt32)]
    for name in WIRE:
        if name in table.column_names and table[name].null_count < table.num_rows:
            columns.append(_column(name, table[name].combine_chunks(), words))
    frame = pl.DataFrame(columns)
    metadata = table.schema.metadata or {}
    said = next(
        (value for key, value in metadata.items() if key.decode("utf-8", "replace").lower() == HEADER.lower()), b""
    )
    return Decoded(frame, [], Retold(frame, words), words, coverage=said.decode("utf-8", "replace"))


def _table(body: bytes, limit: int) -> pa.Table:
    if inflated(body, limit) > limit:
        raise TooLarge(f"the Arrow buffers are larger than {limit} bytes when inflated; send smaller batches")
    try:
        batches, rows = [], 0
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _unique(reader.schema)
            for batch in reader:
                rows += batch.num_rows
                if rows > MAX_LINES:
                    raise TooLarge(f"the Arrow stream has more than {MAX_LINES} rows; send at most so many at a time")
                batch.validate(full=True)
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema).unify_dictionaries()
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, IndexError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreadable(f"the Arrow stream cannot be read: {first}; nothing of it was stored") from None


def _unique(schema: pa.Schema) -> None:
    twice = sorted({name for name in schema.names if name in WIRE and len(schema.get_all_field_indices(name)) > 1})
    if twice:
        raise Unreadable(f"the Arrow stream has two columns {twice[0]!r}; nothing of it was stored")


def _column(name: str, column: pa.Array, words: dict[str, pl.Series]) -> pl.Series:
    """One column of the wire as `Decoded` has it; its words are put beside."""
    if name in _WORDS and pa.types.is_dictionary(column.type) and _textual(column.type.value_type):
        words[name] = pl.Series(name, column.dictionary.cast(pa.large_string()))
        return pl.Series(name, column.indices.cast(pa.uint32()))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if _textual(kind):
        return pl.Series(name, column)
    if name in TIMES and pa.types.is_timestamp(kind) and kind.tz:
        return _micros(name, column.cast(pa.int64()), kind.unit)
    if name in TIMES and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return pl.Series(name, column.cast(pa.large_string()))
    if name in INTEGERS and pa.types.is_integer(kind):
        return pl.Series(name, column if kind != pa.uint64() else column.cast(pa.large_string()))
    if name == "digest" and kind == pa.uint64():
        return pl.Series(name, column)
    if name == "backfill" and pa.types.is_boolean(kind):
        return pl.Series(name, column)
    if name == "attributes" and pa.types.is_map(kind) and _textual(kind.key_type) and _textual(kind.item_type):
        return _pairs(name, column)
    if name == "delivery" and pa.types.is_integer(kind):
        return pl.Series(name, column.cast(pa.large_string()))
    raise Unreadable(f"the Arrow column {name!r} has the type {kind}; docs/api.md (Arrow) lists what each may have")


def _micros(name: str, column: pa.Array, unit: str) -> pl.Series:
    """Times as µs. What lies millennia away is brought near enough to be told of: it is refused all the same."""
    times = pl.Series(name, column)
    if unit == "ns":
        return times // 1000
    per = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    return times.clip(-_FAR // per, _FAR // per) * per


def _textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _pairs(name: str, column: pa.MapArray) -> pl.Series:
    entries = pa.StructArray.from_arrays([column.keys, column.items], names=["key", "value"])
    return pl.Series(name, pa.ListArray.from_arrays(column.offsets, entries, mask=column.is_null()), _PAIRS)
