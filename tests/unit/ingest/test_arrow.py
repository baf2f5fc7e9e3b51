"""Arrow IPC streams: what they may say, and what they may not do."""

from __future__ import annotations

import datetime as dt
import json
import struct
from contextlib import suppress
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tests.unit.ingest.lines import CONTEXT, NOTHING, NOW, batch, event, moved, stored
from tracker.ingest.arrow import decode as arrow
from tracker.ingest.arrow.messages import MAX_MESSAGES
from tracker.ingest.batch import Batch
from tracker.ingest.decoded import MAX_LINES
from tracker.ingest.errors import TooLarge, Unreadable
from tracker.ingest.prepare import prepare

LIMIT = 1 << 20
WORD = pa.dictionary(pa.int8(), pa.string())
FIELDS: dict[str, list[Any]] = {
    "flow": ["orders", "orders", "open"], "message_id": ["m-1", "m-2", "m-3"], "hop": ["shop", "log", "log"],
    "stage": ["produce", "persist", "drop"], "observed_at": [NOW, NOW + 1, NOW + 2], "reason": [None, None, "expired"],
    "node": ["n1", None, "n2"], "digest": [None, 255, 1 << 63], "offset": [None, 7, 8], "attempt": [None, 2, None],
    "size": [0, None, 9], "origin_at": [None, NOW - 5, None], "backfill": [None, True, False],
    "attributes": [None, [("a", "b"), ("c", "")], []],
}  # fmt: skip
KINDS: dict[str, pa.DataType] = {
    "flow": WORD, "hop": WORD, "stage": WORD, "node": WORD, "reason": WORD, "observed_at": pa.timestamp("us", "UTC"),
    "origin_at": pa.timestamp("ns", "Europe/Berlin"), "digest": pa.uint64(), "attempt": pa.uint16(),
    "offset": pa.int64(), "size": pa.uint64(), "attributes": pa.map_(pa.string(), pa.string()), "backfill": pa.bool_(),
}  # fmt: skip


def table(**kinds: pa.DataType) -> pa.Table:
    """The events of `FIELDS`; columns of other types than usual."""
    chosen = KINDS | kinds
    made = {name: pa.array(_scaled(values, chosen.get(name)), chosen.get(name)) for name, values in FIELDS.items()}
    return pa.table(made)


def _scaled(values: list[Any], kind: pa.DataType | None) -> list[Any]:
    by = {"us": 1, "ns": 1000}[kind.unit] if kind is not None and pa.types.is_timestamp(kind) else 1
    return [value * by if by > 1 and value is not None else value for value in values]


