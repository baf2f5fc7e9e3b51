"""A message's properties as bytes, taken apart and put together again without a look at the values: whatever types they
have, they stay. pika reads some only to write them as others, and some not at all.

Layout: AMQP 0-9-1, section 4.2.6.1; the basic class and its properties: section 1.8 of the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from collectors.rabbitmq.table import end_of_value, short

SHORT, TABLE, OCTET, SECONDS = "short", "table", "octet", "seconds"
LAYOUT = {
    "content_type": SHORT, "content_encoding": SHORT, "headers": TABLE, "delivery_mode": OCTET, "priority": OCTET,
    "correlation_id": SHORT, "reply_to": SHORT, "expiration": SHORT, "message_id": SHORT, "timestamp": SECONDS,
    "type": SHORT, "user_id": SHORT, "app_id": SHORT, "cluster_id": SHORT,
}  # fmt: skip
"""In the order of the flags, the highest bit first."""
_FLAGS = {name: 1 << (15 - place) for place, name in enumerate(LAYOUT)}
_flags, _length = struct.Struct(">H"), struct.Struct(">I")
_PROPERTIES = "properties"
"""The header of a firehose's trace that holds the properties of the message, as a table."""


def split(encoded: bytes) -> dict[str, bytes]:
    """The properties that are there, by name, each as its bytes. Raises `ValueError` for what is no AMQP 0-9-1."""
    found: dict[str, bytes] = {}
    try:
        [flags] = _flags.unpack_from(encoded)
        at = _flags.size
        for name, kind in LAYOUT.items():
            if not flags & _FLAGS[name]:
                continue
            end = at + (1 if kind == OCTET else 8)
            if kind == SHORT:
                end = at + 1 + encoded[at]
            elif kind == TABLE:
                end = at + _length.size + _length.unpack_from(encoded, at)[0]
            if end > len(encoded):
                raise ValueError(f"{name} reaches beyond the end")
            found[name] = encoded[at:end]
            at = end
    except (IndexError, struct.error) as error:
        raise ValueError(f"properties that are no AMQP 0-9-1: {error}") from None
    return found


def joined(properties: Mapping[str, bytes]) -> bytes:
    """The content header's flags and properties, of what `split` gave."""
    flags = _flags.pack(sum(_FLAGS[name] for name in properties))
    return flags + b"".join(properties[name] for name in LAYOUT if name in properties)


def fields(table: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """The fields of a table that begins with its length: name, the letter of the type and the value, and the whole.
    Raises `ValueError`."""
    at, end = _length.size, len(table)
    try:
        while at < end:
            name, begin = short(table, at)
            stop = end_of_value(table, begin, end)
            yield name, table[begin:stop], table[at:stop]
            at = stop
    except (IndexError, struct.error) as error:
        raise ValueError(f"a table that is no AMQP 0-9-1: {error}") from None


def with_headers(table: bytes, keep: Callable[[str], bool], added: Mapping[str, bytes]) -> bytes:
    """A table of headers with the fields that are to be kept, and `added` as long strings."""
    some = [whole for name, _, whole in fields(table) if keep(name)]
    some += [bytes([len(name.encode())]) + name.encode() + b"S" + _long(value) for name, value in added.items()]
    return _long(b"".join(some))


def of_trace(encoded: bytes, origin: int | None) -> bytes | None:
    """The properties of the message that a trace of the firehose shows; None where it shows none. `origin`: the
    `timestamp`, where the trace can be believed: it holds 32 bits of it.

    A trace has the properties as a table (`rabbit_trace`, 3.10.8): texts as long strings, numbers as 32 bits with a
    sign, the headers as a table with the types that they have."""
    told = next((value for name, value, _ in fields(split(encoded).get("headers", b"")) if name == _PROPERTIES), None)
    if told is None or told[:1] != b"F":
        return None
    found: dict[str, bytes] = {}
    for name, value, _ in fields(told[1:]):
        kind, letter, rest = LAYOUT.get(name, ""), value[:1], value[1:]
        if kind == SHORT and letter == b"S" and len(rest) <= _length.size + 255:
            found[name] = bytes([len(rest) - _length.size]) + rest[_length.size :]
        elif kind == TABLE and letter == b"F":
            found[name] = rest
        elif kind == OCTET and letter == b"I":
            found[name] = rest[-1:]
    if origin is not None:
        found["timestamp"] = struct.pack(">Q", origin)
    return joined(found)


def _long(value: bytes) -> bytes:
    return _length.pack(len(value)) + value
