"""What is asked and answered: the key of a message, and the five things that can be said of it.

`begin` answers `First`, `Unknown`, `Done` or `Busy`; the first two are claims, to be ended by `done` or `release`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

import xxhash

from collectors.idempotency.errors import NoMessageId

NAME_BYTES = 256
"""Of a consumer or a flow, at most."""
ID_BYTES = 1024
"""Of a message id, at most: with both names it fits into one entry of a PostgreSQL index (2,704 bytes)."""
What = Literal["first", "unknown", "done", "busy"]


class Key(NamedTuple):
    """Who must not act twice, and on what."""

    consumer: str
    flow: str
    message_id: str

    def __str__(self) -> str:
        """For people."""
        return f"message {self.message_id!r} of flow {self.flow!r} at {self.consumer!r}"


def key_of(consumer: str, flow: str, message_id: str) -> Key:
    """A key that every store can keep. Raises `NoMessageId` for an id that is empty, longer than `ID_BYTES`, holds a
    zero byte or is no Unicode."""
    if not isinstance(message_id, str):
        raise NoMessageId(f"a message id is a text, not {type(message_id).__name__}")
    if not 0 < _size(message_id) <= ID_BYTES or "\0" in message_id:
        raise NoMessageId(f"message id {message_id[:80]!r}: 1 to {ID_BYTES} bytes of UTF-8, none of them zero")
    return Key(consumer, flow, message_id)


def is_name(name: str) -> bool:
    """Whether a consumer or a flow may be called so."""
    return 0 < _size(name) <= NAME_BYTES and "\0" not in name


def lock_of(key: Key) -> int:
    """A number of 64 bits with sign for this key, as PostgreSQL's advisory locks take it. The table is not in it: one
    may name it with its schema, another one without."""
    found = xxhash.xxh3_64_intdigest("\0".join(("message_once", *key)).encode())
    return found - 2**64 if found >= 2**63 else found


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


class Told(NamedTuple):
    """A store's answer. `token`: of the claim that was given. `left`: µs until the lease of a busy one runs out."""

    what: What
    token: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do this message, until the lease runs out. `token` grows from claim to claim of a message: hand it
    to a system that can refuse older ones. `until` is of this process's monotonic clock, in seconds."""

    key: Key
    token: int
    until: float

    def left(self) -> float:
        """Seconds of the lease; negative once it ran out. Counted from before the store was asked, so never too
        many."""
        return self.until - time.monotonic()


class First(Claim):
    """Nobody did it: do it, then `done`."""

    __slots__ = ()


class Unknown(Claim):
    """Somebody had it and never said how it ended: it was done or it was not. Do it again or skip it, then `done`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Done:
    """It was done: skip it and ack."""

    key: Key


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker is doing it: give it back. `left`: seconds until its lease runs out; 0 where that is not known."""

    key: Key
    left: float


Answer = First | Unknown | Done | Busy


def answer(key: Key, told: Told, until: float) -> Answer:
    """What the store said, for the application. `until`: when a lease that was asked for now ends."""
    if told.what == "first":
        return First(key, told.token, until)
    if told.what == "unknown":
        return Unknown(key, told.token, until)
    return Done(key) if told.what == "done" else Busy(key, told.left / 1e6)
