"""When a message was created: carried with it, else read from a time-bearing id, else first seen."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tracker.model.event import Event

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def time_in_id(message_id: str) -> int | None:
    """Epoch microseconds that a UUIDv7 (RFC 9562, 48 bits of ms) or a ULID (48 bits of ms) carries; None otherwise.

    A time of zero is none: a number padded to 26 digits looks like a ULID of 1970.
    """
    if _UUID7.fullmatch(message_id):
        return int(message_id.replace("-", "")[:12], 16) * 1000 or None
    if _ULID.fullmatch(message_id):
        millis = 0
        for letter in message_id[:10]:
            millis = millis * 32 + _CROCKFORD.index(letter)
        return millis * 1000 or None
    return None


def origin_of(message_id: str, events: Iterable[Event]) -> int:
    """The earliest origin carried; else the time in the id; else the earliest observation. Microseconds."""
    known = list(events)
    carried = [e.origin_at for e in known if e.origin_at is not None]
    if carried:
        return min(carried)
    in_id = time_in_id(message_id)
    if in_id is not None:
        return in_id
    return min(e.observed_at for e in known)
