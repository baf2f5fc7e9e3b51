"""A request's body -> columns, by its content type."""

from __future__ import annotations

from tracker.ingest import arrow, body
from tracker.ingest import decode as ndjson
from tracker.ingest.decoded import Decoded


def decode(content: bytes, content_type: str, limit: int) -> list[Decoded]:
    """What the inflated body holds, in parts; buffers that are compressed within may have `limit` bytes together.

    Raises Refused when it cannot be read as a whole.
    """
    if content_type.partition(";")[0].strip().lower() == body.ARROW:
        return [arrow.decode(content, limit)]
    return ndjson.decode(body.lines(content, content_type))
