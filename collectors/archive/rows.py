"""Messages as columns: what a segment holds. The only module that writes and reads Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.carried import digest_of
from collectors.errors import Unreadable

SCHEMA = pa.schema(
    [
        ("message_id", pa.string()),
        ("hop", pa.string()),
        ("stage", pa.string()),
        ("partition", pa.string()),
        ("offset", pa.int64()),
        ("key", pa.large_binary()),
        ("value", pa.large_binary()),
        ("headers", pa.map_(pa.string(), pa.large_binary())),
        ("observed_at", pa.timestamp("us", "UTC")),
        ("origin_at", pa.timestamp("us", "UTC")),
        ("digest", pa.string()),
        ("native", pa.large_binary()),
    ]
)
WITHOUT_NATIVE = pa.schema(list(SCHEMA)[:-1])
"""What segments held before they kept `native`."""
_REPEATING = ["hop", "stage", "partition"]


class Row(NamedTuple):
    """One message, in the order of the columns. `value` None: a tombstone. `headers`: pairs. `native`: as `Content` of
    `collectors.base` has it."""

    message_id: str
    hop: str
    stage: str
    partition: str
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    observed_at: int
    origin_at: int | None
    digest: str
    native: bytes | None = None


def table_of(rows: Sequence[Row]) -> Any:
    """The rows as a table."""
    # Not by zip(*rows): tens of thousands of iterators at once wake the garbage collector, which then looks at all.
    arrays = [pa.array([row[at] for row in rows], field.type) for at, field in enumerate(SCHEMA)]
    return pa.table(arrays, schema=SCHEMA)


def packed(table: Any) -> bytes:
    """A table as Parquet, zstd."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=_REPEATING, write_statistics=False)
    done: bytes = sink.getvalue().to_pybytes()
    return done


def unpacked(name: str, data: bytes) -> Any:
    """The table that was packed, also by an earlier version. Raises `Unreadable`."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError):
        raise Unreadable(name, "its content is no table") from None
    if table.schema.names == WITHOUT_NATIVE.names:
        table = table.append_column("native", pa.nulls(table.num_rows, pa.large_binary()))
    if table.schema.names != SCHEMA.names:
        raise Unreadable(name, "its columns are not those of a segment")
    return table.cast(SCHEMA)


def checked(name: str, table: Any) -> Any:
    """The table, when every value has its digest. Raises `Unreadable`."""
    values, digests = table.column("value"), table.column("digest").to_pylist()
    for number, (value, digest) in enumerate(zip(values, digests, strict=True)):
        if digest_of(value.as_py()) != digest:
            raise Unreadable(name, f"the payload in row {number} has another digest")
    return table
