"""Headers as the broker sends them: what pika reads is read the same, and what it gives up a connection for is read."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Raw
from collectors.errors import Undecodable
from collectors.rabbitmq.message import packed_properties, problem_of, properties_of, readable
from collectors.rabbitmq.table import DEPTH, told
from tests.brokers.rabbitmq_headers import header, nested


def encoded(table: bytes) -> bytes:
    """Property flags and this table of headers."""
    return struct.pack(">HI", 1 << 13, len(table)) + table


def read(kind: bytes, value: bytes) -> Any:
    """The one header of this type."""
    found = told(encoded(header("h", kind, value)))
    assert found.problem == ""
    return found.headers["h"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have none
    | st.decimals(-(10**4), 10**4, places=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
    st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.integers(0, 2**64 - 1),
)
def test_what_pika_reads_is_read_the_same(
    headers: dict[str, Any], message_id: str, correlation_id: str | None, timestamp: int | None
) -> None:
    """Values and their types, so that a record keeps the fingerprint that it had."""
    properties = pika.BasicProperties(
        "text", "gzip", headers, 2, 1, correlation_id, "reply", "1000", message_id, timestamp
    )
    parts = b"".join(properties.encode())
    known = pika.BasicProperties().decode(parts)
    found = told(parts)
    assert found == (known.message_id, known.correlation_id, known.timestamp, known.headers, "")
    assert packed_properties(found) == packed_properties(known)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (b"T", struct.pack(">Q", 1_795_000_000), datetime.fromtimestamp(1_795_000_000, UTC)),
        (b"T", struct.pack(">Q", 1_795_000_000_000), "1795000000000 s"),
        (b"T", struct.pack(">q", -5), f"{2**64 - 5} s"),
        (b"d", struct.pack(">d", 0.1), 0.1),
        (b"f", struct.pack(">f", float("inf")), float("inf")),
        (b"s", struct.pack(">h", -2), -2),
        (b"u", struct.pack(">H", 2**15), 2**15),
        (b"b", b"\xff", -1),
        (b"B", b"\xff", 255),
        (b"i", struct.pack(">I", 2**31), 2**31),
        (b"S", struct.pack(">I", 2) + b"\xff\xfe", b"\xff\xfe"),
        (b"D", struct.pack(">Bi", 255, 1), Decimal(1).scaleb(-255)),
    ],
)
def test_every_type_and_every_value(kind: bytes, value: bytes, wanted: object) -> None:
    """A date that no calendar has is text, which nobody takes for a number of another unit."""
    assert read(kind, value) == wanted


def test_a_number_that_is_none() -> None:
    """Is a number all the same."""
    found = read(b"d", struct.pack(">d", float("nan")))
    assert found != found


def test_a_name_that_is_no_utf_8_is_shown() -> None:
    """The others are read."""
    found = told(encoded(header(b"\xff", b"t", b"\x01") + header("b", b"V", b"")))
    assert found.headers == {"\\xff": True, "b": None}


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_what_is_nested_too_deep_is_left_as_bytes(kind: bytes) -> None:
    """A stack has an end, and what is read has to be packed."""
    found = told(encoded(nested(3000, kind)))
    assert found.problem == ""
    assert len(packed_properties(found)) > 3000
    depth, value = 0, found.headers["a"]
    while not isinstance(value, bytes):
        depth, value = depth + 1, value["a"] if isinstance(value, dict) else value[0]
    assert depth == DEPTH


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (header("z", b"q", b"\x01"), "there is no type b'q'"),
        (header("z", b"S", struct.pack(">I", 50) + b"x"), "beyond the end"),
        (header("z", b"A", struct.pack(">I", 50)), "beyond the end"),
        (header("z", b"I", b"\x00"), "AMQP 0-9-1"),
    ],
)
def test_where_bytes_make_no_sense_what_came_before_counts(broken: bytes, words: str) -> None:
    """And the record cannot be decoded, which is said of it and of no other."""
    found = told(encoded(header("a", b"t", b"\x01") + broken))
    assert found.headers["a"] is True
    assert words in found.problem
    with pytest.raises(Undecodable, match="no AMQP 0-9-1"):
        readable(Raw(b"", problem_of(found)))
    with pytest.raises(Undecodable, match="no AMQP 0-9-1"):
        properties_of(Raw(b"", problem_of(found)))


@given(st.binary(max_size=80))
def test_any_bytes(noise: bytes) -> None:
    """Nothing is raised, and what was read can be packed."""
    for found in (told(noise), told(encoded(noise))):
        packed_properties(found)
