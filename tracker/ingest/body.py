"""A request's body as lines: inflated within a bound, a JSON array taken apart."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from tracker.ingest.decoded import MAX_LINES
from tracker.ingest.errors import TooLarge, Unreadable, Unsupported

NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"})
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
FORMATS = f"application/x-ndjson, {JSON} or {ARROW}"
_CHUNK = 1 << 20
"""Bytes of an array that are looked at together."""


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its `Content-Encoding` (none, identity, gzip, zstd), at most `limit` bytes of it.

    Raises TooLarge as soon as it grows beyond `limit`, Unreadable when it is damaged or cut off, Unsupported.
    """
    match encoding.strip().lower():
        case "" | "identity":
            out = body
        case "gzip" | "x-gzip":
            out = _inflated(body, "gzip", limit)
        case "zstd":
            out = _inflated(body, "zstd", limit)
        case other:
            raise Unsupported(f"Content-Encoding {other!r} is not read here; use gzip, zstd or none")
    if len(out) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes when inflated; send smaller batches")
    return out


def lines(body: bytes, content_type: str) -> bytes:
    """The body as one JSON value a line. Raises Unreadable for a broken JSON array, Unsupported for another type.

    A client that names no type, or that of a form (as `curl -d` does by default), is taken to send lines.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON and body.lstrip()[:1] == b"[":
        return _unpacked(body)
    if kind in NDJSON or kind in ("", JSON, "application/x-www-form-urlencoded", "text/plain"):
        return body
    raise Unsupported(f"Content-Type {kind!r} is not read here; send {FORMATS}")


def _inflated(body: bytes, codec: str, limit: int) -> bytes:
    """All members or frames (RFC 1952 and RFC 8878 allow several), no more than one byte beyond `limit`.

    Read as a stream: a decompressor that is handed a piece of its input makes all of it at once, and 64 KiB of zstd may
    become 2 GiB; its window is bounded by 128 MiB, whatever a header asks for. Nor is what is left of the body copied
    for each frame, for it may have millions.
    """
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
            inflated: bytes = stream.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"the {codec} body is damaged or was cut off on the way: {error}") from None
    return inflated


def _unpacked(body: bytes) -> bytes:
    """The elements of an array, one a line. A raw line break inside a JSON text can only be white space."""
    if body.count(b",") >= MAX_LINES and _elements(body) > MAX_LINES:
        raise TooLarge(f"the JSON array has more than {MAX_LINES} elements; send at most so many at a time")
    try:
        elements = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"the JSON array cannot be read: {error}; nothing of it was stored") from None
    if b"\n" in body or b"\r" in body:
        return b"\n".join([bytes(e).replace(b"\n", b" ").replace(b"\r", b" ") for e in elements])
    return b"\n".join(elements)


def _elements(body: bytes) -> int:
    """How many elements a JSON array has, at least up to where it is broken; counting stops above `MAX_LINES`.

    Counted before any is made: an element takes a hundred bytes of memory, and on the wire two.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    found, depth, within = 1, 0, False
    for start in range(0, len(body), _CHUNK):
        piece = np.frombuffer(body, np.uint8, min(_CHUNK, len(body) - start), start)
        text = np.logical_xor.accumulate(np.concatenate(([within], piece == ord('"'))))[1:]
        opened = ((piece == ord("[")) | (piece == ord("{"))) & ~text
        closed = ((piece == ord("]")) | (piece == ord("}"))) & ~text
        depths = depth + np.cumsum(opened.astype(np.int32) - closed)
        found += int(np.count_nonzero((piece == ord(",")) & ~text & (depths == 1)))
        if found > MAX_LINES:
            break
        depth, within = int(depths[-1]), bool(text[-1])
    return found
