"""What was agreed for one consumer and one flow, and what follows from an answer: the part that does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from collectors.carried import Headers, carried
from collectors.errors import ConfigInvalid
from collectors.idempotency.answers import Answer, Busy, Done, First, Key, Unknown, is_name, key_of
from collectors.idempotency.errors import NoMessageId
from tracker.model.carry import MESSAGE_ID
from tracker.model.units import duration

Policy = Literal["again", "skip"]
"""What `doing` and `guard` make of `Unknown`: at least once, or at most once."""


class Counts(msgspec.Struct):
    """What was answered so far. `late`: claims that ran out before they were done."""

    first: int = 0
    unknown: int = 0
    done: int = 0
    busy: int = 0
    late: int = 0

    def add(self, said: Answer) -> None:
        """One more."""
        match said:
            case First():
                self.first += 1
            case Unknown():
                self.unknown += 1
            case Done():
                self.done += 1
            case Busy():
                self.busy += 1


@dataclass(frozen=True)
class Terms:
    """`lease` and `keep` in µs. Raises `ConfigInvalid` for terms that cannot be kept."""

    consumer: str
    flow: str
    lease: int
    keep: int
    unknown: Policy
    identity: str = MESSAGE_ID
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        """See the class."""
        for what, name in (("consumer", self.consumer), ("flow", self.flow)):
            if not is_name(name):
                raise ConfigInvalid(f"{what} {name!r}: 1 to 256 bytes of UTF-8 without zero bytes are needed")
        if self.unknown not in get_args(Policy):
            raise ConfigInvalid(f"unknown={self.unknown!r}: write 'again' (at least once) or 'skip' (at most once)")
        if self.lease < 1000:
            raise ConfigInvalid("a lease below 1 ms would run out before it is known")
        if self.keep < 2 * self.lease:
            raise ConfigInvalid("keep must be at least twice the lease, or a worker that died is forgotten")

    def key(self, message_id: str) -> Key:
        """Of a message. Raises `NoMessageId`."""
        return key_of(self.consumer, self.flow, message_id)

    def name(self, headers: Headers, message_id: str) -> str:
        """The id that a message carries, as collectors read it. Raises `NoMessageId` when it carries none."""
        found = message_id or carried(headers, self.identity).message_id
        if not found:
            raise NoMessageId(f"no id: neither a header {self.identity!r} nor a property")
        return found


def terms(
    consumer: str, flow: str, lease: str | float, keep: str | float, unknown: Policy, identity: str = MESSAGE_ID
) -> Terms:
    """Terms of durations as people write them: `30s`, `7d`, or seconds. Raises `ConfigInvalid`."""
    try:
        return Terms(consumer, flow, duration(lease), duration(keep), unknown, identity)
    except ValueError as error:
        raise ConfigInvalid(str(error)) from None
