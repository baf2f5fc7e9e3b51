"""What an OTLP client is answered: ExportTraceServiceResponse, or google.rpc.Status, in the encoding of its request."""

from __future__ import annotations

import msgspec

from tracker.ingest.otlp.jsoned import block, varint

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 3, 415: 3, 429: 8, 503: 14}
"""google.rpc.Code by HTTP status; 13 (INTERNAL) for any other."""
_RPC_CODES = _CODES | {413: 8}
"""Over gRPC what is too large is RESOURCE_EXHAUSTED, as gRPC itself answers it."""
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_DETAIL = 500
"""Characters of an error's text over gRPC: it goes into headers, of which clients take 8 KiB."""


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


def rpc_status(code: int, message: str, retry_after: int | None) -> tuple[int, str, list[tuple[str, bytes]]]:
    """The same over gRPC: code, text, and trailing metadata with the google.rpc.Status
    (https://opentelemetry.io/docs/specs/otlp/#failures). `retry_after` are seconds; None: it is of no use."""
    number, text = _RPC_CODES.get(code, 13), message[:_DETAIL]
    told, trailers = b"\x08" + varint(number) + block(18, text.encode()), []
    if retry_after is not None:
        info = block(10, b"\x08" + varint(retry_after))
        told += block(26, block(10, RETRY_INFO.encode()) + block(18, info))
        trailers.append(("google.rpc.retryinfo-bin", info))  # where the SDKs of Python and others look
    return number, text, [("grpc-status-details-bin", told), *trailers]
