"""What an advisory says: the message that it is about, as the broker writes it. Pure: bytes in, values out.

`jms-advisory-json` is XStream's picture of the message object. Text that looks like a number is one there (`007` is 7),
so properties and payload are taken of the bytes that the broker keeps of them: a map as `MarshallingSupport` of
activemq-client writes it, and the content as the kind of message defines it.
"""

from __future__ import annotations

import base64
import struct
from contextlib import suppress
from typing import Any

import msgspec

from collectors.errors import Undecodable

_FIXED = {2: ">b", 4: ">h", 5: ">i", 6: ">q", 7: ">d", 8: ">f"}
"""Type codes of numbers (`MarshallingSupport`): byte, short, integer, long, double, float."""


class Bytes(msgspec.Struct, frozen=True):
    """A part of a byte array, in base64."""

    data: list[str]
    offset: int
    length: int

    def value(self) -> bytes:
        """It. Raises `ValueError`."""
        return base64.b64decode("".join(self.data), validate=False)[self.offset : self.offset + self.length]


class Producer(msgspec.Struct, frozen=True, rename="camel"):
    """Who sent it."""

    connection_id: str | int | float
    session_id: int
    value: int


class MessageId(msgspec.Struct, frozen=True, rename="camel"):
    """The broker's own id of a message."""

    producer_id: Producer
    producer_sequence_id: int

    @property
    def text(self) -> str:
        """As clients see it (JMSMessageID)."""
        by = self.producer_id
        return f"{by.connection_id}:{by.session_id}:{by.value}:{self.producer_sequence_id}"


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """A message, as far as it matters. Times in epoch milliseconds of the broker, 0: not yet; `timestamp` is the
    producer's. `content` None: it is empty, or advisories leave it out."""

    message_id: MessageId
    broker_in_time: int = 0
    broker_out_time: int = 0
    timestamp: int = 0
    expiration: int = 0
    redelivery_counter: int = 0
    compressed: bool = False
    correlation_id: Any = None
    content: Bytes | None = None
    marshalled_properties: Bytes | None = None


class Advice(msgspec.Struct, frozen=True):
    """What was said of a message. `payload` None: not known."""

    message: Message
    headers: dict[str, Any]
    payload: bytes | None


_decoder = msgspec.json.Decoder(dict[str, Message])


def advice(body: bytes) -> Advice:
    """The body of an advisory. Raises `Undecodable`."""
    try:
        ((kind, message),) = _decoder.decode(body).items()
        properties = message.marshalled_properties
        headers = _table(properties.value()) if properties else {}
        return Advice(message, headers, _payload(kind, message))
    except (msgspec.MsgspecError, ValueError, IndexError, struct.error, RecursionError) as error:
        raise Undecodable(f"not an advisory about a message: {error}") from None


def _payload(kind: str, message: Message) -> bytes | None:
    """As its producer wrote it. A text has its length before it; what is compressed is left alone, and a text that is
    no UTF-8: Java clients write what is beyond the first plane, and NUL, in a way of their own."""
    if message.content is None or message.compressed:
        return None
    found = message.content.value()
    if kind != "ActiveMQTextMessage":
        return found
    with suppress(UnicodeDecodeError):
        found[4:].decode()
        return found[4:]
    return None


def _table(data: bytes) -> dict[str, Any]:
    """Properties. What is nested is of no use here: nothing behind it is read."""
    (count,) = struct.unpack_from(">i", data)
    found: dict[str, Any] = {}
    at = 4
    for _ in range(count):
        name, at = _text(data, at, ">H")
        kind, at = data[at], at + 1
        if kind in _FIXED:
            (found[name],) = struct.unpack_from(_FIXED[kind], data, at)
            at += struct.calcsize(_FIXED[kind])
        elif kind == 1:
            found[name], at = bool(data[at]), at + 1
        elif kind == 3:
            found[name], at = data[at : at + 2].decode("utf-16-be"), at + 2
        elif kind in (9, 13):
            found[name], at = _text(data, at, ">H" if kind == 9 else ">i")
        elif kind == 10:
            (length,) = struct.unpack_from(">I", data, at)
            found[name], at = data[at + 4 : at + 4 + length], at + 4 + length
        elif kind:
            break
    return found


def _text(data: bytes, at: int, size: str) -> tuple[str, int]:
    """Java's UTF-8: beyond the first plane as two surrogates of three bytes each, and NUL as two bytes."""
    (length,) = struct.unpack_from(size, data, at)
    at += struct.calcsize(size)
    if length < 0 or at + length > len(data):
        raise ValueError("properties are cut off")
    plain = data[at : at + length].replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
    return plain.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace"), at + length
