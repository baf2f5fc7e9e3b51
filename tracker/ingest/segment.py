"""A file of the spool: batches one behind the other, each with checksums, as Arrow columns.

    record  mark  length  rows  received  check  head check  payload
    payload zstd of: four lengths, then the Arrow IPC streams of events, ranges, quarantine, reports; an empty table has
            none. Compressed as a whole because most of a small batch is the description of its columns

`received` is when the spool took the batch (µs), `check` the xxh3-64 of the payload, `head check` the CRC-32 of what
stands before it. Numbers are little-endian. The mark lets a reader find the next record behind a broken head.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import pyarrow as pa
import xxhash
import zstandard

from tracker.ingest.batch import Accepted, Batch

_MARK = b"\xf5Bat"
_FIELDS = struct.Struct("<4sIIqQ")
_CHECK = struct.Struct("<I")
HEAD = _FIELDS.size + _CHECK.size
"""Bytes before each payload."""
_LENGTHS = struct.Struct("<4I")
_TABLES = ("events", "ranges", "quarantine", "reports")
_LEVEL = 1
"""Of zstd: what is quick."""
_LARGEST = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A batch as it stands in a segment, from `start` to `end`. `batch` None: it cannot be read; `torn`: because it
    was never written to its end."""

    start: int
    end: int
    rows: int
    batch: Batch | None
    torn: bool = False


def record(batch: Batch, received: int) -> bytes:
    """A batch as bytes, taken by the spool at `received` (µs). Raises ValueError for one beyond 4 GiB."""
    streams = [_stream(getattr(batch, name)) for name in _TABLES]
    plain = b"".join([_LENGTHS.pack(*map(len, streams)), *streams])
    payload = zstandard.ZstdCompressor(_LEVEL).compress(plain)
    if len(payload) > _LARGEST:
        raise ValueError(f"a batch of {len(payload)} bytes does not fit into the spool; send smaller ones")
    fields = _FIELDS.pack(_MARK, len(payload), batch.rows, received, xxhash.xxh3_64_intdigest(payload))
    return b"".join([fields, _CHECK.pack(crc32(fields)), payload])


def records(path: Path, start: int, until: int) -> Iterator[Record]:
    """What stands in the segment from byte `start` (a record's beginning) to `until`, in order.

    Bytes that are no record, and records whose payload is not what was written, come as one without a batch; so does
    what breaks off at `until`, because the process or the machine ended while it was written. Raises OSError.
    """
    with path.open("rb") as file:
        while start < until:
            file.seek(start)
            head = _head(file.read(HEAD))
            if head is None:
                end = _next(file.fileno(), start + 1, until)
                yield Record(start, end, 0, None, torn=until - start < HEAD)
            elif (end := start + HEAD + head.length) > until:
                end = until
                yield Record(start, end, 0, None, torn=True)
            else:
                yield Record(start, end, head.rows, _batch(file.read(head.length), head.check))
            start = end


def oldest(path: Path, start: int, until: int) -> int | None:
    """When the first record at or behind `start` was received, µs; None where there is none. Raises OSError."""
    with path.open("rb") as file:
        while start < until:
            file.seek(start)
            head = _head(file.read(HEAD))
            if head is not None:
                return head.received
            start = _next(file.fileno(), start + 1, until)
    return None


def _stream(table: pa.Table) -> bytes:
    if not table.num_rows:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(memoryview(sink.getvalue()))


def _batch(payload: bytes, check: int) -> Batch | None:
    if xxhash.xxh3_64_intdigest(payload) != check:
        return None
    try:
        plain = zstandard.ZstdDecompressor().decompress(payload)
        lengths = _LENGTHS.unpack_from(plain)
        tables, at = {}, _LENGTHS.size
        for name, length in zip(_TABLES, lengths, strict=True):
            if length:
                tables[name] = pa.ipc.open_stream(pa.py_buffer(plain)[at : at + length]).read_all()
            at += length
        return Batch(Accepted(0, 0), **tables)
    except (pa.ArrowException, zstandard.ZstdError, struct.error, OSError):
        return None


class _Head(NamedTuple):
    length: int
    rows: int
    received: int
    check: int


def _head(head: bytes) -> _Head | None:
    """What the bytes say, or None when they are no head."""
    if len(head) < HEAD or not head.startswith(_MARK):
        return None
    if crc32(head[: _FIELDS.size]) != _CHECK.unpack_from(head, _FIELDS.size)[0]:
        return None
    return _Head(*_FIELDS.unpack_from(head)[1:])


def _next(file: int, start: int, until: int) -> int:
    """Where the next good head begins at or behind `start`, else `until`."""
    step = 1 << 20
    while start < until:
        block = os.pread(file, min(step, until - start) + HEAD, start)
        found = block.find(_MARK)
        while found >= 0:
            if start + found + HEAD <= until and _head(block[found : found + HEAD]) is not None:
                return start + found
            found = block.find(_MARK, found + 1)
        start += step
    return until
