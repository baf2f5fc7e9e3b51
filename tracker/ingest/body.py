"""A request's body as lines: inflated within a bound, a JSON array taken apart."""

from __future__ import annotations

import zlib

import msgspec
import zstandard

from tracker.ingest.errors import TooLarge, Unreadable, Unsupported

NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"})
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
FORMATS = f"application/x-ndjson, {JSON} or {ARROW}"
_CHUNK = 1 << 20


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its `Content-Encoding` (none, identity, gzip, zstd), at most `limit` bytes of it.

    Raises TooLarge as soon as it grows beyond `limit`, Unreadable when it is damaged or cut off, Unsupported.
    """
    match encoding.strip().lower():
        case "" | "identity":
            out = body
        case "gzip" | "x-gzip":
            out = _gunzip(body, limit)
        case "zstd":
            out = _unzstd(body, limit)
        case other:
            raise Unsupported(f"Content-Encoding {other!r} is not read here; use gzip, zstd or none")
    if len(out) > limit:
        raise _too_large(limit)
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


def _unpacked(body: bytes) -> bytes:
    """The elements of an array, one a line. A raw line break inside a JSON text can only be white space."""
    try:
        elements = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"the JSON array cannot be read: {error}; nothing of it was stored") from None
    if b"\n" in body or b"\r" in body:
        return b"\n".join([bytes(e).replace(b"\n", b" ").replace(b"\r", b" ") for e in elements])
    return b"\n".join(elements)


def _gunzip(body: bytes, limit: int) -> bytes:
    """All members of a gzip file (RFC 1952 allows several)."""
    out, rest = bytearray(), body
    while rest:
        inflater = zlib.decompressobj(wbits=31)
        try:
            out += inflater.decompress(rest, max(limit + 1 - len(out), 1))
        except zlib.error as error:
            raise Unreadable(f"the gzip body is damaged: {error}") from None
        if len(out) > limit:
            raise _too_large(limit)
        if not inflater.eof:
            raise Unreadable("the gzip body ends too early: it was cut off on the way")
        rest = inflater.unused_data
    return bytes(out)


def _unzstd(body: bytes, limit: int) -> bytes:
    """All frames. The window is bounded, too: a header may ask for gigabytes before a single byte comes out."""
    out, rest = bytearray(), body
    while rest:
        inflater = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(write_size=_CHUNK)
        try:
            for start in range(0, len(rest), 1 << 16):
                out += inflater.decompress(rest[start : start + (1 << 16)])
                if len(out) > limit:
                    raise _too_large(limit)
                if inflater.eof:
                    break
        except zstandard.ZstdError as error:
            raise Unreadable(f"the zstd body is damaged: {error}") from None
        if not inflater.eof:
            raise Unreadable("the zstd body ends too early: it was cut off on the way")
        rest = inflater.unused_data + rest[start + (1 << 16) :]
    return bytes(out)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes when inflated; send smaller batches")
