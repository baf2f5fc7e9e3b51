"""An entry of a stream: its id as a number, its fields, and what they say of the message. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.base import Undecodable
from collectors.carried import CAUSATION_ID, CORRELATION_ID, TRACEPARENT, Carried, carried
from tracker.model.carry import CANARY, MESSAGE_ID, ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID, REPLAY_OF

Id = tuple[int, int]
"""Milliseconds and number within these, as the server compares ids."""
Fields = Mapping[bytes, bytes]

NO_ID: Id = (0, 0)
WEEK_MS = 7 * 86_400_000
OURS = frozenset(
    name.encode()
    for name in (
        MESSAGE_ID, ORIGIN_AT, REPLAY_ID, REPLAY_ATTEMPT, REPLAY_OF, CANARY, TRACEPARENT, CORRELATION_ID, CAUSATION_ID,
    )
)  # fmt: skip
"""Fields beside the message: they are not part of its payload."""
_SEQUENCE_BITS = 20


def id_of(text: bytes | str) -> Id:
    """`b"1700000000000-3"` -> (1700000000000, 3). Raises `ValueError`."""
    high, _, low = (text.decode("ascii") if isinstance(text, bytes) else text).partition("-")
    return int(high), int(low or 0)


def id_text(entry: Id) -> str:
    """As the server writes it."""
    return f"{entry[0]}-{entry[1]}"


def offset_of(entry: Id) -> int | None:
    """The id as one number that grows with it, for whoever keeps offsets: milliseconds times 2**20 plus the number.
    None for ids, given by hand, that do not fit into 63 bits so."""
    fits = entry[0] < 1 << (63 - _SEQUENCE_BITS) and entry[1] < 1 << _SEQUENCE_BITS
    return entry[0] << _SEQUENCE_BITS | entry[1] if fits else None


def at_offset(offset: int) -> Id:
    """The id of which `offset_of` made this."""
    return offset >> _SEQUENCE_BITS, offset & ((1 << _SEQUENCE_BITS) - 1)


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Field, value, field, value ... as a mapping; of a field given twice the last counts."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def packed(fields: Fields | Iterable[tuple[bytes, bytes]]) -> bytes:
    """All fields in their order, as `unpacked` reads them."""
    found = fields.items() if isinstance(fields, Mapping) else fields
    return msgspec.msgpack.encode([part for pair in found for part in pair])


def unpacked(value: bytes) -> dict[bytes, bytes]:
    """Raises `Undecodable` for what is none."""
    try:
        return pairs(msgspec.msgpack.decode(value, type=list[bytes]))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Undecodable(f"no fields of an entry: {error}") from None


def said(fields: Fields, identity: str = MESSAGE_ID) -> Carried:
    """What the fields say, read as headers. Never raises on values."""
    return carried({name.decode("utf-8", "backslashreplace"): value for name, value in fields.items()}, identity)


def payload_of(fields: Fields, field: str, identity: str = MESSAGE_ID) -> bytes:
    """The value of `field`, empty in an entry without it; where none is named all fields but the tracker's own,
    packed."""
    if field:
        return fields.get(field.encode(), b"")
    apart = OURS | {identity.encode()}
    return packed((name, value) for name, value in fields.items() if name not in apart)


def headers_of(fields: Fields, field: str) -> dict[str, bytes]:
    """The fields beside the payload's `field`."""
    found = {name.decode("utf-8", "backslashreplace"): value for name, value in fields.items()}
    found.pop(field, None)
    return found


def fields_of(headers: Mapping[str, bytes], value: bytes, field: str) -> dict[bytes, bytes]:
    """The entry of which `headers_of` and `payload_of` made these. Raises `Undecodable` where no `field` is named, and
    the value is not that of such an entry."""
    beside = {name.encode(): content for name, content in headers.items()}
    return {**beside, field.encode(): value} if field else {**unpacked(value), **beside}


def origin_of(entry: Id, read_at: int) -> int | None:
    """The milliseconds of an id that the server gave, as epoch µs; None where they are not within a week before it was
    read (epoch µs): then somebody made it up."""
    return entry[0] * 1000 if read_at // 1000 - WEEK_MS <= entry[0] <= read_at // 1000 + 1000 else None
