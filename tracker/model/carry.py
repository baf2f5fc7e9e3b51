"""What travels with a message through brokers, and what a replay reads and sends. Shared by collectors and tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

MESSAGE_ID = "x-message-id"
"""Header of the application's own message id, unless the flow's `identity.header` names another."""
ORIGIN_AT = "x-origin-at"
"""Header of the origin time: epoch microseconds, decimal digits."""
REPLAY_ID = "x-tracker-replay"
"""Header that a replay adds: the replay's id. Its presence tells a replay from an accidental duplicate."""
REPLAY_ATTEMPT = "x-tracker-replay-attempt"
"""Header that a replay adds: how many times this message was sent again, from 1; the loop guard reads it."""
REPLAY_OF = "x-tracker-replay-of"
"""Header that a replay adds: where the copy came from, `hop/partition/offset`."""


CANARY = "x-tracker-canary"
"""Header of a canary: the flow that it belongs to. A consumer that meets one has nothing to do but to ack it."""


class Locator(msgspec.Struct, frozen=True):
    """Where the log of a hop holds a message."""

    message_id: str
    hop: str
    partition: str
    offset: int


class Copy(msgspec.Struct, frozen=True):
    """A message as a source holds it. `digest` is xxh3-64 of `value`, 16 hex digits. `native`: all that its broker
    knows of it, as only a publisher of the same kind understands it; it then sends what `headers` cannot say.
    `message_id`: what the source found to be its id, where that is not in a header."""

    locator: Locator
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    digest: str
    native: Any = None
    message_id: str = ""


class Missing(msgspec.Struct, frozen=True):
    """The source no longer holds the message, and why."""

    locator: Locator
    reason: str


class Sent(msgspec.Struct, frozen=True):
    """What became of one copy handed to a publisher; `error` is empty when the broker confirmed it. `untried`: it was
    certainly not sent, for no fault of its own: there was no connection, or no time left."""

    locator: Locator
    error: str = ""
    untried: bool = False


class Source(Protocol):
    """Fetches copies from where they were kept. Answers in any order, one answer per locator."""

    def fetch(self, locators: Sequence[Locator]) -> Sequence[Copy | Missing]:
        """One answer per locator."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Finder(Protocol):
    """A source that knows by itself what it holds: an archive, a queue of dead letters. A log does not: where it holds
    a message was observed."""

    def find(self, flow: str, message_ids: Sequence[str]) -> Sequence[Locator]:
        """Where each of these messages is held, the newest copy; those that it does not hold are left out. The places
        are its own: `fetch` understands them, nobody else has to."""
        ...


@runtime_checkable
class Settler(Protocol):
    """A source that hands out what it holds, as a queue does: until it is told, nobody else gets these copies."""

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """`sent` were sent again, and confirmed: it need not keep them. `kept` go back to where they were."""
        ...


PUBLISH_S = 30.0
"""Seconds that a publisher may be told to wait for its broker: whoever claimed the copies has them for 45 s only."""


class Publisher(Protocol):
    """Sends copies, headers and key as given, to the hop it was built for."""

    def publish(self, copies: Sequence[Copy]) -> Sequence[Sent]:
        """Returns once the broker answered for each copy, and after `PUBLISH_S` and a few seconds at the latest: what
        it has not come to by then is `untried`, and is never sent afterwards."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Received(msgspec.Struct, frozen=True):
    """A message as a consumer got it. `where`: what tells this hand-over from others, as an `Observer` takes it;
    `position` is what `Receiver.settle` needs."""

    message_id: str
    headers: dict[str, Any]
    value: bytes
    where: dict[str, Any]
    position: Any = None


class Receiver(Protocol):
    """Consumes one topic or queue, as an application does. One thread at a time."""

    def receive(self, wait: float) -> Sequence[Received]:
        """What has come, after at most `wait` seconds."""
        ...

    def settle(self, received: Sequence[Received]) -> None:
        """The broker need not give these again: a commit, an ack."""
        ...

    def close(self) -> None:
        """Let go of the connection; what was not settled comes again, to whoever consumes next."""
        ...
