"""Properties as bytes: what is sent again is what was sent, whatever types it has."""

from __future__ import annotations

import struct
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.rabbitmq.properties import fields, joined, of_trace, split
from collectors.rabbitmq.publisher import properties_of
from tests.brokers.rabbitmq_headers import header
from tests.unit.collectors.test_rabbitmq_table import VALUES
from tracker.model.carry import REPLAY_ATTEMPT, REPLAY_ID, Copy, Locator

TEXT = st.none() | st.text(max_size=20)
NAMES = [
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id",
    "app_id", "cluster_id",
]  # fmt: skip
ALL = st.fixed_dictionaries(
    dict.fromkeys(NAMES, TEXT)
    | {"headers": st.none() | st.dictionaries(st.text(max_size=8), VALUES, max_size=4)}
    | {"delivery_mode": st.none() | st.integers(1, 2), "priority": st.none() | st.integers(0, 255)}
    | {"timestamp": st.none() | st.integers(0, 2**31)}
)


def encoded(**properties: Any) -> bytes:
    """As a broker sends them."""
    return b"".join(pika.BasicProperties(**properties).encode())


def decoded(bytes_: bytes) -> dict[str, Any]:
    """As a consumer with pika reads them."""
    found = pika.BasicProperties().decode(bytes_)
    return {name: value for name, value in vars(found).items() if value is not None}


def again(native: bytes, *headers: str, user: str = "guest", added: dict[str, bytes] | None = None) -> bytes:
    """What a publisher sends of a copy that has these headers."""
    copy = Copy(Locator("m-1", "rabbit", "", 0), None, b"", dict.fromkeys(headers, b"") | (added or {}), "", native)
    return b"".join(properties_of(copy, user).encode())


@given(ALL)
def test_taken_apart_and_put_together(properties: dict[str, Any]) -> None:
    """The same bytes; and sent again nothing but the delivery mode is another."""
    native = encoded(**properties)
    assert joined(split(native)) == native
    headers = dict(properties["headers"] or {})
    sent = decoded(again(native, *headers, user=properties["user_id"] or ""))
    assert sent.pop("delivery_mode") == 2
    known = decoded(native)
    known.pop("delivery_mode", None)
    assert {"headers": {}, **known} == sent


@given(ALL)
def test_what_a_trace_shows(properties: dict[str, Any]) -> None:
    """The firehose has them as a table."""
    table = {name: value for name, value in properties.items() if value is not None}
    native = of_trace(encoded(headers={"exchange_name": "x", "properties": table}), properties["timestamp"])
    assert native is not None
    assert decoded(native) == decoded(encoded(**properties))


def test_no_trace() -> None:
    """Headers without properties, or with something else under that name."""
    assert of_trace(encoded(), None) is None
    assert of_trace(encoded(headers={"properties": "text"}), None) is None
    odd = {"properties": {"content_type": 7, "headers": "none", "priority": "high", "reply_to": "x" * 256}}
    assert of_trace(encoded(headers=odd), None) == encoded()


def test_types_that_pika_does_not_write() -> None:
    """A float of 32 bits, an unsigned byte, a time that no calendar has: byte for byte."""
    some = [header("f", b"f", struct.pack(">f", 1.5)), header("b", b"B", b"\xff"), header("t", b"T", b"\x7f" * 8)]
    table = struct.pack(">I", len(b"".join(some))) + b"".join(some)
    sent = split(again(joined({"headers": table}), "f", "b", "t"))["headers"]
    assert [whole for _, _, whole in fields(sent)] == some


def test_what_a_replay_changes() -> None:
    """Its own headers are added, also over those of an earlier one; what the copy no longer has stays behind, and so
    does what would send it to further queues."""
    native = encoded(headers={"kind": "order", "x-death": [{"count": 1}], "CC": ["x"], REPLAY_ID: "r-1", "n": 7})
    sent = decoded(again(native, "kind", "n", "CC", added={REPLAY_ID: b"r-2", REPLAY_ATTEMPT: b"2"}))
    assert sent == {"delivery_mode": 2, "headers": {"kind": "order", "n": 7, REPLAY_ID: "r-2", REPLAY_ATTEMPT: "2"}}


def test_another_user_is_not_passed_off() -> None:
    """The broker refuses a `user_id` that is not the sender's own."""
    native = encoded(user_id="shop", app_id="a")
    assert decoded(again(native, user="shop"))["user_id"] == "shop"
    assert "user_id" not in decoded(again(native, user="tracker"))


@pytest.mark.parametrize(
    "native", [b"", b"\xff", b"\xff\xfc", struct.pack(">HI", 1 << 13, 9) + b"\x01a", b"\x80\x00\x05ab"]
)
def test_what_is_no_amqp(native: bytes) -> None:
    """Told, whatever the bytes."""
    with pytest.raises(ValueError, match=r"."):
        again(native, "a")


@given(st.binary(max_size=60))
def test_any_bytes(native: bytes) -> None:
    """Properties, or a `ValueError`; nothing else."""
    for table in (native, struct.pack(">HI", 1 << 13, len(native)) + native):
        try:
            again(table)
            of_trace(table, 7)
        except ValueError:
            pass
