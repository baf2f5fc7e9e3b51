"""One file of the spool: records written through a shared memory map.

A store into a shared map is in the page cache the moment it is made, so a SIGKILL of the process loses nothing that
`append` returned for. (Power loss is another matter: the kernel writes the pages back when it likes.)

A record is a header of 24 bytes and its payload. The payload is written first and the header last, so that a record
cut short by a SIGKILL has a header of zeros or one whose checksum does not fit; either ends the segment. One that is
left for the next ends in a header of ones, so that records that a disk lost there do not look like room never used.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from zlib import crc32

import msgspec

_CHECK = struct.Struct("<I")
_BODY = struct.Struct("<IQIB3x")  # payload length, appended at (µs), lines, kind
_RECORD = struct.Struct("<IIQIB3x")  # the two in one, written at once
HEADER = _RECORD.size
_END = bytes(HEADER)
_LEFT = b"\xff" * HEADER
_PIECE = 2**20


class Kind(IntEnum):
    """What a record holds. Everything that must keep its place among the lines is a record of its own."""

    lines = 1
    """NDJSON lines, each ending in a newline."""
    dropped = 2
    """`lines` lines were refused here because the spool was full."""
    mark = 3
    """A reader had seen everything that happened until `at`."""
    signed_off = 4
    """Sources that end here: a JSON list of `SourceRef`."""
    let_go = 5
    """Sources that a reader stops vouching for here, though they go on: a JSON list of `SourceRef`."""


_KINDS = frozenset(Kind)


class Record(msgspec.Struct, frozen=True):
    """One record. `at` is when it was appended (for a mark: what it vouches up to), in epoch microseconds; `end` is
    the position in the spool right behind it."""

    kind: Kind
    at: int
    lines: int
    payload: bytes
    end: int


def _allocate(descriptor: int, size: int) -> None:
    """Reserve the blocks now: a store into an unreserved page of a full disk would be a SIGBUS, not an error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS has no such call: write the zeros
        os.pwrite(descriptor, bytes(size), 0)


class Segment:
    """Records from position `base` on. `tail` is how many bytes of the file are used."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.base, self.size = path, int(path.stem), size
        self.tail = self.cut = 0
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size) if size else None

    @classmethod
    def create(cls, folder: Path, base: int, size: int, filled: bool = False) -> Segment:
        """A new segment with `size` bytes reserved on disk. `filled`: with zeros written to it; that takes longer, and
        then no store has to wait for the file system, which gives out reserved blocks at the first store into them.
        Raises OSError when the disk has no room."""
        path = folder / f"{base:020d}.seg"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _allocate(descriptor, size)
            for place in range(0, size if filled else 0, _PIECE):
                os.pwrite(descriptor, bytes(min(_PIECE, size - place)), place)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        return cls(path, size)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """An existing segment, cut to the records that are whole; `cut` says by how many bytes, room that was left
        unused on purpose apart."""
        size = path.stat().st_size
        segment = cls(path, size)
        for record in _scan(segment._map, 0, size, segment.base, check=True) if segment._map else ():
            segment.tail = record.end - segment.base
        rest = segment._map[segment.tail : segment.tail + HEADER] if segment._map else b""
        segment.cut = 0 if rest == _LEFT or (len(rest) < HEADER and not any(rest)) else size - segment.tail
        segment.seal()
        return segment

    @property
    def end(self) -> int:
        """The position right behind the last record."""
        return self.base + self.tail

    def append(self, kind: Kind, at: int, lines: int, payload: bytes) -> bool:
        """Write one record; False when it does not fit. The caller holds the spool's lock."""
        start, length, content = self.tail, len(payload), self._map
        first = start + HEADER
        end = first + length
        if end > self.size or content is None:
            return False
        check = crc32(payload, crc32(_BODY.pack(length, at, lines, kind)))
        content[first:end] = payload
        _RECORD.pack_into(content, start, check, length, at, lines, kind)
        self.tail = end
        return True

    def leave(self) -> None:
        """The next record goes into another segment. The caller holds the spool's lock."""
        if self._map is not None and self.tail + HEADER <= self.size:
            self._map[self.tail : self.tail + HEADER] = _LEFT

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The records from position `start` (a boundary) to position `stop`. They are known to be whole: `append`
        returned for them in this process, or `open` has checked them."""
        if self._map is not None:
            yield from _scan(self._map, start - self.base, min(stop - self.base, self.size), self.base, check=False)

    def seal(self) -> None:
        """No more appends: give the unused bytes back to the disk. (Nothing reads the map behind `tail`.)"""
        if self.size != self.tail:
            os.truncate(self.path, self.tail)
            self.size = self.tail

    def sync(self) -> None:
        """Write the records through to the disk."""
        if self._map is not None:
            self._map.flush()

    def close(self) -> None:
        """Let go of the map; the file stays."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def remove(self) -> None:
        """Delete the file: all of it was acknowledged."""
        self.close()
        self.path.unlink(missing_ok=True)


def _scan(content: mmap.mmap, offset: int, stop: int, base: int, check: bool) -> Iterator[Record]:
    while offset + HEADER <= stop:
        header = content[offset : offset + HEADER]
        if header == _END:
            return
        length, at, lines, kind = _BODY.unpack_from(header, _CHECK.size)
        first = offset + HEADER
        if first + length > stop or kind not in _KINDS:
            return
        payload = content[first : first + length]
        if check and crc32(payload, crc32(header[_CHECK.size :])) != _CHECK.unpack_from(header)[0]:
            return
        offset = first + length
        yield Record(Kind(kind), at, lines, payload, base + offset)
