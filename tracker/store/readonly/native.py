"""Native blocks as a client of a newer protocol wants them.

The embedded engine writes Native without a revision. clickhouse-go, hence Grafana, asks for one
(`client_protocol_version` in the URL) and reads what that revision adds: before each block its BlockInfo, and behind
each column's type, from 54454 on, a byte that says whether it is serialized in a way of its own: 0
(src/Formats/NativeWriter.cpp). Where a column's data end is only known by going through it, by type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from tracker.store.readonly.errors import Refused

CUSTOM_SERIALIZATION = 54454
"""The first revision with that byte. Clients that ask for an earlier one also understand none, and get none."""
_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
"""Field 1, is_overflows: no; field 2, bucket_num: -1; end."""
_FIXED = {
    "Int8": 1, "UInt8": 1, "Bool": 1, "Enum8": 1, "Int16": 2, "UInt16": 2, "Date": 2, "Enum16": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "Decimal32": 4, "IPv4": 4, "Time": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Decimal64": 8, "Time64": 8, "Int128": 16, "UInt128": 16,
    "Decimal128": 16, "UUID": 16, "IPv6": 16, "Int256": 32, "UInt256": 32, "Decimal256": 32, "Nothing": 1,
}  # fmt: skip
_NAME = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
Skip = Callable[[bytes, int, int], int]
"""(data, place, rows) -> the place behind so many rows."""


def with_revision(body: bytes, revision: int) -> bytes:
    """Native blocks as this revision of the protocol has them. Raises Refused for a type that is not known here."""
    if revision < CUSTOM_SERIALIZATION:
        return body
    made: list[bytes] = []
    place = 0
    while place < len(body):
        start = place
        columns, place = _varint(body, place)
        rows, place = _varint(body, place)
        made += [_INFO, body[start:place]]
        for _ in range(columns):
            start = place
            place = _string(body, place)
            size, place = _varint(body, place)
            kind, place = body[place : place + size].decode(), place + size
            made += [body[start:place], b"\x00"]
            if rows:
                start, place = place, _skip(kind)(body, _prefix(kind, place), rows)
                made.append(body[start:place])
    return b"".join(made)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _string(data: bytes, place: int) -> int:
    size, place = _varint(data, place)
    return place + size


def _strings(data: bytes, place: int, rows: int) -> int:
    for _ in range(rows):
        size = data[place]
        if size < 0x80:
            place += size + 1
        else:
            place = _string(data, place)
    return place


def _prefix(kind: str, place: int) -> int:
    """Behind what comes before all data of a column: the version of each dictionary in it, outermost first."""
    return place + 8 * len(re.findall(r"\bLowCardinality\(", _unquoted(kind)))


def _unquoted(kind: str) -> str:
    return re.sub(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`", "", kind)


@cache
def _skip(kind: str) -> Skip:
    found = _NAME.fullmatch(kind)
    name, inside = (found[1], found[2] or "") if found else (kind, "")
    if name == "String":
        return _strings
    if name == "Decimal":
        return _fixed(_decimal(int(inside.partition(",")[0])))
    if name == "FixedString":
        return _fixed(int(inside))
    if name in _FIXED:
        return _fixed(_FIXED[name])
    if name.startswith("Interval"):
        return _fixed(8)
    if name == "Nullable":
        return _one_after_another([_fixed(1), _skip(inside)])
    if name == "Array":
        return _array(_skip(inside))
    if name == "Map":
        return _array(_one_after_another([_skip(part) for part in _parts(inside)]))
    if name == "Tuple":
        return _one_after_another([_skip(_without_name(part)) for part in _parts(inside)])
    if name == "LowCardinality":
        return _dictionary(
            _skip(inside.removeprefix("Nullable(").removesuffix(")") if inside.startswith("Nullable(") else inside)
        )
    if name == "SimpleAggregateFunction":
        return _skip(_parts(inside)[1])
    raise Refused(48, f"a column of type {kind} cannot be given in this form of Native; CAST it")


def _decimal(precision: int) -> int:
    return next(size for most, size in ((9, 4), (18, 8), (38, 16), (76, 32)) if precision <= most)


def _fixed(size: int) -> Skip:
    return lambda data, place, rows: place + size * rows


def _one_after_another(parts: list[Skip]) -> Skip:
    def skip(data: bytes, place: int, rows: int) -> int:
        for part in parts:
            place = part(data, place, rows)
        return place

    return skip


def _array(items: Skip) -> Skip:
    """Where each row ends among the items, then the items of all rows."""

    def skip(data: bytes, place: int, rows: int) -> int:
        behind = place + 8 * rows
        total = int.from_bytes(data[behind - 8 : behind], "little") if rows else 0
        return items(data, behind, total)

    return skip


def _dictionary(keys: Skip) -> Skip:
    """How wide an index is, the number of keys, the keys, the number of rows, an index for each."""

    def skip(data: bytes, place: int, rows: int) -> int:
        if not rows:
            return place
        width = 1 << (data[place] & 0xFF)
        count = int.from_bytes(data[place + 8 : place + 16], "little")
        place = keys(data, place + 16, count)
        indexes = int.from_bytes(data[place : place + 8], "little")
        return place + 8 + width * indexes

    return skip


def _parts(inside: str) -> list[str]:
    """`a, b(c, d)` -> `a`, `b(c, d)`."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|[(),]", inside):
        mark = found[0]
        depth += (mark == "(") - (mark == ")")
        if mark == "," and not depth:
            parts.append(inside[start : found.start()].strip())
            start = found.end()
    return [*parts, inside[start:].strip()]


def _without_name(part: str) -> str:
    """`x UInt8` and `` `a b` UInt8 `` -> `UInt8`."""
    found = re.match(r"(?:`(?:[^`\\]|\\.)*`|\w+) (?=\w)", part)
    return part[found.end() :] if found else part
