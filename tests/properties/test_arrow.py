"""Whatever columns an Arrow stream has, every row is stored or in quarantine, or all of it is refused with a reason."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingest.lines import CONTEXT, NOW, event, moved
from tests.unit.ingest.test_arrow import stream
from tracker.ingest.arrow import decode
from tracker.ingest.errors import Refused
from tracker.ingest.fields import WIRE
from tracker.ingest.lines.decode import Lines, patiently
from tracker.ingest.prepare import prepare

LIMIT = 1 << 20
KINDS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float64(),
    pa.float16(), pa.bool_(), pa.timestamp("s", "UTC"), pa.timestamp("ms", "Asia/Tokyo"), pa.timestamp("us", "UTC"),
    pa.timestamp("ns", "UTC"), pa.timestamp("us"), pa.date32(), pa.decimal128(20, 3), pa.null(), pa.list_(pa.string()),
    pa.map_(pa.string(), pa.string()), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64()),
    pa.dictionary(pa.uint16(), pa.large_string()),
]  # fmt: skip
values = st.none() | st.sampled_from([
    0, 1, -1, 127, NOW, NOW * 1000, NOW // 10**6, 2**62, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, float("nan"), 1e300,
    "", "x", "range", "persist", "drop", "orders", "\x00", "é" * 300, "true", "{}", '{"a": 1}', "00000000000000ff",
    b"\xff", True, [], ["a"], [("a", "b")], [("a", None)],
])  # fmt: skip


def column(draw: st.DrawFn, rows: int, usual: Any) -> pa.Array:
    """A column of some type, with what it can hold of what is drawn."""
    kind = draw(st.sampled_from(KINDS))
    drawn = [draw(values | st.just(usual)) for _ in range(rows)]
    return pa.array([value if held(value, kind) else None for value in drawn], kind)


def held(value: Any, kind: pa.DataType) -> bool:
    """Whether this type has room for it."""
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Some good rows, some of whose columns are anything."""
    rows = draw(st.integers(0, 4))
    usual: dict[str, Any] = draw(st.sampled_from([event(), moved(), {}]))
    columns = {name: pa.array([value] * rows) for name, value in usual.items()}
    for name in draw(st.lists(st.sampled_from(WIRE), max_size=4, unique=True)):
        columns[name] = column(draw, rows, usual.get(name))
    return pa.table(columns)


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([None, "lz4", "zstd"]))
def test_any_columns(columns: pa.Table, compression: Any) -> None:
    """Numbers, texts, nested values where others belong, and all that a type can hold at its ends; what is in
    quarantine can be sent again as lines."""
    body = stream(columns, compression)
    try:
        decoded = decode.decode(body, LIMIT)
    except Refused:
        return
    batch = prepare([decoded], "", CONTEXT)
    assert batch.answer.accepted + batch.answer.quarantined == columns.num_rows
    assert batch.events.num_rows + batch.ranges.num_rows == batch.answer.accepted
    raws = Lines("\n".join(batch.quarantine["raw"].to_pylist()).encode())
    again = prepare([patiently(raws, raws.filled)], "", CONTEXT)
    assert again.answer.accepted + again.answer.quarantined == batch.answer.quarantined
