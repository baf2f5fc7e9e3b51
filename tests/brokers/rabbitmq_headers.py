"""Headers that pika does not write, as bytes: for messages as other client libraries publish them."""

from __future__ import annotations

import struct
from typing import Any

import pika

HEADERS = 1 << 13
"""The property flag that says that there are headers (AMQP 0-9-1, basic class)."""


def header(name: str | bytes, kind: bytes, value: bytes) -> bytes:
    """One header: a name, the letter of a type, the value as it lies on the wire."""
    raw = name if isinstance(name, bytes) else name.encode()
    return bytes([len(raw)]) + raw + kind + value


def nested(depth: int, kind: bytes = b"F") -> bytes:
    """A header `a` that holds a table (or a list, `A`) that holds one, and so on."""
    table = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(table)) + table
        table = header("a", b"F", inner) if kind == b"F" else b"A" + inner
    return table if kind == b"F" else b"\x01a" + table


class Headers(pika.BasicProperties):
    """Properties with a table of headers as bytes."""

    def __init__(self, table: bytes, **properties: Any) -> None:
        super().__init__(**properties)
        self._table = table

    def encode(self) -> list[bytes]:
        """As pika does, with our table: no property that comes before the headers may be set."""
        flags, *rest = super().encode()
        told = struct.pack(">H", struct.unpack(">H", flags)[0] | HEADERS)
        return [told, struct.pack(">I", len(self._table)), self._table, *rest]
