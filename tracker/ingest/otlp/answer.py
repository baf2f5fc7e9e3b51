"""What an OTLP client is answered: ExportTraceServiceResponse, or google.rpc.Status, in the encoding of its request."""

from __future__ import annotations

import msgspec

from tracker.ingest.otlp.jsoned import block, varint

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 3, 415: 3, 429: 8, 503: 14}
"""google.rpc.Code by HTTP status; 13 (INTERNAL) for any other."""


def response(media_type: str, rejected: int, message: str) -> bytes:
    """`rejected` spans were not taken, `message` says why; nothing rejected and a message is a warning; neither: all
    is well."""
    if media_type == JSON:
        # 64-bit numbers are text in protobuf's JSON.
        told = {"rejectedSpans": str(rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": told} if rejected or message else {})
    inside = (b"\x08" + varint(rejected) if rejected else b"") + (block(18, message.encode()) if message else b"")
    return block(10, inside) if inside else b""


def status(media_type: str, code: int, message: str) -> bytes:
    """An error, by the HTTP status that it has."""
    number = _CODES.get(code, 13)
    if media_type == JSON:
        return msgspec.json.encode({"code": number, "message": message})
    return b"\x08" + varint(number) + block(18, message.encode())
