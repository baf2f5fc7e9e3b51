"""A request's body -> columns, by its content type."""

from __future__ import annotations

from tracker.ingest import body
from tracker.ingest.arrow import decode as arrow
from tracker.ingest.decoded import Decoded
from tracker.ingest.lines import decode as lines


def decode(content: bytes, content_type: str, limit: int) -> list[Decoded]:
    """What the inflated body holds, in parts; buffers that are compressed within may have `limit` bytes together.

    Raises Refused when it cannot be read as a whole.
    """
    if content_type.partition(";")[0].strip().lower() == body.ARROW:
        return [arrow.decode(content, limit)]
    return lines.decode(body.lines(content, content_type))
