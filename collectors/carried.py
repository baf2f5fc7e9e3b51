"""What a message's headers and payload say about it: shared by tailing collectors and client instrumentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from gc import get_referents
from typing import Any

import msgspec
import xxhash

from collectors.clock import now_micros
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID
from tracker.model.event import Event

__all__ = [
    "Carried",
    "Headers",
    "carried",
    "digest_of",
    "headers_of",
    "new_message_id",
    "now_micros",
    "number",
    "text",
    "trace_of",
]

Headers = Mapping[str, object] | Iterable[tuple[str, object]] | None
"""Headers as clients hand them out: a mapping (AMQP) or pairs (Kafka); values bytes, str, int or None."""

_BYTES = (bytes, bytearray, memoryview)
TRACEPARENT = "traceparent"
CORRELATION_ID = "x-correlation-id"
CAUSATION_ID = "x-causation-id"
MORE = frozenset({TRACEPARENT, REPLAY_ID, REPLAY_ATTEMPT, CORRELATION_ID, CAUSATION_ID})
"""Headers beyond id and origin. Most messages carry none, and to look for all at once is quicker than for each."""


class Carried(msgspec.Struct, frozen=True, gc=False):
    """What headers said. `message_id` is empty when the message names none; `origin_at` in epoch microseconds."""

    message_id: str = ""
    origin_at: int | None = None
    replay_id: str = ""
    attempt: int | None = None
    trace_id: str = ""
    span_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""

    @property
    def plain(self) -> bool:
        """Whether there is no more than an id and an origin."""
        more = self.trace_id or self.replay_id or self.correlation_id or self.causation_id
        return not more and self.attempt is None

    def event(self, **seen: Any) -> Event:
        """The event of which headers said this, and `seen` the rest: what the place where it was seen knows of it."""
        return Event(
            message_id=self.message_id,
            origin_at=self.origin_at,
            replay_id=self.replay_id,
            attempt=self.attempt,
            trace_id=self.trace_id,
            span_id=self.span_id,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            **seen,
        )


NOTHING = Carried()
_FREE_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION_AND_VARIANT = 0x7000_8000_0000_0000_0000


def text(value: object) -> str:
    """A header value or key as text. Bytes that are no UTF-8 are shown with backslashes; None is empty."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, _BYTES):
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)


def number(value: object) -> int | None:
    """A header value as a non-negative integer below 2**63, or None when it is none. Never raises."""
    if isinstance(value, bytes) and value.isdigit() and len(value) < 19:  # as we write it ourselves
        return int(value)
    if value is None:
        return None
    if type(value) is int:  # a bool is none
        return value if 0 <= value < 2**63 else None
    # As nearly all are: short, so below 2**63, and plain digits.
    if isinstance(value, bytes | str) and len(value) < 19 and value.isascii() and value.isdigit():
        return int(value)
    digits = text(value).strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        return None
    found = int(digits)
    return found if found < 2**63 else None


def trace_of(traceparent: str) -> tuple[str, str]:
    """Trace and span id of a W3C `traceparent` (version-traceid-spanid-flags), or two empty strings."""
    parts = traceparent.split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return "", ""
    return parts[1], parts[2]


def carried(headers: Headers, identity: str = MESSAGE_ID) -> Carried:
    """Read the headers that matter; `identity` is the header of the application's own id. Of a name given twice the
    last counts. Never raises on values."""
    if not headers:
        return NOTHING
    found = headers if isinstance(headers, dict) else dict(headers)
    get = found.get
    if MORE.isdisjoint(found):
        return Carried(text(get(identity)), number(get(ORIGIN_AT)))
    traceparent = get(TRACEPARENT)
    trace_id, span_id = ("", "") if traceparent is None else trace_of(text(traceparent))
    return Carried(  # most headers are mostly absent: no call for what is not there
        text(get(identity)),
        number(get(ORIGIN_AT)),
        "" if (replay := get(REPLAY_ID)) is None else text(replay),
        None if (attempt := get(REPLAY_ATTEMPT)) is None else number(attempt),
        trace_id,
        span_id,
        "" if (correlation := get(CORRELATION_ID)) is None else text(correlation),
        "" if (causation := get(CAUSATION_ID)) is None else text(causation),
    )


def headers_of(message: Any) -> Any:
    """The headers of a `Message` of confluent-kafka: pairs, or None. Raises `ValueError` when they cannot be shown.

    Where a name is no UTF-8, version 2.16 raises SystemError, or gives a tuple in which the name is missing altogether,
    and whoever touches that ends the process.
    """
    try:
        headers = message.headers()
        broken = bool(headers) and any(len(get_referents(pair)) < 2 for pair in headers)
    except (SystemError, UnicodeDecodeError):  # also where the driver's own error shows a moment after its answer
        headers, broken = None, True
    if broken:
        message.set_headers([])  # nobody else may touch them either
        raise ValueError("its headers cannot be read: a name among them is no UTF-8")
    return headers


def digest_of(value: bytes | None) -> str:
    """xxh3-64 of the payload as 16 hex digits; an absent payload (a tombstone) counts as empty bytes."""
    return xxhash.xxh3_64_hexdigest(value or b"")


def new_message_id(at: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, the rest random. `at` in epoch microseconds."""
    chance = int.from_bytes(os.urandom(10)) & _FREE_BITS
    whole = (((at // 1000) & (2**48 - 1)) << 80 | _VERSION_AND_VARIANT | chance).to_bytes(16)
    return f"{whole[:4].hex()}-{whole[4:10].hex('-', 2)}-{whole[10:].hex()}"
