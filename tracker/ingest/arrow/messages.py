"""How many bytes the buffers of an Arrow IPC stream say to become, before anything is made of them.

A message is a flatbuffer (https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format) and a body;
a record batch lists its buffers, and a compressed one begins with its size. Buffers may overlap, so what counts is what
they say, not how long the stream is. Flatbuffers: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

from tracker.ingest.errors import TooLarge, Unreadable

MAX_MESSAGES = 1_000
"""Batches and dictionaries of one stream."""
MAX_BUFFERS = 100_000
_DICTIONARY, _RECORDS = 2, 3
_HEADER_TYPE, _HEADER, _DATA, _BUFFERS, _COMPRESSION = 1, 2, 1, 2, 3
"""Numbers of the fields in the tables Message, DictionaryBatch and RecordBatch of Arrow's Message.fbs."""


def inflated(stream: bytes, limit: int) -> int:
    """Bytes of all buffers together; stops counting beyond `limit`. Raises Unreadable, TooLarge."""
    total = 0
    for metadata, body in _messages(stream):
        try:
            for size in _sizes(metadata, body):
                total += size
                if total > limit:
                    return total
        except (struct.error, IndexError, ValueError) as error:
            raise Unreadable(f"an Arrow message cannot be read: {error}; nothing of it was stored") from None
    return total


def _messages(stream: bytes) -> Iterator[tuple[memoryview, memoryview]]:
    try:
        reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(stream))
        for number, message in enumerate(reader):
            if number >= MAX_MESSAGES:
                raise TooLarge(f"the Arrow stream has more than {MAX_MESSAGES} messages; send larger batches")
            yield memoryview(message.metadata), memoryview(message.body or b"")
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"the body is no Arrow IPC stream: {error}; nothing of it was stored") from None


def _sizes(metadata: memoryview, body: memoryview) -> Iterator[int]:
    """What each buffer of a message becomes."""
    (root,) = struct.unpack_from("<I", metadata)
    kind = _field(metadata, root, _HEADER_TYPE)
    held = _table(metadata, root, _HEADER)
    if not kind or held is None or metadata[kind] not in (_DICTIONARY, _RECORDS):
        return
    batch = _table(metadata, held, _DATA) if metadata[kind] == _DICTIONARY else held
    listed = _table(metadata, batch, _BUFFERS) if batch is not None else None
    if batch is None or listed is None:
        return
    (count,) = struct.unpack_from("<I", metadata, listed)
    if count > MAX_BUFFERS:
        raise ValueError(f"it lists {count} buffers")
    packed = bool(_field(metadata, batch, _COMPRESSION))
    for n in range(count):
        offset, length = struct.unpack_from("<qq", metadata, listed + 4 + 16 * n)
        if offset < 0 or length < 0:
            raise ValueError(f"a buffer has {length} bytes at {offset}")
        yield _unpacked(body, offset) if packed and length >= 8 else length


def _unpacked(body: memoryview, offset: int) -> int:
    """A compressed buffer begins with its size; -1: it is not compressed after all."""
    (size,) = struct.unpack_from("<q", body, offset)
    return len(body) if size == -1 else _positive(size)


def _positive(size: int) -> int:
    if size < 0:
        raise ValueError(f"a buffer says to become {size} bytes")
    return size


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Where a field of a table lies; 0 where it has none."""
    (back,) = struct.unpack_from("<i", metadata, table)
    layout = table - back
    if layout < 0:
        raise ValueError("a table lies before its message")
    (size,) = struct.unpack_from("<H", metadata, layout)
    if 4 + 2 * number + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, layout + 4 + 2 * number)
    return table + offset if offset else 0


def _table(metadata: memoryview, table: int, number: int) -> int | None:
    """Where the table or vector lies that a field refers to."""
    place = _field(metadata, table, number)
    if not place:
        return None
    (offset,) = struct.unpack_from("<I", metadata, place)
    return place + int(offset)