def stream(columns: pa.Table, compression: str | None = None, rows: int = 1 << 20) -> bytes:
    """An IPC stream with batches of so many rows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(columns, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def read(body: bytes, header: str = "", limit: int = LIMIT) -> Batch:
    """The batch of a stream."""
    decoded = arrow.decode(body, limit)
    return prepare([decoded], header or decoded.coverage, CONTEXT)


def as_lines() -> list[dict[str, Any]]:
    """The same events as objects of NDJSON."""
    rows = [dict(zip(FIELDS, values, strict=True)) for values in zip(*FIELDS.values(), strict=True)]
    for row in rows:
        row["digest"] = None if row["digest"] is None else f"{row['digest']:016x}"
        row["attributes"] = dict(row["attributes"]) if row["attributes"] else None
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_the_same_as_lines(compression: str | None, rows: int) -> None:
    """Whatever the batches and their compression: rows as from NDJSON."""
    got, said = read(stream(table(), compression, rows)), batch(*as_lines())
    assert stored(got) == stored(said)
    assert (got.answer.accepted, got.answer.quarantined) == (3, 0)


@pytest.mark.parametrize("kinds", [
    {"flow": pa.string(), "hop": pa.large_string(), "stage": pa.string_view(), "node": pa.string()},
    {"message_id": pa.dictionary(pa.int32(), pa.string()), "attempt": pa.int64(), "offset": pa.uint8()},
    {"observed_at": pa.int64(), "origin_at": pa.int64(), "size": pa.int8()},
    {"observed_at": pa.dictionary(pa.int8(), pa.int64()), "offset": pa.dictionary(pa.int8(), pa.int64())},
])  # fmt: skip
def test_columns_of_other_types(kinds: dict[str, pa.DataType]) -> None:
    """Texts with and without a dictionary, numbers of any width, times as numbers."""
    assert stored(read(stream(table(**kinds)))) == stored(batch(*as_lines()))


def test_texts_for_times_digests_and_attributes() -> None:
    """A column of text says what a line of JSON would."""
    written = pa.table({
        **{name: [row[name] for row in as_lines()] for name in ("flow", "message_id", "hop", "stage")},
        "observed_at": [dt.datetime.fromtimestamp(NOW // 10**6, dt.UTC).isoformat()] * 3,
        "reason": [None, None, "expired"], "digest": ["00000000000000ff"] * 3, "attributes": ['{"a": "b"}'] * 3,
        "backfill": ["true"] * 3, "offset": ["7"] * 3,
    })  # fmt: skip
    rows = stored(read(stream(written)))
    assert [row["digest"] for row in rows] == [255] * 3
    assert [(row["attributes"], row["backfill"], row["offset"]) for row in rows] == [([("a", "b")], True, 7)] * 3
    assert [row["observed_at"] for row in rows] == [NOW] * 3


def test_what_else_there_is_is_left_out() -> None:
    """Columns that the wire does not know, and those with nothing in them."""
    more = table().append_column("mood", pa.array([1.5] * 3)).append_column("region", pa.nulls(3))
    assert stored(read(stream(more))) == stored(batch(*as_lines()))


def test_ranges_come_along() -> None:
    """As with `evidence: range` in lines."""
    line = moved()
    got = read(stream(pa.Table.from_pylist([line])))
    assert got.ranges.to_pylist() == batch(line).ranges.to_pylist()
    assert got.events.num_rows == 0


@pytest.mark.parametrize(("column", "values", "field"), [
    ("flow", ["orders", "other", "open"], "flow"),
    ("stage", ["produce", "lost", None], "stage"),
    ("hop", ["", "a b", "log"], "hop"),
    ("reason", [None, None, "bored"], "reason"),
    ("message_id", ["", "m", "x" * 513], "message_id"),
    ("observed_at", [0, NOW, NOW * 3], "observed_at"),
    ("offset", [-1, 7, 8], "offset"),
    ("attempt", [1, 70_000, 2], "attempt"),
    ("node", ["\x00", "n", "n"], "node"),
    ("digest", ["zz", None, None], "digest"),
    ("attributes", ["[]", None, None], "attributes"),
    ("attributes", ['{"a": []}', None, None], "attributes"),
])  # fmt: skip
def test_bad_rows_are_told_as_bad_lines_are(column: str, values: list[Any], field: str) -> None:
    """The same lines, fields and reasons; what quarantine keeps can be sent again as a line."""
    columns = {name: pa.array([row.get(name) for row in as_lines()]) for name in ("flow", "message_id", "hop", "stage")}
    columns |= {"observed_at": pa.array(FIELDS["observed_at"]), "reason": pa.array(FIELDS["reason"])}
    columns |= {column: pa.array(values)}
    got = read(stream(pa.table(columns)))
    lines = [{k: v for k, v in row.items() if v is not None} for row in pa.table(columns).to_pylist()]
    for line in lines:
        if str(line.get("attributes", "")).startswith(("{", "[")):
            line["attributes"] = json.loads(line["attributes"])
    said = batch(*lines)
    assert got.answer.quarantined > 0
    assert got.answer == said.answer
    assert {error.field for error in got.answer.errors} >= {field}
    again = batch(*[row["raw"].encode() for row in got.quarantine.to_pylist()])
    if column != "attributes":
        assert [e.reason for e in again.answer.errors] == [e.reason for e in got.answer.errors]


def test_dictionary_columns_are_checked_by_their_words() -> None:
    """One bad word, used twice, makes two bad rows; one that is not used makes none."""
    flows = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None], pa.int8()), pa.array(["orders", "other", "b d"]))
    columns = {"flow": flows, "message_id": ["a", "b", "c", "d"], "hop": ["h"] * 4, "stage": ["ack"] * 4}
    got = read(stream(pa.table(columns | {"observed_at": [NOW] * 4})))
    assert [(e.line, e.field) for e in got.answer.errors] == [(2, "flow"), (3, "flow"), (4, "flow")]
    assert got.events["message_id"].to_pylist() == ["a"]


def test_attributes_are_bounded() -> None:
    """Names and values together, as in lines."""
    row = event(attributes=None) | {"attributes": [("k", "v" * 8192)]}
    kind = pa.map_(pa.string(), pa.string())
    columns = pa.Table.from_pylist([row]).set_column(5, "attributes", pa.array([row["attributes"]], kind))
    assert [e.field for e in read(stream(columns)).answer.errors] == ["attributes"]


def test_a_coverage_report_in_the_schema() -> None:
    """In the stream's metadata, where no header says it."""
    report = {"collector": "c", "epoch": 1, "sequence": 1, "events": 3, "lag_ms": 0, "backlog": 0, "dropped": 0}
    told = table().replace_schema_metadata({"tracker-coverage": json.dumps(report)})
    assert read(stream(told)).reports["collector"].to_pylist() == ["c"]
    other = json.dumps(report | {"collector": "d"})
    assert read(stream(told), header=other).reports["collector"].to_pylist() == ["d"]


