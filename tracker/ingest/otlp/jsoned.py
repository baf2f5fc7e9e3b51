"""OTLP's JSON -> its protobuf, so that one walk reads both. Python looks at each attribute here: this is for browsers
and for trying things out, a service sends protobuf.

The rules are those of https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: names in lowerCamelCase, ids
as hex, 64-bit numbers as text or number, bytes as base64, enums as numbers, unknown names left out.
"""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

from tracker.ingest.errors import TooLarge, Unreadable

Int = int | str | None

LIMIT = 4 << 20
"""Bytes of a body in JSON: three bytes of it can stand for a hundred of memory, `{},` for a span."""


class _Array(msgspec.Struct, rename="camel"):
    values: list[_Any] | None = None


class _Any(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Int = None
    double_value: float | str | None = None
    array_value: _Array | None = None
    bytes_value: str | None = None


class _Attribute(msgspec.Struct):
    key: str = ""
    value: _Any | None = None


class _Link(msgspec.Struct, rename="camel"):
    attributes: list[_Attribute] | None = None


class _Status(msgspec.Struct):
    code: Int = None


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    kind: Int = None
    start_time_unix_nano: Int = None
    end_time_unix_nano: Int = None
    attributes: list[_Attribute] | None = None
    links: list[_Link] | None = None
    status: _Status | None = None


class _Scope(msgspec.Struct):
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Attribute] | None = None


class _Group(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Group] | None = None


def protobuf(body: bytes) -> bytes:
    """The request as protobuf, as far as events need it. Raises Unreadable saying what is wrong, TooLarge."""
    if len(body) > LIMIT:
        raise TooLarge(f"the body has {len(body)} bytes; in JSON at most {LIMIT} are read: send protobuf, or less")
    try:
        request = msgspec.json.decode(body, type=_Request)
        return b"".join(block(10, _group(group)) for group in request.resource_spans or ())
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError, binascii.Error) as error:
        raise Unreadable(f"the body is no ExportTraceServiceRequest in JSON: {error}") from None


def _group(group: _Group) -> bytes:
    inside = _attributes(10, group.resource.attributes) if group.resource else b""
    scopes = (b"".join(block(18, _span(span)) for span in scope.spans or ()) for scope in group.scope_spans or ())
    return block(10, inside) + b"".join(block(18, scope) for scope in scopes)


def _span(span: _Span) -> bytes:
    if not span.attributes and not span.links:
        return b""  # about no message, but counted
    parts = [
        block(10, bytes.fromhex(span.trace_id or "")),
        block(18, bytes.fromhex(span.span_id or "")),
        b"\x30" + varint(_whole(span.kind)),
        b"\x39" + struct.pack("<Q", _whole(span.start_time_unix_nano)),
        b"\x41" + struct.pack("<Q", _whole(span.end_time_unix_nano)),
        _attributes(74, span.attributes),
        *(block(106, _attributes(34, link.attributes)) for link in span.links or ()),
    ]
    if span.status:
        parts.append(block(122, b"\x18" + varint(_whole(span.status.code))))
    return b"".join(parts)


def _attributes(tag: int, found: list[_Attribute] | None) -> bytes:
    return b"".join(
        block(tag, block(10, one.key.encode()) + block(18, _value(one.value or _Any()))) for one in found or ()
    )


def _value(value: _Any) -> bytes:
    if value.string_value is not None:
        return block(10, value.string_value.encode())
    if value.int_value is not None:
        return b"\x18" + varint(_whole(value.int_value))
    if value.bool_value is not None:
        return b"\x10" + varint(value.bool_value)
    if value.double_value is not None:
        return b"\x21" + struct.pack("<d", float(value.double_value))
    if value.array_value is not None:
        return block(42, b"".join(block(10, _value(inner)) for inner in value.array_value.values or ()))
    return block(58, base64.b64decode(value.bytes_value)) if value.bytes_value is not None else b""


def _whole(value: Int) -> int:
    number = int(value or 0)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"{number} has more than 64 bits")
    return number & 0xFFFF_FFFF_FFFF_FFFF


def block(tag: int, inside: bytes) -> bytes:
    """A field with a length."""
    return varint(tag) + varint(len(inside)) + inside


def varint(value: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
