"""Properties and headers of a message as the broker sends them: every type that AMQP 0-9-1 has, whatever the values.

pika's own decoding gives up a whole connection for one value: a timestamp beyond the year 9999 (milliseconds where
seconds belong), a number that is none. The collector would connect again and be given the same message, for ever. Here
a value is never a reason to stop, and where the bytes make no sense what comes before them still counts.

Grammar: AMQP 0-9-1, section 4.2.5; types and their letters as RabbitMQ has them
(https://www.rabbitmq.com/amqp-0-9-1-errata, section 3).
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

DEPTH = 32
"""Tables within tables are taken apart so far; what lies deeper is left as bytes. A stack has an end."""

_flags, _length, _seconds, _decimal = (struct.Struct(form).unpack_from for form in (">H", ">I", ">Q", ">Bi"))
_LONG = b"SxAF"
_TEXT, _BYTES, _LIST, _TABLE = _LONG
_VOID, _TIME, _NUMBER = b"VTD"
_FIXED = {
    ord(letter): struct.Struct(form)
    for letter, form in {
        "t": ">?", "b": ">b", "B": ">B", "U": ">h", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "L": ">q", "l": ">q",
        "f": ">f", "d": ">d",
    }.items()
}  # fmt: skip

_CONTENT_TYPE, _ENCODING, _HEADERS, _MODE, _PRIORITY = (1 << bit for bit in (15, 14, 13, 12, 11))
_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID, _TIMESTAMP = (1 << bit for bit in (10, 9, 8, 7, 6))


class Told(NamedTuple):
    """What a message says of itself. `timestamp` in seconds; `headers` never None; `problem`: why there may be more
    that could not be read, empty otherwise."""

    message_id: str | None
    correlation_id: str | None
    timestamp: int | None
    headers: dict[str, Any]
    problem: str = ""


def told(encoded: bytes) -> Told:
    """The property flags and properties of a content header. Never raises."""
    headers: dict[str, Any] = {}
    message_id = correlation_id = timestamp = None
    try:
        [flags] = _flags(encoded)
        at = 2
        if flags & _CONTENT_TYPE:
            at += 1 + encoded[at]
        if flags & _ENCODING:
            at += 1 + encoded[at]
        if flags & _HEADERS:
            end = at + 4 + _length(encoded, at)[0]
            _fill(headers, encoded, at + 4, end, DEPTH)
            at = end
        at += bool(flags & _MODE) + bool(flags & _PRIORITY)
        if flags & _CORRELATION_ID:
            correlation_id, at = short(encoded, at)
        if flags & _REPLY_TO:
            at += 1 + encoded[at]
        if flags & _EXPIRATION:
            at += 1 + encoded[at]
        if flags & _MESSAGE_ID:
            message_id, at = short(encoded, at)
        if flags & _TIMESTAMP:
            [timestamp] = _seconds(encoded, at)
    except (ValueError, IndexError, struct.error) as error:
        return Told(message_id, correlation_id, timestamp, headers, f"headers that are no AMQP 0-9-1: {error}")
    return Told(message_id, correlation_id, timestamp, headers)


def short(encoded: bytes, at: int) -> tuple[str, int]:
    """A short string and where it ends; bytes that are no UTF-8 are shown with backslashes."""
    end = at + 1 + encoded[at]
    value = encoded[at + 1 : end]
    try:
        return value.decode(), end
    except UnicodeDecodeError:
        return value.decode("utf-8", "backslashreplace"), end


def end_of_value(encoded: bytes, at: int, end: int) -> int:
    """Where the value ends whose type stands at `at`; it lies within `end`. Raises `ValueError`, `IndexError` and
    `struct.error`."""
    stop = _value(encoded, at, end, 0)[1]
    if stop > end:
        raise ValueError("a value reaches beyond the end of its table")
    return stop


def _fill(found: dict[str, Any], encoded: bytes, at: int, end: int, depth: int) -> None:
    """Names and texts, most of what there is, are read here: a call for each would cost as much as all the rest."""
    while at < end:
        begin = at + 1
        at = begin + encoded[at]
        try:
            name = encoded[begin:at].decode()
        except UnicodeDecodeError:
            name = encoded[begin:at].decode("utf-8", "backslashreplace")
        if encoded[at] != _TEXT:
            found[name], at = _value(encoded, at, end, depth)
            continue
        begin = at + 5
        at = begin + _length(encoded, at + 1)[0]
        try:
            found[name] = encoded[begin:at].decode()
        except UnicodeDecodeError:
            found[name] = encoded[begin:at]
    if at > end:
        raise ValueError("a value reaches beyond the end of its table")


def _value(encoded: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    kind = encoded[at]
    begin = at + 5
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed.unpack_from(encoded, at + 1)[0], at + 1 + fixed.size
    if kind in _LONG:
        stop = begin + _length(encoded, at + 1)[0]
        if stop > end:
            raise ValueError("a value reaches beyond the end of its table")
        return _taken_apart(kind, encoded, begin, stop, depth), stop
    if kind == _TIME:
        return _moment(_seconds(encoded, at + 1)[0]), at + 9
    if kind == _NUMBER:
        decimals, digits = _decimal(encoded, at + 1)
        return Decimal(digits).scaleb(-decimals), at + 6
    if kind == _VOID:
        return None, at + 1
    raise ValueError(f"there is no type {bytes([kind])!r}")


def _taken_apart(kind: int, encoded: bytes, at: int, end: int, depth: int) -> Any:
    if kind == _TABLE and depth:
        table: dict[str, Any] = {}
        _fill(table, encoded, at, end, depth - 1)
        return table
    if kind == _LIST and depth:
        found = []
        while at < end:
            value, at = _value(encoded, at, end, depth - 1)
            found.append(value)
        return found
    value = encoded[at:end]
    if kind == _TEXT:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return value


def _moment(seconds: int) -> datetime | str:
    """As text where no calendar has it: nobody takes that for a number of another unit."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