@pytest.mark.parametrize("body", [b"", b"ARROW1", b"\xff\xff\xff\xff", b"{}", stream(table())[:-40], b"\x00" * 64])
def test_what_is_no_stream(body: bytes) -> None:
    """Is refused as a whole, or read as far as it is whole; never more."""
    with suppress(Unreadable):
        assert read(body).answer.accepted in (0, 3)


@pytest.mark.parametrize(
    "kinds", [{"observed_at": pa.timestamp("us")}, {"digest": pa.int32()}, {"offset": pa.float64()}]
)
def test_types_that_say_nothing(kinds: dict[str, pa.DataType]) -> None:
    """A time without a zone, a digest that is too short, half an offset: the column is named."""
    values = {"digest": [None, 255, 1]}.get(next(iter(kinds)), FIELDS[next(iter(kinds))])
    columns = table().drop_columns([*kinds])
    for name, kind in kinds.items():
        columns = columns.append_column(name, pa.array(values, kind))
    with pytest.raises(Unreadable, match=next(iter(kinds))):
        read(stream(columns))


def test_the_same_column_twice() -> None:
    """Nobody can tell which one counts."""
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["flow", "flow"])
    with pytest.raises(Unreadable, match="two columns 'flow'"):
        read(stream(twice))


def test_it_may_not_grow() -> None:
    """Compressed buffers that become too many bytes, the same buffer used for many columns, rows without any bytes."""
    large = pa.table({"message_id": ["x" * 500] * 10_000})
    assert len(stream(large, "zstd")) < LIMIT
    with pytest.raises(TooLarge, match="when inflated"):
        read(stream(large, "zstd"))
    with pytest.raises(TooLarge, match="rows"):
        read(stream(pa.table({"flow": pa.nulls(MAX_LINES + 1)})))
    with pytest.raises(TooLarge, match="messages"):
        read(stream(table(flow=pa.string(), hop=pa.string(), stage=pa.string(), node=pa.string(),
                          reason=pa.string()).take([0] * (MAX_MESSAGES + 1)), rows=1))  # fmt: skip


def test_a_buffer_that_lies_about_its_size() -> None:
    """The size that a compressed buffer says to have is believed before it is unpacked, not after."""
    body = stream(pa.table({"message_id": ["x" * 500] * 1000}), "lz4")
    for size in (1 << 40, -7):
        place = body.index(struct.pack("<q", 500 * 1000))
        lying = body[:place] + struct.pack("<q", size) + body[place + 8 :]
        with pytest.raises((TooLarge, Unreadable)):
            read(lying)


def test_offsets_that_lie() -> None:
    """Texts that end before they begin, or beyond the buffer, are refused before anybody looks there."""
    body = bytearray(stream(pa.table({"message_id": ["abc", "def"]})))
    place = bytes(body).index(struct.pack("<iii", 0, 3, 6))
    for ends in ((0, 1 << 30, 6), (0, 6, 3), (-8, 3, 6), (0, 3, 1 << 30)):
        body[place : place + 12] = struct.pack("<iii", *ends)
        with pytest.raises(Unreadable):
            read(bytes(body))


def test_indices_that_lie() -> None:
    """Of a dictionary, beyond its words."""
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["wordone", "wordtwo"]))
    body = bytearray(stream(pa.table({"flow": words})))
    place = bytes(body).rindex(struct.pack("<ii", 0, 1))
    body[place : place + 8] = struct.pack("<ii", 0, 77_777)
    with pytest.raises(Unreadable):
        read(bytes(body))


def test_nothing_is_assumed_of_the_order_of_columns() -> None:
    """Nor of how many rows a dictionary serves."""
    assert stored(read(stream(table().select(sorted(FIELDS, reverse=True))))) == stored(batch(*as_lines()))
    assert NOTHING["offset"] == -1
    assert isinstance(arrow.decode(stream(table()), LIMIT).frame, pl.DataFrame)
